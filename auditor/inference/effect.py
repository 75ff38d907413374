"""What paired students say of a trait: an effect, the share of it that is left, and the verdict on
a data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Interval = tuple[float, float]
# The highest share of the effect that may be left, with 95 % confidence, for "removed".
REMOVED = 0.25
TransferVerdict = Literal[
    "transfer shown", "no transfer shown", "removed", "reduced", "not reduced", "inconclusive"
]


@dataclass(frozen=True, slots=True)
class Effect:
    """Margin of a trait in the students of an arm minus that in the paired control students.

    value: mean over the blocks; above 0 the arm moved its students to the trait. interval: 95 %,
    from t with blocks - 1 degrees of freedom; None for one block. blocks: the effect in each block.
    """

    value: float
    interval: Interval | None
    blocks: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The share of the original's effect that an arm has left: 0 is none, 1 all of it.

    interval: 95 %, by Fieller's theorem. value and interval are None when there is nothing to
    divide by; `reason` says why, and is None otherwise.
    """

    value: float | None
    interval: Interval | None
    reason: str | None
