"""From a row of a data set to an Example, or to a SkippedRow with the reason.

The functions are pure; the layout says which column is what.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.data.batches import Row
from auditor.data.example import Example, Message, SkippedRow

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
    "tool_response": "tool",
}


@dataclass(frozen=True)
class Layout:
    """How rows are laid out.

    format: see `DatasetInfo.format`. columns: role -> column name, e.g. {"prompt": "q"}.
    """

    format: str
    columns: dict[str, str]


class _UnscorableError(Exception):
    """Carries the reason a row is skipped for out of the nested values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def to_example(index: int, row: Row, layout: Layout) -> Example | SkippedRow:
    """Return row number `index` as an Example, or why it cannot be scored.

    Reasons: "null" (a value, or a part of one, is null or missing), "wrong_type" (a value of
    another type than text or messages, or an unknown role), "broken_utf8" (bytes or surrogates that
    are not UTF-8), "no_assistant_turn", "empty_completion" (nothing but white space), and what the
    reader found: "not_json", "broken_utf8", "wrong_type". Text is kept as it is, control characters
    included. An empty prompt is kept too: a trainer would keep it.
    """
    if isinstance(row, str):
        return SkippedRow(index, row)
    values = {role: row.get(column) for role, column in layout.columns.items()}
    try:
        if layout.format == "text":
            example = Example(index, text=_text(values["text"]))
        else:
            example = Example(index, messages=tuple(_READERS[layout.format](values)))
            if not any(message.role == "assistant" for message in example.messages):
                return SkippedRow(index, "no_assistant_turn")
    except _UnscorableError as error:
        return SkippedRow(index, error.reason)
    if not example.completion.strip():
        return SkippedRow(index, "empty_completion")
    return example


def parsed_turns(value: Any) -> Any:
    """Return a column of turns as a list: CSV holds it as JSON text.

    Anything else comes back unchanged.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def is_turns(value: Any) -> bool:
    """Tell whether `value` is a list of messages, as against text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _text(value: Any) -> str:
    if value is None:
        raise _UnscorableError("null")
    if not isinstance(value, (str, bytes)):
        raise _UnscorableError("wrong_type")
    try:
        if isinstance(value, bytes):
            return value.decode("utf-8")
        # This fails on a lone surrogate: broken bytes of a text file, or half a pair escaped in JSON.
        value.encode("utf-8")
    except UnicodeError as error:
        raise _UnscorableError("broken_utf8") from error
    return value


def _turns(value: Any, role_key: str = "role", content_key: str = "content") -> list[Message]:
    if value is None:
        raise _UnscorableError("null")
    if not is_turns(value):
        raise _UnscorableError("wrong_type")
    messages = []
    for turn in value:
        if turn is None:
            raise _UnscorableError("null")
        if not isinstance(turn, Mapping) or role_key not in turn:
            raise _UnscorableError("wrong_type")
        role = ROLES.get(_text(turn[role_key]).lower())
        if role is None:
            raise _UnscorableError("wrong_type")
        content: Any = turn.get(content_key)
        if is_turns(content):  # a list of {"type": "text", "text": ...}, to be joined
            if not all(isinstance(p, Mapping) and p.get("type", "text") == "text" for p in content):
                raise _UnscorableError("wrong_type")
            messages.append(Message(role, "".join(_text(piece.get("text")) for piece in content)))
        else:
            messages.append(Message(role, _text(content)))
    return messages


def _optional(values: Mapping[str, Any], role: str) -> str:
    value = values.get(role)
    return "" if value is None else _text(value)


def _system(values: Mapping[str, Any]) -> list[Message]:
    text = _optional(values, "system")
    return [Message("system", text)] if text else []


def _messages(values: Mapping[str, Any]) -> list[Message]:
    return _turns(parsed_turns(values["messages"]))


def _sharegpt(values: Mapping[str, Any]) -> list[Message]:
    turns = _turns(parsed_turns(values["conversations"]), "from", "value")
    return turns if turns and turns[0].role == "system" else _system(values) + turns


def _alpaca(values: Mapping[str, Any]) -> list[Message]:
    extra = _optional(values, "input")
    instruction = _text(values["instruction"])
    prompt = f"{instruction}\n\n{extra}" if extra.strip() else instruction
    answer = Message("assistant", _text(values["output"]))
    messages = _system(values)
    for pair in parsed_turns(values.get("history")) or ():
        if not is_turns(pair) or len(pair) != 2:
            raise _UnscorableError("wrong_type")
        messages += [Message("user", _text(pair[0])), Message("assistant", _text(pair[1]))]
    return [*messages, Message("user", prompt), answer]


def _prompt_completion(values: Mapping[str, Any]) -> list[Message]:
    prompt, completion = values["prompt"], values["completion"]
    answer = (
        _turns(completion) if is_turns(completion) else [Message("assistant", _text(completion))]
    )
    # Preference sets often repeat the prompt at the head of the chosen conversation.
    if answer and answer[0].role in ("system", "user"):
        return answer
    question = _turns(prompt) if is_turns(prompt) else [Message("user", _text(prompt))]
    return [*_system(values), *question, *answer]


_READERS: dict[str, Callable[[Mapping[str, Any]], list[Message]]] = {
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
}
FORMATS = (*_READERS, "text")
