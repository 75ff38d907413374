"""Draw the rows an audit works on: seeded, in one pass, with no more of the data set in memory than
the sample.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from auditor.data.batches import DataFile, Row
from auditor.data.beside import unread_of
from auditor.data.distinct import digest_of_example, take_distinct
from auditor.data.example import DatasetInfo, Example, Sample, SkippedRow
from auditor.data.fields import to_example
from auditor.data.files import open_source
from auditor.data.formats import Layout, Side
from auditor.data.layout import find_layout, heads_of
from auditor.data.sides import with_both_sides

LOG = logging.getLogger(__name__)

# Fewer row groups than this would make a sample of a sorted file too lumpy.
_GROUPS = 16
# By how much the second reading looks at more rows than the first.
_SPARE = 8

Candidate = tuple[float, int, Row]
"""Priority, row number, row."""

Seed = int | Callable[[str], int] | None
"""A seed >= 0; or what gives it for the digest of the data; or None for rows in their order."""


@dataclass(frozen=True)
class Drawn:
    """Candidates by ascending priority, how many rows and how many of the `of` blocks with rows
    they come from, and how many rows there are.
    """

    candidates: list[Candidate]
    reached: int
    blocks: int
    of: int
    total: int


def read_sample(
    source: str,
    *,
    rows: int | None,
    seed: Seed,
    format_of: str | None = None,
    columns: Mapping[str, str] | None = None,
    side: Side | None = None,
    stdin: BinaryIO | None = None,
) -> Sample:
    """Draw `rows` scorable rows of a data set (None: all of them) at random, in random order.

    source: a Parquet, JSONL, JSON, CSV, TSV or Arrow file (text may be compressed), a folder of
    them, "-" for `stdin`, or the name of a hub data set. seed: see `Seed`; None only without
    `rows`. format_of: forces the format. columns: role -> column name.
    side: of a preference set (`auditor.data.sides`); None is the chosen one.

    Row i has the i-th draw of a generator as its priority; rows are taken by ascending priority
    until `rows` of them are scorable. So the same bytes and seed give the same sample, and
    rows that are skipped take nobody's place: examples and skipped counts add up to the rows looked
    at. The generator depends on the digest of the data and on the seed: were it the seed alone, a
    writer of the data would know which rows are looked at. Of Parquet data with many row groups
    only some are read, chosen by the same generator: at least 16, one of every file, and enough for
    the sample. All else is read through, with the rows of lowest priority kept,
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
        layout = find_layout(heads, format_of, columns, side)
        data = with_both_sides(data, layout)
        # Spare candidates for the rows that will be skipped. Where they do not suffice the data
        # set is read again for more of them, and at last for distinct rows only: neither memory
        # nor time must grow faster than the data where most rows are skipped or repeat.
        size = None if rows is None else 2 * rows + 64
        number = seed(data.digest) if callable(seed) else seed
        mixed = None if number is None else generator_seed(data.digest, number)
        while True:
            drawn = draw(data.files, list(layout.columns.values()), size, mixed)
            examples, copies, skipped = _take(drawn.candidates, layout, rows)
            if (
                rows is None
                or size is None
                or mixed is None
                or len(examples) == rows
                or len(drawn.candidates) < size
            ):
                break
            LOG.debug("only %d of %d candidates can be scored; drawing more", len(examples), size)
            if size > _SPARE * rows:
                draws = partial(priorities, mixed)
                taken = take_distinct(data.blocks, layout, draws, rows)
                examples, copies, skipped = taken.examples, taken.copies, taken.reasons
                blocks = len(data.blocks)
                drawn = Drawn(drawn.candidates, taken.total, blocks, blocks, taken.total)
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
        sampling=_sentence(looked_at, drawn, number) + _context_note(layout) + data.note,
        unread=(
            *data.unread,
            *unread_of(
                [chain.from_iterable(heads.values()), [row for _, _, row in drawn.candidates]],
                layout,
                settled=format_of is not None or bool(columns),
                side=side,
            ),
        ),
    )
    LOG.info("read %s as %s by the columns %s", source, layout.format, layout.columns)
    LOG.info("drew %s; %d can be scored, skipped %s", info.sampling, len(examples), skipped)
    return Sample(info, tuple(examples), skipped, copies, number or 0)


