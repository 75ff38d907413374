"""The formats of a row: which columns it has, what roles its turns name, and how turns stand in a
column.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


FORMATS = ("messages", "prompt_completion", "alpaca", "sharegpt", "text")


@dataclass(frozen=True)
class Layout:
    """How rows are laid out.

    format: see `DatasetInfo.format`. columns: role -> column name, e.g. {"prompt": "q"}.
    """

    format: str
    columns: dict[str, str]


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
