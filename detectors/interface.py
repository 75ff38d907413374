"""What a detector gives: evidence, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Skipped:
    """A measurement that was not made, and why. Never written as NaN or 0."""

    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one detector found.

    detector: its registry name. summary: one sentence for the terminal.
    values: plain JSON values (numbers, strings, lists, dicts), each documented in docs/methods.md.
    """

    detector: str
    summary: str
    values: dict[str, Any]
