"""The texts of a row and where they stand: what is scored of a row, why a row cannot be, and how a
changed text is written back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from auditor.data.batches import Row
from auditor.data.example import Example, Message, SkippedRow
from auditor.data.formats import (
    ANSWERED,
    PAIR,
    PARTS_KEY,
    REASONING,
    ROLES,
    Layout,
    is_turns,
    parsed_turns,
    tools_of,
    untrained_by,
)
from auditor.data.json_stream import DECODER
from auditor.data.sides import is_other_side
from auditor.data.text_row import Field, TextRow

Path = tuple[str | int, ...]
Edits = Mapping[Path, str]
"""New texts by the path of the field (`Field.path`)."""

# How the interfaces of chat models name a piece of text.
_TEXT_PIECES = ("text", "input_text", "output_text")
_SPACE = re.compile(r"[ \t\r\n]*")


class _UnscorableError(Exception):
    """Carries the reason a row is skipped for out of the nested values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def to_example(index: int, row: Row, layout: Layout) -> Example | SkippedRow:
    """Return row number `index` as an Example, or why it cannot be scored.

    Reasons: "null" (a value, or a piece of one, is null or missing), "wrong_type" (a value of
    another type than text or messages, or an unknown role), "broken_utf8" (bytes or surrogates that
    are not UTF-8), "bad_tool_calls" (no list of calls with the name of a function), "bad_tools",
    "no_assistant_turn", "not_trained_on" (a key takes every one out),
    "other_side" (of a preference set), "empty_completion" (nothing
    but white space), and what the reader found: "not_json", "broken_utf8", "wrong_type". Text is
    kept as it is, control characters included. An empty prompt is kept too: a trainer would keep
    it.
    """
    if isinstance(row, str):
        return SkippedRow(index, row)
    match is_other_side(row, layout):
        case None:
            return SkippedRow(index, "null")
        case True:
            return SkippedRow(index, "other_side")
    try:
        text_row = TextRow(index, fields_of(row, layout))
    except _UnscorableError as error:
        return SkippedRow(index, error.reason)
    if not text_row.completions:
        is_left_out = any(field.role == "untrained" for field in text_row.fields)
        return SkippedRow(index, "not_trained_on" if is_left_out else "no_assistant_turn")
    example = text_row.example
    return example if example.completion.strip() else SkippedRow(index, "empty_completion")


def fields_of(row: Mapping[str, object], layout: Layout) -> tuple[Field, ...]:
    """The texts of a row that `to_example` accepts, in the order of its messages."""
    fields = (*_fields(row, layout), *_tools(row, layout.columns))
    if {*PAIR}.isdisjoint(layout.columns.values()):
        return fields
    return tuple(replace(field, twins=_twins(field, row, layout)) for field in fields)


def _tools(row: Mapping[str, object], columns: Mapping[str, str]) -> Iterator[Field]:
    """The tools that a row may call, if its column holds any; they are never changed."""
    if "tools" in columns and (tools := tools_of(row.get(columns["tools"]))):
        yield Field((), "tools", _json(tools, "bad_tools"))


def _twins(field: Field, row: Mapping[str, object], layout: Layout) -> tuple[Path, ...]:
    """Where the same prompt stands in the other columns of a pair."""
    twins: list[Path] = []
    if field.role not in ("system", "user") or not field.path:
        return ()
    for name in (*PAIR, layout.columns.get("prompt", "")):
        if name == field.path[0] or row.get(name) is None:
            continue
        with suppress(_UnscorableError):
            places = _text_or_turns({name: parsed_turns(row[name])}, {name: name}, name, "user")
            twins += [
                twin.path
                for twin in places
                if twin.path and (twin.role, twin.text) == (field.role, field.text)
            ]
    return tuple(twins)


def _fields(row: Mapping[str, object], layout: Layout) -> tuple[Field, ...]:
    columns = layout.columns
    if layout.format == "text":
        return (_field(row, columns["text"], "text"),)
    if layout.format == "messages":
        return tuple(_turns(row, columns, "messages", "role", "content"))
    if layout.format == "sharegpt":
        turns = _turns(row, columns, "conversations", "from", "value")
        # A system turn in the conversation counts, and not the column beside it.
        has_system = bool(turns) and turns[0].role == "system"
        return tuple(turns if has_system else [*_optional(row, columns, "system"), *turns])
    if layout.format == "alpaca":
        return tuple(_alpaca(row, columns))
    answer = _text_or_turns(row, columns, "completion", "assistant")
    if answer:
        answer[-1] = _with_reasoning(answer[-1], row, columns)
    # Preference sets often repeat the prompt at the head of the chosen conversation.
    if answer and answer[0].role in ("system", "user"):
        return tuple(answer)
    question = _text_or_turns(row, columns, "prompt", "user")
    return (*_optional(row, columns, "system"), *question, *answer)


