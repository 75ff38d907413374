"""Where the assistant's turns stand in a rendered chat that has reasoning or tool calls.

A template writes them in forms of its own, and may drop them. So the chat is rendered once more
with marks for its texts, and compared with the same chat without reasoning and calls: what both
write before and after a turn is the template's, and all between them is the assistant's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile, zip_longest
from typing import NamedTuple

from auditor.data.example import Message
from auditor.model.chat_template import SENTINEL

MARK = re.compile(SENTINEL.format(r"(\d+)"))


class Place(NamedTuple):
    """Where a text stands among the marks, where it is written, and how many of its first
    characters are left out there.
    """

    mark: tuple[int, int]
    written: tuple[int, int]
    left_out: int


def marked(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The chat with marks for its texts: of turn i, 2 i the content and 2 i + 1 the reasoning."""
    turns = []
    for i, turn in enumerate(messages):
        # Templates ask whether such a turn has content at all.
        has_content = not turn.more or turn.content.strip()
        content = SENTINEL.format(2 * i) if has_content else turn.content
        reasoning = SENTINEL.format(2 * i + 1) if turn.reasoning else ""
        turns.append(replace(turn, content=content, reasoning=reasoning))
    return tuple(turns)


def assistant_turns(
    text: str, marks: str, plain: str, messages: Sequence[Message]
) -> tuple[list[tuple[int, int, int]], tuple[str, ...]] | None:
    """For each turn of the assistant (start, end, characters of the content left out before it) in
    `text`, and the keys with texts that the template does not write.

    text: the rendered chat. marks: the same of `marked(messages)`. plain: the chat with the marks
    0, 1, ... for its contents, and without reasoning and calls. Of a turn with these, all that the
    template writes of it is the assistant's, and nothing is left out. None where a text is changed,
    or turns stand in another order.
    """
    places = _places(text, marks, messages)
    around = MARK.split(plain)[::2]
    if places is None or len(around) != len(messages) + 1:
        return None
    order = [number // 2 for number in sorted(places, key=lambda number: places[number].mark)]
    needed = {2 * i for i, turn in enumerate(messages) if not turn.more or turn.content.strip()}
    if order != sorted(order) or not needed <= places.keys():
        return None
    begin, end = (Place((m, m), (t, t), 0) for m, t in ((0, 0), (len(marks), len(text))))
    turns, unwritten = [], list[str]()
    for i, turn in enumerate(messages):
        if not turn.is_trained:
            continue
        if not turn.more:
            place = places[2 * i]
            turns.append((*place.written, place.left_out))
            continue
        neighbours = [n for n in (i - 1, i + 1) if 0 <= n < len(messages)]
        if any(messages[n].more for n in neighbours):
            return None  # nothing tells where the one ends and the other begins
        before, after = places.get(2 * (i - 1), begin), places.get(2 * (i + 1), end)
        between = marks[before.mark[1] : after.mark[0]]
        head = _shared(between, around[i])
        tail = _shared(between[head:][::-1], around[i + 1][::-1])
        body = between[head : len(between) - tail]
        # What stands around the turn is the same with and without marks.
        turns.append((before.written[1] + head, after.written[0] - tail, 0))
        if turn.reasoning and 2 * i + 1 not in places:
            unwritten.append(turn.reasoning_key)
        if turn.tool_calls and not all(
            any(form in body for form in _forms(leaf))
            for call in json.loads(turn.tool_calls)
            for leaf in _leaves(call["function"])
        ):
            unwritten.append("tool_calls")
    return turns, tuple(dict.fromkeys(unwritten))


def _places(text: str, marks: str, messages: Sequence[Message]) -> dict[int, Place] | None:
    """Where the marked texts are written; None where a text or what stands between is changed."""
    first, *pieces = MARK.split(marks)
    if not text.startswith(first):
        return None
    places: dict[int, Place] = {}
    mark = at = len(first)
    for number, piece in zip_longest(map(int, pieces[::2]), pieces[1::2]):
        turn = messages[number // 2] if number // 2 < len(messages) else None
        whole = (turn.reasoning if number % 2 else turn.content) if turn else ""
        forms = (whole, whole.strip(), whole.lstrip(), whole.rstrip())
        written = next((form for form in forms if text.startswith(form + piece, at)), None)
        if written is None or number in places:
            return None
        width = len(SENTINEL.format(number))
        places[number] = Place((mark, mark + width), (at, at + len(written)), whole.index(written))
        mark += width + len(piece)
        at += len(written) + len(piece)
    return places if at == len(text) else None


def _shared(one: str, other: str) -> int:
    """With how many characters both begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _leaves(value: object) -> Iterator[object]:
    """The name of a function, and the names and values of its arguments."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if item is not None and key not in ("name", "arguments"):
                yield key
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield value


def _forms(value: object) -> set[str]:
    """How templates may write a text or a number."""
    if not isinstance(value, str):
        return {str(value), json.dumps(value)}
    escaped = (json.dumps(value, ensure_ascii=ascii)[1:-1] for ascii in (True, False))
    return {value, value.strip(), repr(value)[1:-1], *escaped}
