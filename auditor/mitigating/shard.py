"""What a worker does with one shard, a file of the data set: survey it, measure it, write it.

A worker holds the models, and memory for one batch of rows. What it writes follows from the run and
from the shard alone, so any worker may do any shard, and one that died leaves nothing to mend.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import socket
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from auditor.data.batches import DataFile, Row
from auditor.data.dataset import Rows, why_not
from auditor.data.fields import Edits, fields_of
from auditor.data.files import Source
from auditor.data.folder import digest_of_file
from auditor.data.formats import Layout
from auditor.data.limits import IN_FORCE, Limits
from auditor.data.rewrite import rewrite
from auditor.data.text_row import Span, TextRow
from auditor.engine.interface import Tell
from auditor.errors import InputError
from auditor.mitigating.pipeline import BoundMitigation, advance, bind
from auditor.mitigating.record import Part, Record
from auditor.mitigating.row_facts import MitigationContext, Settled, measure
from auditor.mitigating.settings import MitigateSettings
from auditor.mitigating.trainer_files import Emitter
from auditor.mitigating.writers import Writers
from auditor.model.identity import check_same_model
from auditor.model.language_model import LanguageModel
from auditor.model.server import ServerScorer
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.model.unit_store import Unit
from auditor.runs.run_directory import PARTIAL, RunDir, check_same_versions, read_json
from auditor.traits.panel import Panel
from mitigations.interface import Mitigation

LOG = logging.getLogger(__name__)
# Rows that go through the mitigations at a time. What models computed is kept by block, so the
# blocks in which rows are measured and those in which they are written must be the same.
BLOCK = 256
TIMED_ROWS = 16  # that are worked on to see how long all take
PART_ROWS = "data"  # the file of a part that holds its rows


@dataclass(frozen=True)
class ShardJob:
    """What every worker of a run must know; it can be sent to another process.

    source: the name of the data set. reference: as `request.reference_of` has it, None where no
    mitigation needs it. skips_broken: a file that cannot be read is passed over, and does not end
    the run. traits: whose divergence tokens count. root, identity: open the run.
    """

    source: str
    layout: Layout
    steps: tuple[Mitigation, ...]
    settings: MitigateSettings
    reference: Mapping[str, str | None] | None
    skips_broken: bool
    limits: Limits
    writers: Writers
    panel: Panel
    traits: tuple[str, ...]
    root: Path
    identity: Mapping[str, object]


@dataclass(frozen=True)
class Shard:
    """One file of the data set, and the number of its first row among all rows.

    rows: how many it has. masked: what is masked in them already, by number among all rows.
    """

    file: DataFile
    first: int
    rows: int
    masked: Mapping[int, tuple[Span, ...]]


@dataclass(frozen=True)
class ShardTask:
    """A shard and what is settled for it, for the mitigations from the first on.

    head: the first shard of the data set.
    """

    shard: Shard
    settled: tuple[Settled, ...]
    head: Shard

    @property
    def settled_here(self) -> tuple[Settled, ...]:
        """What is settled for the rows of this shard alone."""
        end = self.shard.first + self.shard.rows
        return tuple(known.within(self.shard.first, end) for known in self.settled)


class ShardWorker:
    """Works on the shards of a run, one after another."""

    def __init__(self, job: ShardJob, stack: ExitStack) -> None:
        self._job, self._stack = job, stack
        self._bound: Sequence[BoundMitigation] | None = None
        self._context: MitigationContext | None = None
        self._run = RunDir.open(job.root, job.identity, joins=True)

    @cached_property
    def _model(self) -> tuple[LanguageModel, ChatTokenizer] | None:
        if self._job.reference is None:
            return None
        lm = self._job.writers.load_reference(self._job.reference)
        check_same_model(lm, self._job.identity["reference"])
        return lm, ChatTokenizer(lm)

    def _server(self, first: Sequence[TextRow]) -> ServerScorer | None:
        """The server that scores, once its answers for the first rows are those of the model."""
        if self._job.settings.scorer is None or self._model is None:
            return None
        lm, renderer = self._model
        encoded = [renderer.encode(row.example) for row in first[:TIMED_ROWS]]
        server = ServerScorer(self._job.settings.scorer, renderer)
        server.check(lm, [row for row in encoded if isinstance(row, TokenizedRow)])
        return server

    def survey(self, file: DataFile, tell: Tell) -> Survey | str:
        """Which rows of a file can be scored; or why the file cannot be read, where the run goes on
        without it.
        """
        try:
            return self._survey(file, tell)
        except InputError as error:
            if not self._job.skips_broken:
                raise
            return error.message

    def _survey(self, file: DataFile, tell: Tell) -> Survey:
        numbers, skipped, rows = array("q"), Counter[str](), 0
        data = _rows(file, self._job)
        # Where a broken file is passed over, that must be known of every column now.
        for batch in data.batches(whole=self._job.skips_broken):
            for index, row in enumerate(batch, rows):
                reason = why_not(row, self._job.layout)
                if reason is None:
                    numbers.append(index)
                else:
                    skipped[reason] += 1
            rows += len(batch)
            tell(rows)
        # numpy makes no array of an empty buffer.
        scorable = np.frombuffer(numbers, dtype=np.int64) if numbers else np.empty(0, np.int64)
        return Survey(rows, scorable, skipped)

    def measure(self, task: ShardTask, tell: Tell) -> Unit:
        """What `row_facts.settle` must know of the rows of a shard for the first mitigation for
        which nothing is settled.
        """
        context, bound = self._ready(task.head)
        needs, settled = self._job.steps[len(task.settled)].needs, task.settled_here
        measured, done = [measure(context, needs, [])], 0
        for block in self._blocks(task.shard):
            measured.append(measure(context, needs, advance(block, bound, settled)))
            done += len(block)
            tell(done)
        return {key: np.concatenate([unit[key] for unit in measured]) for key in measured[0]}

    def seconds(self, task: ShardTask, tell: Tell) -> float:
        """How long a row of the data set takes: in `measure` where not all is settled, else in
        `write`.
        """
        context, bound = self._ready(task.head)
        rows = list(context.first[:TIMED_ROWS])
        if not rows:
            return 0.0
        started = time.perf_counter()
        after = advance(rows, bound, task.settled_here)
        if len(task.settled) < len(self._job.steps):
            measure(context, self._job.steps[len(task.settled)].needs, after)
        return (time.perf_counter() - started) / len(rows)

    def write(self, task: ShardTask, tell: Tell) -> Part:
        """Write the part of a shard into the run directory."""
        job, target = self._job, part_folder(self._run, self._job, task.shard)
        here = f"{socket.gethostname()}.{os.getpid()}"
        partial = target.with_name(f".{target.name}.{here}{PARTIAL}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _, bound = self._ready(task.head)
        try:
            with closing(Record(partial, [step.name for step in job.steps])) as record:
                emitter = Emitter(partial, job.settings.emit, self._model, job.settings.max_length)
                self._rewrite(task, partial / PART_ROWS, bound, record, emitter, tell)
                part = record.keep(emitter.close())
            # Another worker, which was taken for dead, may have written the same bytes before.
            with suppress(OSError) if target.exists() else nullcontext():
                partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return part

    def _rewrite(
        self,
        task: ShardTask,
        target: Path,
        bound: Sequence[BoundMitigation],
        record: Record,
        emitter: Emitter,
        tell: Tell,
    ) -> None:
        shard, layout, settled = task.shard, self._job.layout, task.settled_here
        done = 0

        def transform(rows: Sequence[Row]) -> list[list[Edits]]:
            """For each of the next rows of the file, what is new in each row of the output that it
            became; a row that cannot be scored stays.
            """
            nonlocal done
            edits: list[list[Edits]] = []
            for block in _blocks(rows):
                first, done = shard.first + done, done + len(block)
                before = {row.index: row for row in text_rows(block, first, layout, shard.masked)}
                after: dict[int, list[TextRow]] = {index: [] for index in before}
                for row in advance(list(before.values()), bound, settled, record.note):
                    after[row.index].append(row)
                for index in range(first, first + len(block)):
                    if index not in before:
                        record.wrote(index)
                        edits.append([{}])
                        continue
                    copies: list[Edits] = []
                    for row in after[index]:
                        record.wrote(index, row.masked)
                        emitter.add(row)
                        # Only texts that differ are edited: all else of a row stays byte for byte.
                        pairs = zip(before[index].fields, row.fields, strict=True)
                        copies.append(
                            {
                                path: new.text
                                for old, new in pairs
                                if new.text != old.text
                                for path in (new.path, *new.twins)
                            }
                        )
                    edits.append(copies)
                LOG.debug("rows %d to %d are mitigated", first, first + len(block) - 1)
                tell(done)
            return edits

        rewrite(Path(shard.file.name), target, layout.places, transform)

    def _ready(self, head: Shard) -> tuple[MitigationContext, Sequence[BoundMitigation]]:
        """What the mitigations share, and themselves."""
        if self._context is None or self._bound is None:
            job = self._job
            first = next(self._blocks(head), [])
            self._context = MitigationContext(
                model=self._model,
                server=self._server(first),
                panel=job.panel,
                traits=job.traits,
                epsilon=job.settings.min_margin,
                seed=job.settings.seed,
                writers=job.writers,
                first=first,
                run=self._run,
            )
            self._bound = bind(self._context, job.steps, self._stack)
        return self._context, self._bound

    def _blocks(self, shard: Shard) -> Iterator[list[TextRow]]:
        """The rows that can be scored, in the very blocks in which `write` meets them."""
        index = shard.first
        for batch in _rows(shard.file, self._job).batches():
            for block in _blocks(batch):
                yield text_rows(block, index, self._job.layout, shard.masked)
                index += len(block)


@dataclass(frozen=True)
class Survey:
    """The rows of a file: how many, the numbers of those that can be scored, ascending, and how
    many cannot for which reason.
    """

    rows: int
    scorable: npt.NDArray[np.int64]
    skipped: Mapping[str, int]


@contextmanager
def open_worker(job: ShardJob) -> Iterator[ShardWorker]:
    """A worker of the run, which loads its models when it first needs them. Raises RunError where
    it has other versions of what the result depends on than the run.
    """
    IN_FORCE.set(job.limits)
    check_same_versions(job.identity["versions"])
    with ExitStack() as stack:
        yield ShardWorker(job, stack)


def _rows(file: DataFile, job: ShardJob) -> Rows:
    return Rows(Source(job.source, (file,), None), job.layout)


def _blocks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]


def text_rows(
    rows: Sequence[Row], first: int, layout: Layout, masked: Mapping[int, tuple[Span, ...]]
) -> list[TextRow]:
    """Those of consecutive rows, from number `first`, that can be scored; masked: what is masked in
    them already.
    """
    return [
        TextRow(index, fields_of(row, layout), 0, masked.get(index, ()))
        for index, row in enumerate(rows, first)
        if not isinstance(row, str) and why_not(row, layout) is None
    ]


def part_folder(run: RunDir, job: ShardJob, shard: Shard) -> Path:
    """Where the part of a shard is kept: its name follows from the run, which says what the data
    are and what is done to them, and from the place of the shard in them.
    """
    place = f"{shard.file.name.removeprefix(job.source)}\0{shard.first}"
    return run.path / "shards" / hashlib.sha256(place.encode("utf-8", "replace")).hexdigest()[:32]


def keep_part(run: RunDir, folder: Path, part: Part) -> None:
    """Note that the part in `folder` is finished."""
    run.write_json(f"shards/{folder.name}.json", part.as_dict())


def kept_part(folder: Path) -> Part | None:
    """The finished part in `folder`, if every byte of it is as it was when it was kept."""
    kept = read_json(folder.with_name(f"{folder.name}.json"))
    if kept is None:
        return None
    part = Part.from_dict(kept)
    with suppress(OSError):
        if all(digest_of_file(folder / name) == sha for name, sha in part.sha256.items()):
            return part
    LOG.info("%s is not as it was kept: its shard is done again", folder)
    return None