def edited(row: Mapping[str, object], edits: Edits) -> dict[str, object]:
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


def _placed(value: object, path: Path, text: str) -> object:
    """A copy of `value` with `text` at `path`."""
    if not path:
        return text
    if isinstance(value, str):
        return splice(value, path, text)
    key, inner_path = path[0], path[1:]
    if isinstance(value, Mapping):
        return {**value, key: _placed(value[key], inner_path, text)}
    assert is_turns(value) and isinstance(key, int)  # paths come from `fields_of`
    return [_placed(item, inner_path, text) if i == key else item for i, item in enumerate(value)]


def _locate(text: str, path: Path, at: int = 0) -> tuple[int, int, Path]:
    """Start and end of the value at `path`, and the path within it when a string comes first."""
    at = _skip(text, at)
    if not path or text[at] == '"':
        return at, DECODER.raw_decode(text, at)[1], path
    # Of a key that stands twice the last one counts, as for every JSON reader.
    start = [start for key, start in _members(text, at) if key == path[0]][-1]
    return _locate(text, path[1:], start)


def _members(text: str, at: int) -> Iterator[tuple[str | int, int]]:
    """Key or position, and start, of each member of the object or array that begins at `at`."""
    is_object = text[at] == "{"
    at, number = _skip(text, at + 1), 0
    while text[at] not in "}]":
        key: str | int = number
        if is_object:
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


def _text(value: object) -> str:
    if value is None:
        raise _UnscorableError("null")
    if not isinstance(value, (str, bytes)):
        raise _UnscorableError("wrong_type")
    try:
        if isinstance(value, bytes):
            return value.decode("utf-8")
        # This fails on a lone surrogate: broken bytes of a file, or half a pair escaped in JSON.
        value.encode("utf-8")
    except UnicodeError as error:
        raise _UnscorableError("broken_utf8") from error
    return value


def _turns(
    row: Mapping[str, object],
    columns: Mapping[str, str],
    name: str,
    role_key: str,
    content_key: str,
) -> list[Field]:
    column = columns[name]
    turns = parsed_turns(row.get(column))
    if turns is None:
        raise _UnscorableError("null")
    if not is_turns(turns):
        raise _UnscorableError("wrong_type")
    fields = []
    for number, turn in enumerate(turns):
        if turn is None:
            raise _UnscorableError("null")
        if not isinstance(turn, Mapping) or role_key not in turn:
            raise _UnscorableError("wrong_type")
        role = ROLES.get(_text(turn[role_key]).lower())
        if role is None:
            raise _UnscorableError("wrong_type")
        path, content = _content((column, number, content_key), turn.get(content_key))
        if role != "assistant":
            answered = {key: turn[key] for key in ANSWERED if isinstance(turn.get(key), str)}
            is_answer = role == "tool" and answered
            extra = Message(role, "", answered=_json(answered, "wrong_type")) if is_answer else None
            fields.append(Field(path, role, _text(content), extra))
            continue
        more = _assistant_turn(turn, columns.get("weight"))
        # A turn that only calls tools has no content in the interfaces of chat models.
        text = "" if content is None and more.more else _text(content)
        is_plain = more == Message(role, "")
        role = "untrained" if more.untrained_by else role
        fields.append(Field(path, role, text, None if is_plain else replace(more, content=text)))
    return fields


def _content(path: Path, content: object) -> tuple[Path, object]:
    """The content of a turn, whose pieces are joined, and its path."""
    if not is_turns(content):
        return path, content
    # Pieces are {"type": "text", "text": ...}.
    pieces = [piece for piece in content if isinstance(piece, Mapping)]
    kinds = [piece.get("type", "text") for piece in pieces]
    if len(pieces) < len(content) or any(kind not in _TEXT_PIECES for kind in kinds):
        raise _UnscorableError("wrong_type")
    # Text that is joined from several pieces cannot be written back, so it has no path.
    path = (*path, 0, "text") if len(pieces) == 1 else ()
    return path, "".join(_text(piece.get("text")) for piece in pieces)


