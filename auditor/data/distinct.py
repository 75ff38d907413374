"""Draw from data of which most rows repeat or cannot be scored, in two passes at most."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from auditor.data.batches import Block, Row
from auditor.data.example import Example, SkippedRow
from auditor.data.fields import to_example
from auditor.data.formats import Layout

# Rows whose outcome is remembered, so that a copy costs a look-up.
_REMEMBERED = 4096


@dataclass
class Taken:
    """The distinct examples of one pass by their digests, each with its priority; how often each
    stands among the rows looked at; how many were skipped for which reason; how many rows there
    are; and whether examples of high priority were let go, so that the counts are incomplete.
    """

    lowest: dict[bytes, tuple[int, Example]] = field(default_factory=dict)
    counts: Counter[bytes] = field(default_factory=Counter[bytes])
    skipped: Counter[str] = field(default_factory=Counter[str])
    total: int = 0
    is_cut: bool = False

    @property
    def examples(self) -> list[Example]:
        """By ascending priority."""
        return [example for _, example in sorted(self.lowest.values(), key=lambda pair: pair[0])]

    @property
    def reasons(self) -> dict[str, int]:
        """Rows skipped by reason, copies among them."""
        copies = self.counts.total() - len(self.counts)
        return {**self.skipped, "duplicate": copies} if copies else dict(self.skipped)

    @property
    def copies(self) -> dict[int, int]:
        """As `Sample.copies`."""
        return {
            self.lowest[digest][1].index: count
            for digest, count in self.counts.items()
            if count > 1
        }


def take_distinct(
    blocks: Sequence[Block],
    layout: Layout,
    priorities: Callable[[int, int], npt.NDArray[np.uint64]],
    rows: int,
) -> Taken:
    """The first `rows` distinct examples by ascending priority, as if all rows had been sorted.

    priorities: of so many rows from a row number on. The first pass holds twice `rows` examples at
    most, and finds the priority of the last one that is taken. Where there are more of them, a
    second pass counts the rows up to that one.
    """
    taken = _pass(blocks, layout, priorities, 2**64 - 1, rows)
    if taken.is_cut or len(taken.lowest) > rows:
        last = _lowest(taken, rows)
        taken = _pass(blocks, layout, priorities, last, None)
    return taken


def _pass(
    blocks: Sequence[Block],
    layout: Layout,
    priorities: Callable[[int, int], npt.NDArray[np.uint64]],
    bar: int,
    rows: int | None,
) -> Taken:
    """What the rows up to the priority `bar` hold; with `rows`, only so many examples of them."""
    taken = Taken()
    columns = list(layout.columns.values())
    outcomes: dict[tuple[object, ...], tuple[Example, bytes] | SkippedRow] = {}
    for block in blocks:
        for batch in block.batches(columns):
            draws = priorities(taken.total, len(batch))
            positions = np.flatnonzero(draws <= bar)
            read = zip(
                draws[positions].tolist(),
                (positions + taken.total).tolist(),
                batch.take(positions.tolist()),
                strict=True,
            )
            for priority, index, row in read:
                outcome = _outcome(row, layout, columns, outcomes)
                if isinstance(outcome, SkippedRow):
                    taken.skipped[outcome.reason] += 1
                    continue
                example, digest = outcome
                taken.counts[digest] += 1
                first = taken.lowest.get(digest)
                if first is None or priority < first[0]:
                    taken.lowest[digest] = priority, replace(example, index=index)
            taken.total += len(batch)
            if rows is not None and len(taken.lowest) >= 2 * rows:
                bar = _lowest(taken, rows)
                taken.lowest = {d: pair for d, pair in taken.lowest.items() if pair[0] <= bar}
                taken.counts.clear()
                taken.is_cut = True
    return taken


def _lowest(taken: Taken, rows: int) -> int:
    """The priority of example number `rows`, counted from 1."""
    return sorted(priority for priority, _ in taken.lowest.values())[rows - 1]


def _outcome(
    row: Row,
    layout: Layout,
    columns: Sequence[str],
    outcomes: dict[tuple[object, ...], tuple[Example, bytes] | SkippedRow],
) -> tuple[Example, bytes] | SkippedRow:
    """What a row becomes, with its digest. outcomes: of rows of text so far; grows by this one."""
    values = (row,) if isinstance(row, str) else tuple(map(row.get, columns))
    try:
        known = outcomes.get(values)
    except TypeError:  # turns cannot be looked up
        known = None
    if known is not None:
        return known
    is_text = all(isinstance(value, str) for value in values)
    example = to_example(0, row, layout)
    outcome = example if isinstance(example, SkippedRow) else (example, digest_of_example(example))
    if is_text:
        if len(outcomes) >= _REMEMBERED:
            outcomes.clear()
        outcomes[values] = outcome
    return outcome


def digest_of_example(example: Example) -> bytes:
    """What makes rows duplicates: their content without the number."""
    content = [turn.parts for turn in example.messages] or example.text
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).digest()
