"""The schedule of a panel test: blocks of rows, interim analyses ("looks" at the data), how many
traits are scored after each, and how much of the error rate each may spend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from auditor.inference.estimates import Array

# Rows that are scored together and kept as one unit of a run.
BLOCK = 32
# Rows at which the evidence is analysed, and the share of the traits tested that are scored after
# each analysis. Of the schedules that were compared by simulation (runs/results.md, "Tokens for a
# verdict"), this one finds as much as scoring every trait to the end, for a third of the tokens.
LOOKS: tuple[int, ...] = (32, 64, 96, 160, 256, 400)
KEEP: tuple[float, ...] = (0.7, 0.42, 0.32, 0.2, 0.16)


def analysis_rows(rows: int) -> list[int]:
    """Numbers of rows at which the evidence is analysed, up to `rows` and ending there."""
    standard = [n for n in LOOKS if n < rows]
    step = LOOKS[-1]
    return [*standard, *range(2 * step, rows, step), rows]


def traits_to_score(analysis: int, tested: int) -> int:
    """How many of the traits tested are scored after analysis number `analysis`, counted from 0, if
    the quotas of the families do not ask for more.
    """
    return round(KEEP[min(analysis, len(KEEP) - 1)] * tested)


def block_starts(plan: Sequence[int]) -> Iterator[int]:
    """Starts of blocks of at most BLOCK rows, none of which crosses an analysis."""
    start = 0
    for end in plan:
        yield from range(start, end, BLOCK)
        start = end


def spending(fractions: Array) -> Array:
    """Share of the error rate that each interim analysis may spend, rising with the square of the
    rows read; the shares sum to 1.

    fractions: [L] increasing shares of the planned rows, the last one 1. By the union bound the
    analyses together keep the error rate whatever the dependence between them (alpha spending, Lan
    & DeMets 1983, with the bound instead of the joint distribution: a little conservative, and
    valid for any number of rows).
    """
    return np.diff(np.concatenate([[0.0], fractions**2]))
