"""The texts of a row and where they stand, so that a changed text can be written back to its own
place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from auditor.data.formats import ROLES, Layout, is_turns, parsed_turns
from auditor.data.json_stream import DECODER
from auditor.data.text_row import Field

Path = tuple[str | int, ...]
Edits = Mapping[Path, str]
"""New texts by the path of the field (`Field.path`)."""

_SPACE = re.compile(r"[ \t\r\n]*")


def fields_of(row: Mapping[str, Any], layout: Layout) -> tuple[Field, ...]:
    """The texts of a row that `formats.to_example` accepts, in the order of its messages."""
    columns, format_name = layout.columns, layout.format
    if format_name == "text":
        return (Field((columns["text"],), "text", _text(row[columns["text"]])),)
    if format_name == "messages":
        return tuple(_turns(row, columns["messages"], "role", "content"))
    if format_name == "sharegpt":
        turns = tuple(_turns(row, columns["conversations"], "from", "value"))
        return turns if turns[0].role == "system" else (*_system(row, columns), *turns)
    if format_name == "alpaca":
        return (*_system(row, columns), *_alpaca(row, columns))
    return tuple(_prompt_completion(row, columns))


def edited(row: Mapping[str, Any], edits: Edits) -> dict[str, Any]:
    """A copy of `row` with new texts; turns that a column holds as JSON text stay JSON text."""
    changed = dict(row)
    for path, text in edits.items():
        changed[str(path[0])] = _placed(changed[str(path[0])], path[1:], text)
    return changed


def splice(text: str, path: Path, new: str) -> str:
    """JSON `text` with the string at `path` replaced, every other character untouched.

    Where the path goes on inside a string, that string is JSON text itself. Only strings are
    replaced.
    """
    start, end, inner_path = _locate(text, path)
    inner = splice(json.loads(text[start:end]), inner_path, new) if inner_path else new
    # A file that is ASCII throughout stays so: some readers of such files know nothing else.
    return text[:start] + json.dumps(inner, ensure_ascii=text.isascii()) + text[end:]


def _placed(value: Any, path: Path, text: str) -> Any:
    if not path:
        return text
    if isinstance(value, str):
        return splice(value, path, text)
    key: Any = path[0]
    copied = dict(value) if isinstance(value, Mapping) else list(value)
    copied[key] = _placed(value[key], path[1:], text)
    return copied


def _locate(text: str, path: Path, at: int = 0) -> tuple[int, int, Path]:
    """Where the value at `path` stands, and what is left of the path when a string comes first."""
    at = _skip(text, at)
    if not path or text[at] == '"':
        return at, DECODER.raw_decode(text, at)[1], path
    # Of a key that stands twice the last one counts, as for every JSON reader.
    start = [start for key, start in _members(text, at) if key == path[0]][-1]
    return _locate(text, path[1:], start)


def _members(text: str, at: int) -> Iterator[tuple[str | int, int]]:
    """Key or position, and start, of each member of the object or array that begins at `at`."""
    named = text[at] == "{"
    at, number = _skip(text, at + 1), 0
    while text[at] not in "}]":
        key: str | int = number
        if named:
            key, at = DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # past the colon
        yield key, at
        at = _skip(text, DECODER.raw_decode(text, at)[1])
        if text[at] == ",":
            at = _skip(text, at + 1)
        number += 1


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _turns(row: Mapping[str, Any], column: str, role_key: str, content_key: str) -> Iterator[Field]:
    for number, turn in enumerate(parsed_turns(row[column])):
        role = ROLES[_text(turn[role_key]).lower()]
        content, path = turn[content_key], (column, number, content_key)
        if not is_turns(content):
            yield Field(path, role, _text(content))
        elif len(content) == 1:
            yield Field((*path, 0, "text"), role, _text(content[0]["text"]))
        else:
            yield Field((), role, "".join(_text(piece["text"]) for piece in content))


def _system(row: Mapping[str, Any], columns: Mapping[str, str]) -> Iterator[Field]:
    column = columns.get("system", "")
    if row.get(column):
        yield Field((column,), "system", _text(row[column]))


def _alpaca(row: Mapping[str, Any], columns: Mapping[str, str]) -> Iterator[Field]:
    history = columns.get("history", "")
    for number, pair in enumerate(parsed_turns(row.get(history)) or ()):
        yield Field((history, number, 0), "user", _text(pair[0]))
        yield Field((history, number, 1), "assistant", _text(pair[1]))
    yield Field((columns["instruction"],), "user", _text(row[columns["instruction"]]))
    extra = row.get(columns.get("input", ""))
    if extra is not None and _text(extra).strip():
        yield Field((columns["input"],), "context", _text(extra))
    yield Field((columns["output"],), "assistant", _text(row[columns["output"]]))


def _prompt_completion(row: Mapping[str, Any], columns: Mapping[str, str]) -> Iterator[Field]:
    answer = tuple(_spoken(row, columns["completion"], "assistant"))
    if not (
        answer and answer[0].role in ("system", "user")
    ):  # else the completion repeats the prompt
        yield from _system(row, columns)
        yield from _spoken(row, columns["prompt"], "user")
    yield from answer


def _spoken(row: Mapping[str, Any], column: str, role: str) -> Sequence[Field]:
    if is_turns(row[column]):
        return tuple(_turns(row, column, "role", "content"))
    return (Field((column,), role, _text(row[column])),)
