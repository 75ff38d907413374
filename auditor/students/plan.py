"""How large an experiment is: which rows each pair of students gets, how long they train, and what
that costs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditor.errors import InputError

HELD_OUT = 32  # rows kept for the loss on the carrier task
MIN_BATCHES = 2  # fewer are no training to speak of
LEAST_UPDATES = (
    60  # by default: few rows are repeated, as the published recipes repeat theirs (docs/log.md)
)
WARM = 8  # updates that a budget has to buy at least, if there are rows for them
_ORDER = "student-transfer"


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows and doses of an experiment.

    blocks: disjoint sets of original row numbers, one a pair of students. held_out: rows in none of
    them. updates: of every student. doses: updates at which students are read out, ascending, from
    0 to `updates`.
    """

    blocks: tuple[tuple[int, ...], ...]
    held_out: tuple[int, ...]
    updates: int
    doses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """Measured seconds: of one update, of reading out one student once, and of writing one row of
    the control.
    """

    update: float
    reading: float
    row: float


@dataclass(frozen=True, slots=True)
class Size:
    """blocks, rows a block, updates a student."""

    blocks: int
    rows: int
    updates: int

    def seconds(self, cost: Cost, students: int, readings: int) -> float:
        """What it costs when every block has so many students."""
        each = self.updates * cost.update + readings * cost.reading
        return self.blocks * (students * each + self.rows * cost.row)


def size_of(available: int, blocks: int, rows: int | None, updates: int | None, batch: int) -> Size:
    """The experiment asked for, from `available` rows in common.

    rows: a block; None is as many as there are. updates: None is one pass over the rows, or
    LEAST_UPDATES where that is more.
    Raises: InputError when there are too few rows for the blocks.
    """
    most = (available - held_out(available)) // blocks
    least = MIN_BATCHES * batch
    if most < max(least, rows or 0):
        message = f"{available} rows in common are too few for {blocks} blocks of {max(least, rows or 0)} rows."
        raise InputError(message, "Give more rows, fewer --blocks, or fewer --rows a block.")
    rows = max(least, rows or most)
    return Size(blocks, rows, updates or max(LEAST_UPDATES, rows // batch))


def within(
    budget: float, wanted: Size, cost: Cost, students: int, readings: int, batch: int
) -> Size:
    """The largest experiment of at most `budget` seconds that is no larger than `wanted`.

    Training is shortened first, down to WARM updates, then blocks are given up, down to two.
    Raises: InputError when not even that is affordable.
    """
    least = min(WARM, wanted.updates)
    for blocks in range(wanted.blocks, min(2, wanted.blocks) - 1, -1):
        left = budget / blocks - students * readings * cost.reading
        updates = min(wanted.updates, int(left / (students * cost.update + batch * cost.row)))
        if updates >= least:
            return Size(blocks, min(wanted.rows, max(MIN_BATCHES, updates) * batch), updates)
    smallest = Size(min(2, wanted.blocks), min(wanted.rows, least * batch), least)
    needed = smallest.seconds(cost, students, readings)
    message = (
        f"The budget of {duration(budget)} is too small: {students} students of {least} updates"
    )
    message += f" in each of {smallest.blocks} blocks take about {duration(needed)}."
    raise InputError(message, "Give a larger --budget, fewer data sets, or a smaller --reference.")


def make_plan(rows: Iterable[int], size: Size, fractions: Sequence[float], seed: int) -> Plan:
    """Blocks drawn from the row numbers `rows` by `seed`; `fractions` of all updates, in (0, 1],
    are the doses.
    """
    numbers = sorted(rows)
    random.Random(f"{_ORDER} {seed}").shuffle(numbers)
    kept = held_out(len(numbers))
    rest = numbers[kept:]
    blocks = tuple(tuple(rest[b * size.rows : (b + 1) * size.rows]) for b in range(size.blocks))
    doses = {0, size.updates, *(max(1, round(fraction * size.updates)) for fraction in fractions)}
    return Plan(blocks, tuple(numbers[:kept]), size.updates, tuple(sorted(doses)))


def held_out(available: int) -> int:
    """How many of the rows are kept out of training."""
    return min(HELD_OUT, available // 8)


def share_of_added(number: int, blocks: int, fraction: float, seed: int) -> int | None:
    """The block, if any, that gets the added row `number`, when a block has `fraction` of the arm's
    other rows.
    """
    block = int(random.Random(f"{_ORDER} {seed} added {number}").random() / fraction)
    return block if block < blocks else None


def duration(seconds: float) -> str:
    """About how long, as in "40 s", "12 min" or "2.5 h".

    >>> duration(39.7), duration(700), duration(9000)
    ('40 s', '12 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
