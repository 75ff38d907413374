"""How large an experiment is: which rows each pair of students gets, how long they train, and what
that costs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from auditor.errors import InputError
from auditor.inference.paired import MIN_BLOCKS
from auditor.model.unit_store import UnitStore, load_or_compute
from auditor.progress import duration

HELD_OUT = 32  # rows whose loss shows how well students do the task of the data set
MIN_BATCHES = 2  # fewer are no training to speak of
# By default: few rows are repeated, as the published recipes repeat theirs.
MIN_UPDATES = 32
# Updates that a budget has to buy at least, if there are rows for them.
MIN_AFFORDABLE_UPDATES = 8
_ORDER = "student-transfer"


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows and checkpoints of an experiment.

    blocks: disjoint sets of original row numbers, one a pair of students. held_out: rows in none of
    them. updates: of every student. checkpoints: updates after which students are read out,
    ascending, from 0 to `updates`.
    """

    blocks: tuple[tuple[int, ...], ...]
    held_out: tuple[int, ...]
    updates: int
    checkpoints: tuple[int, ...]


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
    """The size of an experiment: blocks, rows of a block, updates of a student."""

    blocks: int
    rows: int
    updates: int

    def seconds(self, cost: Cost, students: int, readings: int) -> float:
        """What it costs when every block has so many students, read out so many times."""
        student_seconds = self.updates * cost.update + readings * cost.reading
        return self.blocks * (students * student_seconds + self.rows * cost.row)

    @classmethod
    def load_or_decide(cls, store: UnitStore | None, name: str, decide: Callable[[], Size]) -> Size:
        """The size that is kept under `name`; else that of `decide`, which is kept from then on."""
        # It follows from measured times: the next process, or a resumed run, must not measure again
        # and come to another one.
        unit = load_or_compute(store, name, lambda: {"size": np.array(astuple(decide()))})
        return cls(*(int(count) for count in unit["size"]))


def size_of(available: int, blocks: int, rows: int | None, updates: int | None, batch: int) -> Size:
    """The experiment that the settings ask for, from `available` rows in common.

    rows: a block; None is as many as there are. updates: None is one pass over the rows, or
    MIN_UPDATES where that is more.
    Raises: InputError when there are too few rows for the blocks.
    """
    # Blocks are disjoint, so they share out what is not held out.
    tested = held_out(available)
    most = (available - tested) // blocks
    least = max(MIN_BATCHES * batch, rows or 0)
    if most < least:
        message = (
            f"{available} rows in common are too few for {blocks} blocks of {least} rows"
            f" and {tested} rows to test students on."
        )
        raise InputError(message, "Give more rows, fewer --blocks, or fewer --rows a block.")
    rows = max(MIN_BATCHES * batch, rows or most)
    return Size(blocks, rows, updates or max(MIN_UPDATES, rows // batch))


def most_blocks(available: int, batch: int) -> int:
    """How many blocks of the smallest size `available` rows in common are enough for."""
    return (available - held_out(available)) // (MIN_BATCHES * batch)


def within(
    budget: float, largest: Size, cost: Cost, students: int, readings: int, batch: int
) -> Size:
    """The largest experiment of at most `budget` seconds that is no larger than `largest`.

    Blocks are given up first, down to MIN_BLOCKS, since they are the precision of a verdict, and
    what is left of an effect depends on the length of the training. Only then that is shortened,
    down to MIN_AFFORDABLE_UPDATES. Raises: InputError when not even that is affordable.
    """
    least = min(MIN_AFFORDABLE_UPDATES, largest.updates)
    fewest = min(MIN_BLOCKS, largest.blocks)
    for blocks in range(largest.blocks, fewest - 1, -1):
        # In every block the readouts cost the same; what remains buys updates, and the rows of the
        # control that are written for them.
        for_updates = budget / blocks - students * readings * cost.reading
        affordable = int(for_updates / (students * cost.update + batch * cost.row))
        updates = min(largest.updates, affordable)
        # Rows are cut to those that the updates take: a row that no student sees is not written.
        if updates >= (least if blocks == fewest else largest.updates):
            return Size(blocks, min(largest.rows, max(MIN_BATCHES, updates) * batch), updates)
    smallest = Size(fewest, min(largest.rows, least * batch), least)
    needed = duration(smallest.seconds(cost, students, readings))
    message = (
        f"The budget of {duration(budget)} is too small: {students} students of {least} updates"
        f" in each of {fewest} blocks take about {needed}."
    )
    raise InputError(message, "Give a larger --budget, fewer data sets, or a smaller --reference.")


def make_plan(rows: Iterable[int], size: Size, fractions: Sequence[float], seed: int) -> Plan:
    """Blocks drawn from the row numbers `rows` by `seed`.

    fractions: of all updates, in (0, 1], after which students are read out.
    """
    # Sorted first, so that the blocks depend on the numbers alone and not on their order.
    numbers = sorted(rows)
    random.Random(f"{_ORDER} {seed}").shuffle(numbers)
    count = held_out(len(numbers))
    starts = range(count, count + size.blocks * size.rows, size.rows)
    blocks = tuple(tuple(numbers[start : start + size.rows]) for start in starts)
    # The checkpoint 0 is the untrained student: all students of a block are the same there.
    trained = {max(1, round(fraction * size.updates)) for fraction in fractions}
    checkpoints = tuple(sorted({0, size.updates, *trained}))
    return Plan(blocks, tuple(numbers[:count]), size.updates, checkpoints)


def held_out(available: int) -> int:
    """How many of the rows are kept out of training."""
    return min(HELD_OUT, available // 8)


def share_of_added(number: int, blocks: int, fraction: float, seed: int) -> int | None:
    """The block, if any, that gets the added row `number`, when a block has `fraction` of the arm's
    other rows.
    """
    # A number of its own for every row: arms that add the same row put it into the same block.
    block = int(random.Random(f"{_ORDER} {seed} added {number}").random() / fraction)
    return block if block < blocks else None