def _assistant_turn(turn: Mapping[str, object], loss_key: str | None) -> Message:
    """An assistant's turn without its content."""
    key, reasoning = next(
        (
            (key, _text(value))
            for key in REASONING
            if isinstance(value := turn.get(key), (str, bytes)) and value.strip()
        ),
        ("", ""),
    )
    called = turn.get("function_call")  # OpenAI's before there were several
    alone = [{"type": "function", "function": called}] if called else None
    calls = _tool_calls(turn.get("tool_calls") or alone)
    parts = _trained_parts(turn.get(PARTS_KEY)) if loss_key in (None, PARTS_KEY) else None
    return Message("assistant", "", reasoning, key, calls, untrained_by(turn, loss_key), parts)


def _trained_parts(value: object) -> tuple[tuple[int, int], ...] | None:
    """The parts of a content that Axolotl trains on, as [start, end); None for all of it."""
    parts = parsed_turns(value)
    if not parts:
        return None
    trained = []
    for part in parts if is_turns(parts) else [parts]:
        if not isinstance(part, Mapping):
            raise _UnscorableError("wrong_type")
        # Both ends belong to the part.
        first, last = part.get("begin_offset"), part.get("end_offset")
        if not isinstance(first, int) or not isinstance(last, int):
            raise _UnscorableError("wrong_type")
        if part.get("train"):
            trained.append((first, last + 1))
    return tuple(trained)


def _tool_calls(value: object) -> str:
    """The calls of a turn as JSON, in the form that chat templates take: arguments that are the
    text of an object become the object.
    """
    calls = parsed_turns(value)
    if not calls:
        return ""
    taken = []
    for call in calls if is_turns(calls) else [calls]:
        if (
            not isinstance(call, Mapping)
            or not isinstance(function := call.get("function"), Mapping)
            or not isinstance(function.get("name"), str)
        ):
            raise _UnscorableError("bad_tool_calls")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            with suppress(ValueError, RecursionError):
                parsed = DECODER.decode(arguments)
                arguments = parsed if isinstance(parsed, dict) else arguments
        # Arrow fills in the keys that only other calls have.
        present = {key: item for key, item in call.items() if item is not None}
        taken.append({**present, "function": {**function, "arguments": arguments or {}}})
    return _json(taken, "bad_tool_calls")


def _json(value: object, reason: str) -> str:
    """The value as JSON; `reason` is why a row is skipped in which it cannot be."""
    try:
        return _text(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise _UnscorableError(reason) from error


def _text_or_turns(
    row: Mapping[str, object], columns: Mapping[str, str], name: str, role: str
) -> list[Field]:
    if is_turns(row.get(columns[name])):
        return _turns(row, columns, name, "role", "content")
    return [_field(row, columns[name], role)]


def _field(row: Mapping[str, object], column: str, role: str) -> Field:
    return Field((column,), role, _text(row.get(column)))


def _with_reasoning(field: Field, row: Mapping[str, object], columns: Mapping[str, str]) -> Field:
    """The answer with the reasoning that stands in a column beside it."""
    found = _optional(row, columns, "reasoning")
    if not found or not found[0].text.strip() or field.role != "assistant" or field.turn:
        return field
    turn = Message("assistant", field.text, found[0].text, columns["reasoning"])
    return replace(field, turn=turn)


def _optional(
    row: Mapping[str, object], columns: Mapping[str, str], name: str, role: str = "system"
) -> list[Field]:
    """The text of a column that the layout or the row may lack; none without it or if empty."""
    if name not in columns or row.get(columns[name]) is None:
        return []
    field = _field(row, columns[name], role)
    return [field] if field.text else []


def _alpaca(row: Mapping[str, object], columns: Mapping[str, str]) -> list[Field]:
    # The order of these lines decides which reason is given for a row that has several.
    context = _optional(row, columns, "input", "context")
    instruction = _field(row, columns["instruction"], "user")
    output = _with_reasoning(_field(row, columns["output"], "assistant"), row, columns)
    fields = _optional(row, columns, "system")
    if "history" in columns:
        column = columns["history"]
        pairs = parsed_turns(row.get(column)) or ()
        if not is_turns(pairs):
            raise _UnscorableError("wrong_type")
        for number, pair in enumerate(pairs):
            if not is_turns(pair) or len(pair) != 2:
                raise _UnscorableError("wrong_type")
            for position, role in enumerate(("user", "assistant")):
                fields.append(Field((column, number, position), role, _text(pair[position])))
    # An input of white space alone is none: trainers leave its paragraph out.
    return [*fields, instruction, *(field for field in context if field.text.strip()), output]
