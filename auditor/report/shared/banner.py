"""The first screen of every page: what was decided, on what, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure with what it counts; `safe`. is_bad: whether it asks for attention."""

    value: str
    label: str
    is_bad: bool = False


def warning_count(warnings: Sequence[str]) -> Fact:
    """How many warnings there are, as a figure."""
    return Fact(f"{len(warnings)}", f"warning{'s' if len(warnings) != 1 else ''}", bool(warnings))


@dataclass(frozen=True, slots=True)
class Banner:
    """The first screen. style: its colours, which are those of a verdict. word: the answer in a few
    words. decision: in a sentence. about: on what, for whom and when. facts: as tiles. subject:
    what the decision is about, if one thing. warnings: what must not be overlooked, a line each.
    advice: what to do next, in a sentence. steps: the same as commands with what they are for, of
    which all but the first are folded.
    """

    style: str
    word: str
    decision: str
    about: str
    facts: Sequence[Fact]
    subject: str = ""
    warnings: Sequence[str] = ()
    advice: str = ""
    steps: Sequence[tuple[str, str]] = ()
