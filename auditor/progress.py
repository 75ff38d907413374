"""How far a stage of a long command is, and how long one takes, said before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
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


Show = Callable[[Progress], None]


def announce(progress: Show, work: str, seconds: float) -> None:
    """Say how long `work` takes, by a speed that was measured on this machine."""
    progress(Progress(f"{work}: about {duration(seconds)}", 0, None))


def announce_by_sample(
    progress: Show, work: str, sample: int, total: int, do: Callable[[], object]
) -> None:
    """Say how long `work` on `total` rows takes, by how long `do` takes, which does it to `sample`
    rows.
    """
    if sample:
        started = time.perf_counter()
        do()
        announce(progress, work, (time.perf_counter() - started) / sample * total)


def duration(seconds: float) -> str:
    """About how long, as in "40 s", "12 min" or "2.5 h".

    >>> duration(39.7), duration(700), duration(9000)
    ('40 s', '12 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
