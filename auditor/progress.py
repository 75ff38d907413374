"""How far a stage of a long command is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is. `total` is None when it is not known yet."""

    stage: str
    done: int
    total: int | None
