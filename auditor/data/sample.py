"""Draw the rows an audit works on: seeded, in one pass, with no more of the data set in memory than
the sample.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from auditor.data.batches import Block, Row
from auditor.data.beside import unread_of
from auditor.data.distinct import digest_of_example, take_distinct
from auditor.data.example import DatasetInfo, Example, Sample, SkippedRow
from auditor.data.fields import to_example
from auditor.data.files import open_source
from auditor.data.formats import Layout
from auditor.data.layout import find_layout, heads_of

LOG = logging.getLogger(__name__)

# Fewer row groups than this would make a sample of a sorted file too lumpy.
_GROUPS = 16
# By how much the second reading looks at more rows than the first.
_SPARE = 8

Candidate = tuple[int, int, Row]
"""Priority, row number, row."""


@dataclass(frozen=True)
class _Drawn:
    """Candidates by ascending priority, how many rows and blocks they come from, and how many rows
    there are.
    """

    candidates: list[Candidate]
    reached: int
    blocks: int
    total: int


def read_sample(
    source: str,
    *,
    rows: int | None,
    seed: int,
    format_of: str | None = None,
    columns: Mapping[str, str] | None = None,
    stdin: BinaryIO | None = None,
) -> Sample:
    """Draw `rows` scorable rows of a data set (None: all of them) at random, in random order.

    source: a Parquet, JSONL, JSON, CSV, TSV or Arrow file (text may be compressed), a folder of
    them, "-" for `stdin`, or the name of a hub data set. seed: >= 0. format_of: forces the format.
    columns: role -> column name.

    Row i has the i-th draw of the seed's generator as its priority; rows are taken by ascending
    priority until `rows` of them are scorable. So the same bytes and seed give the same sample, and
    rows that are skipped take nobody's place: examples and skipped counts add up to the rows looked
    at. Of a Parquet data set with many row groups only some are read, chosen by the seed: at least
    16, and enough for the sample. All else is read through, with the rows of lowest priority kept,
    so that a smaller sample is the beginning of a larger one. `DatasetInfo.sampling` says which it
    was.

    Reasons for skipping: those of `fields.to_example`, and "duplicate": the same conversation or
    text as a row taken before. Duplicates are looked for among the rows looked at, not in the rest
    of the data set.

    Raises InputError: no such file, unreadable, damaged, zero rows, unknown or ambiguous columns,
    differing formats. A data set with rows of which none is scorable gives a Sample without
    examples.
    """
    with open_source(source, rows=rows, stdin=stdin) as data:
        heads = heads_of(data)
        layout = find_layout(heads, format_of, columns)
        # Spare candidates for the rows that will be skipped. Where they do not suffice the data
        # set is read again for more of them, and at last for distinct rows only: neither memory
        # nor time must grow faster than the data where most rows are skipped or repeat.
        size = None if rows is None else 2 * rows + 64
        while True:
            drawn = _draw(data.blocks, list(layout.columns.values()), size, seed)
            examples, copies, skipped = _take(drawn.candidates, layout, rows)
            if (
                rows is None
                or size is None
                or len(examples) == rows
                or len(drawn.candidates) < size
            ):
                break
            LOG.debug("only %d of %d candidates can be scored; drawing more", len(examples), size)
            if size > _SPARE * rows:
                draws = partial(priorities, seed)
                taken = take_distinct(data.blocks, layout, draws, rows)
                examples, copies, skipped = taken.examples, taken.copies, taken.reasons
                drawn = _Drawn(drawn.candidates, taken.total, len(data.blocks), taken.total)
                break
            size *= _SPARE
    looked_at = len(examples) + sum(skipped.values())
    info = DatasetInfo(
        name=source,
        format=layout.format,
        columns=layout.columns,
        sha256=data.sha256
        or hashlib.sha256(b"".join(digest_of_example(example) for example in examples)).hexdigest(),
        total=data.total or drawn.total,
        sampling=_sentence(looked_at, drawn, len(data.blocks), seed) + data.note,
        unread=(
            *data.unread,
            *unread_of(
                [chain.from_iterable(heads.values()), [row for _, _, row in drawn.candidates]],
                layout,
                settled=format_of is not None or bool(columns),
            ),
        ),
    )
    LOG.info("read %s as %s by the columns %s", source, layout.format, layout.columns)
    LOG.info("drew %s; %d can be scored, skipped %s", info.sampling, len(examples), skipped)
    return Sample(info, tuple(examples), skipped, copies)


def priorities(seed: int, start: int, count: int) -> npt.NDArray[np.uint64]:
    """The priorities of `count` rows from row number `start` on, shape (count,): row i has draw i
    of the seed's generator, wherever reading begins.
    """
    stream = np.random.PCG64(seed)
    stream.advance(start)
    draws: npt.NDArray[np.uint64] = stream.random_raw(count)
    return draws


def _draw(blocks: Sequence[Block], columns: Sequence[str], size: int | None, seed: int) -> _Drawn:
    """The `size` rows (None: all) of the lowest priority, in one pass over the blocks to read."""
    selected = _blocks_to_read(blocks, size, seed)
    candidates: list[Candidate] = []
    # A row whose priority is above the bar cannot be among the lowest, so it is not even parsed.
    bar, index, reached = 2**64 - 1, 0, 0
    for number, block in enumerate(blocks):
        if number not in selected:
            index += block.rows or 0
            continue
        LOG.debug("reading block %d of %d", number + 1, len(blocks))
        for batch in block.batches(columns):
            draws = priorities(seed, index, len(batch))
            positions = np.flatnonzero(draws <= bar)
            numbers = (positions + index).tolist()
            candidates += zip(
                draws[positions].tolist(), numbers, batch.take(positions.tolist()), strict=True
            )
            index += len(batch)
            reached += len(batch)
            if size is not None and len(candidates) >= 2 * size:
                candidates = _lowest(candidates, size)
                bar = candidates[-1][0]
    return _Drawn(_lowest(candidates, size), reached, len(selected), index)


def _lowest(candidates: list[Candidate], size: int | None) -> list[Candidate]:
    return sorted(candidates, key=itemgetter(0, 1))[:size]


def _blocks_to_read(blocks: Sequence[Block], size: int | None, seed: int) -> set[int]:
    """The blocks to read: all, unless every block's rows are known and a random choice of them
    suffices.
    """
    order = random.Random(seed).sample(range(len(blocks)), len(blocks))
    reached = 0
    for taken, number in enumerate(order):
        if size is not None and taken >= _GROUPS and reached >= size:
            return set(order[:taken])
        count = blocks[number].rows
        if count is None:
            break  # a text file: only reading it to its end tells where its rows are
        reached += count
    return set(order)


def _take(
    candidates: Iterable[Candidate], layout: Layout, rows: int | None
) -> tuple[list[Example], dict[int, int], dict[str, int]]:
    """The first `rows` candidates that can be scored, how often each stands among those looked at
    if that is more than once, and how many were passed over for which reason.
    """
    examples: list[Example] = []
    skipped: Counter[str] = Counter()
    copies: dict[int, int] = {}
    digests: dict[bytes, int] = {}
    for _, index, row in candidates:
        if len(examples) == rows:
            break
        outcome = to_example(index, row, layout)
        if isinstance(outcome, SkippedRow):
            skipped[outcome.reason] += 1
        elif (digest := digest_of_example(outcome)) in digests:
            skipped["duplicate"] += 1
            copies[digests[digest]] = copies.get(digests[digest], 1) + 1
        else:
            digests[digest] = index
            examples.append(outcome)
    return examples, copies, dict(skipped)


def _sentence(looked_at: int, drawn: _Drawn, blocks: int, seed: int) -> str:
    if looked_at == drawn.reached == drawn.total:
        return f"all {looked_at:,} rows, in a random order (seed {seed})"
    if drawn.blocks < blocks:
        groups = f"{drawn.blocks:,} of {blocks:,} row groups"
        return f"{looked_at:,} rows from {groups} chosen at random (seed {seed})"
    return f"a reservoir of {looked_at:,} out of {drawn.reached:,} rows (seed {seed})"
