"""What stands beside the texts that are read of a row: other columns with text, a second complete
layout, other keys of a turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from auditor.data.batches import Row
from auditor.data.coverage import Unread, UnreadKind
from auditor.data.formats import (
    ANSWERED,
    COMPLETIONS,
    LOSS_KEYS,
    PAIR,
    PARTS_KEY,
    PROMPTS,
    REASONING,
    ROLES,
    Layout,
    Side,
    is_turns,
    parsed_turns,
    tools_of,
    untrained_by,
)
from auditor.data.sides import is_other_side

_KEYS = {"messages": {"role", "content"}, "sharegpt": {"from", "value"}}
_LABELS = "rows of the other label"
_LOSS = (
    "what it takes out of training is context only, and not every trainer heeds it; yours does: "
    "--columns weight={}"
)
_LOSS_KEYS = {*LOSS_KEYS, PARTS_KEY}
_DEPTH = 6
_NAMES = 30

Name = tuple[UnreadKind, str]


def unread_of(
    groups: Iterable[Iterable[Row]], layout: Layout, *, settled: bool, side: Side | None = None
) -> list[Unread]:
    """What of these rows is text and no part of `layout`, with the share of rows that have it.

    groups: several selections of rows; the larger of their shares counts. settled: whether the user
    named the format or the columns, so that a second layout is a column like others. side: of a
    preference set, if the user named it.
    """
    shares: dict[Name, float] = {}
    for rows in groups:
        counts: Counter[Name] = Counter()
        total = 0
        for row in rows:
            if isinstance(row, str):
                continue
            total += 1
            counts.update({*_beside(row, layout), *_tools_of_no_form(row, layout)})
            counts["rows", _LABELS] += side is None and is_other_side(row, layout) is True
        for name, count in (+counts).items():
            shares[name] = max(shares.get(name, 0.0), count / total)
    columns = {name for kind, name in shares if kind == "column"}
    used = set(layout.columns.values())
    # The other half of a preference pair: nothing is trained on it alone.
    answers = [name for name in COMPLETIONS if name in columns - _other_half(layout)]
    if answers and any(name in columns | used for name in PROMPTS):
        for answer in answers:
            shares["layout", answer] = shares["column", answer]
    if "text" in columns:
        shares["layout", "text"] = shares["column", "text"]
    read = ", ".join(layout.columns.values())
    reasons: dict[UnreadKind, str] = {
        "rows": "they are read with --side rejected or both; with --side chosen they need not be",
        "layout": f"only {layout.format} ({read}) is read",
        "column": "its text is not read",
        "turn key": "of a turn its role, content, reasoning and tool calls are read",
    }
    unread = []
    for kind in reasons:
        names = sorted(
            name
            for other, name in shares
            if other == kind
            and (kind != "layout" or not settled)
            and (kind != "column" or settled or ("layout", name) not in shares)
        )
        unread += [
            Unread(kind, n, shares[kind, n], _LOSS.format(n) if n in _LOSS_KEYS else reasons[kind])
            for n in names[:_NAMES]
        ]
        if len(names) > _NAMES:
            share = max(shares[kind, name] for name in names[_NAMES:])
            unread.append(Unread(kind, f"{len(names) - _NAMES:,} more", share, reasons[kind]))
    return unread


def _beside(row: Mapping[str, object], layout: Layout) -> Iterator[Name]:
    used = layout.columns.values()
    for column in row.keys() - used:
        if _has_text(row[column]):
            yield "column", column
            if column not in _other_half(layout) and _has_answer(row[column]):
                yield "layout", column
    keys = _KEYS.get(layout.format, _KEYS["messages"])
    for column in {*used} - {layout.columns.get("tools")}:
        value = row.get(column)
        turns = parsed_turns(value) if layout.format in _KEYS else value
        for turn in turns if is_turns(turns) else ():
            if isinstance(turn, Mapping) and len(turn) > 1:
                if "weight" not in layout.columns and _is_assistant(turn):
                    parts = PARTS_KEY if turn.get(PARTS_KEY) else ""
                    keys_of_loss = {untrained_by(turn, None), parts} - {""}
                    yield from (("turn key", key) for key in keys_of_loss)
                for key in turn.keys() - keys - _more_keys(turn):
                    if _has_text(turn[key]):
                        yield "turn key", str(key)


def _tools_of_no_form(row: Mapping[str, object], layout: Layout) -> Iterator[Name]:
    """The column of tools, where it holds text that is no list of them."""
    column = layout.columns.get("tools")
    if column is not None and _has_text(row.get(column)) and not tools_of(row[column]):
        yield "column", column


def _more_keys(turn: Mapping[str, object]) -> set[str]:
    """The keys that `fields.turn_of` reads: of several with reasoning the first, and those that say
    the same.
    """
    if not _is_assistant(turn):
        role = ROLES.get(str(turn.get("role", turn.get("from"))).lower())
        return {*ANSWERED} if role == "tool" else set()
    texts = {key: text for key in REASONING if isinstance(text := turn.get(key), (str, bytes))}
    read = next((text for text in texts.values() if text.strip()), "")
    calls = {"tool_calls"} if turn.get("tool_calls") else {"tool_calls", "function_call"}
    return {*calls, *(key for key, text in texts.items() if text == read)}


def _is_assistant(turn: Mapping[str, object]) -> bool:
    return ROLES.get(str(turn.get("role", turn.get("from"))).lower()) == "assistant"


def _has_text(value: object, depth: int = _DEPTH) -> bool:
    if isinstance(value, (str, bytes)):
        return bool(value.strip())
    if depth == 0:
        # What holds values this deep is taken for text, and not searched on.
        return isinstance(value, Mapping) or is_turns(value)
    if isinstance(value, Mapping):
        return any(_has_text(item, depth - 1) for item in value.values())
    return is_turns(value) and any(_has_text(item, depth - 1) for item in value)


def _other_half(layout: Layout) -> set[str]:
    read = {*PAIR} & {*layout.columns.values()}
    return {*PAIR} - read if read else {"rejected"}


def _has_answer(value: object) -> bool:
    """Tell whether `value` is a conversation with a turn of the assistant."""
    turns = parsed_turns(value)
    return is_turns(turns) and any(
        isinstance(turn, Mapping) and _is_assistant(turn) for turn in turns
    )
