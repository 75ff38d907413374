"""The schedule of a panel survey: families, blocks of rows, looks, and how many traits are scored
after each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from auditor.inference.estimates import (
    Array,
)

BLOCK = 32
# Rows at which we look, and the share of the traits tested that are scored after each:
# runs/schedule_power.py says why.
LOOKS: tuple[int, ...] = (32, 64, 96, 160, 256, 400)
KEEP: tuple[float, ...] = (0.7, 0.42, 0.32, 0.2, 0.16)


def looks(rows: int) -> list[int]:
    """Numbers of rows at which to look, up to `rows` and ending there."""
    standard = [n for n in LOOKS if n < rows]
    step = LOOKS[-1]
    return [*standard, *range(2 * step, rows, step), rows]


def kept(look: int, tested: int) -> int:
    """How many of the traits tested are scored after look number `look`, if the quotas do not ask
    for more.
    """
    return round(KEEP[min(look, len(KEEP) - 1)] * tested)


def block_starts(plan: Sequence[int]) -> Iterator[int]:
    """Starts of blocks of at most BLOCK rows that never cross a look."""
    start = 0
    for end in plan:
        yield from range(start, end, BLOCK)
        start = end


def spending(fractions: Array) -> Array:
    """Share of the error rate that each look may spend, rising with the square of the rows seen;
    sums to 1.

    fractions: [L] increasing shares of the planned rows, the last one 1. By the union bound the
    looks together keep the error rate whatever the dependence between them (alpha spending, Lan &
    DeMets 1983, with the bound instead of the joint distribution: a little conservative, and
    exact).
    """
    return np.diff(np.concatenate([[0.0], fractions**2]))