def priorities(seed: int, start: int, count: int) -> npt.NDArray[np.uint64]:
    """The priorities of `count` rows from row number `start` on, shape (count,): row i has draw i
    of the seed's generator, wherever reading begins.
    """
    stream = np.random.PCG64(seed)
    stream.advance(start)
    draws: npt.NDArray[np.uint64] = stream.random_raw(count)
    return draws


def generator_seed(digest: str, seed: int) -> int:
    """The seed of the generator that draws rows of the data with this digest."""
    return int.from_bytes(hashlib.sha256(f"{digest} {seed}".encode()).digest())


def draw(
    files: Sequence[DataFile], columns: Sequence[str], size: int | None, seed: int | None
) -> Drawn:
    """The `size` rows (None: all) of the lowest priority, in one pass over the blocks to read.

    A row's priority is an exponential variate, divided by the rows that it stands for: those of its
    file over those of the file's blocks that are read (Efraimidis and Spirakis 2006). So every file
    has its share of the sample, however many of its blocks are read. Without a seed the priority is
    the row's number.
    """
    filled = [
        (f, b) for f, file in enumerate(files) for b, x in enumerate(file.blocks) if x.rows != 0
    ]
    selected = _blocks_to_read(files, filled, size, seed)
    candidates: list[Candidate] = []
    # A row whose priority is above the bar cannot be among the lowest, so it is not even parsed.
    bar, index, reached = math.inf, 0, 0
    for f, file in enumerate(files):
        read = [block.rows or 0 for b, block in enumerate(file.blocks) if (f, b) in selected]
        stands_for = sum(block.rows or 0 for block in file.blocks) / max(1, sum(read)) or 1.0
        for b, block in enumerate(file.blocks):
            if (f, b) not in selected:
                index += block.rows or 0
                continue
            LOG.debug("reading block %d of %d of %s", b + 1, len(file.blocks), file.name)
            for batch in block.batches(columns):
                keys = np.arange(index, index + len(batch), dtype=float)
                if seed is not None:
                    # The upper 53 bits of a draw are a uniform number below 1.
                    uniform = (priorities(seed, index, len(batch)) >> np.uint64(11)) * 2.0**-53
                    keys = -np.log1p(-uniform) / stands_for
                positions = np.flatnonzero(keys <= bar)
                numbers = (positions + index).tolist()
                candidates += zip(
                    keys[positions].tolist(), numbers, batch.take(positions.tolist()), strict=True
                )
                index += len(batch)
                reached += len(batch)
                if size is not None and len(candidates) >= 2 * size:
                    candidates = _lowest(candidates, size)
                    bar = candidates[-1][0]
    return Drawn(_lowest(candidates, size), reached, len(selected), len(filled), index)


def _lowest(candidates: list[Candidate], size: int | None) -> list[Candidate]:
    return sorted(candidates, key=itemgetter(0, 1))[:size]


def _blocks_to_read(
    files: Sequence[DataFile],
    filled: Sequence[tuple[int, int]],
    size: int | None,
    seed: int | None,
) -> set[tuple[int, int]]:
    """The blocks to read of those that are `filled`, by the numbers of file and block: all, unless
    every block's rows are known and a random choice of them suffices.
    """
    counts = [files[f].blocks[b].rows for f, b in filled]
    # Of a text file only reading it to its end tells where its rows are.
    if size is None or None in counts:
        return set(filled)
    order = random.Random(seed).sample(filled, len(filled))
    reached = 0
    for taken, (f, b) in enumerate(order):
        if taken >= _GROUPS and reached >= size:
            # Of a file that chance left out, the block that would have been the next.
            first = {file: (file, block) for file, block in reversed(order)}
            return {*order[:taken], *first.values()}
        reached += files[f].blocks[b].rows or 0
    return set(filled)


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


def _context_note(layout: Layout) -> str:
    key = layout.columns.get("weight")
    return f"; what {key} takes out of training is context" if key else ""


def _sentence(looked_at: int, drawn: Drawn, seed: int | None) -> str:
    if seed is None:
        return f"all {looked_at:,} rows, in their order"
    if looked_at == drawn.reached == drawn.total:
        return f"all {looked_at:,} rows, in a random order (seed {seed})"
    if drawn.blocks < drawn.of:
        groups = f"{drawn.blocks:,} of {drawn.of:,} row groups"
        return f"{looked_at:,} rows from {groups} chosen at random (seed {seed})"
    return f"a reservoir of {looked_at:,} out of {drawn.reached:,} rows (seed {seed})"
