"""The formats of a row: which columns it has, what roles its turns name, and how turns stand in a
column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeGuard

from auditor.data.json_stream import DECODER

_NAMES_OF_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "ai", "gpt", "model", "bot", "function_call"),
    "tool": ("tool", "function", "observation", "ipython", "tool_response"),
}
ROLES = {name: role for role, names in _NAMES_OF_ROLES.items() for name in names}
"""The role of a turn, by what data sets call it."""

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Names, of keys of a turn or of columns, of what an assistant thinks before it answers."""

LOSS_KEYS = ("weight", "train", "training")
"""Keys of a turn that say whether it is trained on: OpenAI's, and those of Axolotl."""

PARTS_KEY = "train_detail"
"""Axolotl's key of a turn that says which parts of its content are trained on."""

PROMPTS = ("prompt", "question", "instruction", "input", "query")
COMPLETIONS = ("completion", "response", "answer", "output", "chosen")
"""Names of columns. The chosen answer of a preference pair is what a student would be trained on.
"""

ANSWERED = ("name", "tool_call_id")
"""Keys of a tool's turn that say which call it answers."""

PAIR = ("chosen", "rejected")
"""The columns of a preference pair."""

Side = Literal["chosen", "rejected", "both"]
"""Which answers of a preference set are read."""

FORMATS = ("messages", "prompt_completion", "alpaca", "sharegpt", "text")


@dataclass(frozen=True)
class Layout:
    """How rows are laid out.

    format: see `DatasetInfo.format`. columns: role -> column name, e.g. {"prompt": "q"}; the role
    "weight" is that of a key of a turn.
    """

    format: str
    columns: dict[str, str]

    @property
    def places(self) -> list[str]:
        """The columns that the texts of a row stand in, and of a pair those of its other answer,
        which may repeat the prompt.
        """
        names = self.columns.values()
        return [*names, *(name for name in PAIR if not {*PAIR}.isdisjoint(names))]


def side_of(columns: Mapping[str, str]) -> Side:
    """The side that columns of a layout stand for."""
    if columns.keys() & {"rejected", "label"}:
        return "both"
    is_rejected = "undesirable" in columns or "rejected" in columns.values()
    return "rejected" if is_rejected else "chosen"


def parsed_turns(value: object) -> object:
    """A column of turns as a list: CSV holds it as JSON text. Anything else comes back as it is.

    Raises AmbiguousError for a key that stands twice.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            turns: object = DECODER.decode(value)
            return turns
    return value


def tools_of(value: object) -> list[Mapping[str, object]]:
    """The tools that a column says a row may call, each an object; none where it holds anything
    else. Raises AmbiguousError as `parsed_turns`.
    """
    tools = parsed_turns(value)
    if not is_turns(tools) or not all(isinstance(tool, Mapping) for tool in tools):
        return []
    # Arrow fills in the keys that only other tools have.
    return [present for tool in tools if isinstance(present := without_null(tool), Mapping)]


def without_null(value: object) -> object:
    """The value without the keys whose value is null, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    return [without_null(item) for item in value] if is_turns(value) else value


def untrained_by(turn: Mapping[str, object], named: str | None) -> str:
    """The key that takes a turn out of training, by 0 or false; "" where none does. named: the one
    that counts, None for any of LOSS_KEYS.
    """
    for key in LOSS_KEYS if named is None else (named,):
        value = turn.get(key)
        if isinstance(value, (bool, int, float)) and value == 0:
            return key
    return ""


def is_turns(value: object) -> TypeGuard[Sequence[object]]:
    """Tell whether `value` is a list of messages, as against text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
