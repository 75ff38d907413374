"""How far a stage of a long command is."""

from __future__ import annotations

from dataclasses import dataclass

ROW_PASSES = "row passes"  # a row that is scored under one trait


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is. `total` is None when it is not known yet. unit: what is counted."""

    stage: str
    done: int
    total: int | None
    unit: str = "rows"

    @property
    def count(self) -> str:
        """How much is done, in words; empty where nothing is counted.

        >>> Progress("scoring", 40, 100).count, Progress("loading", 0, None).count
        ('40/100 rows', '')
        """
        if self.total is not None:
            return f"{self.done}/{self.total} {self.unit}"
        return f"{self.done} {self.unit}" if self.done else ""
