"""The students of an experiment, trained one block after another."""

from __future__ import annotations

import functools
import logging
import math
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from auditor.engine.interface import Engine, Pool, Tally, Tell
from auditor.errors import InputError
from auditor.model.identity import check_same_model, identity_of
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.model.unit_store import Unit, UnitStore
from auditor.progress import Progress
from auditor.runs.run_directory import check_same_versions, installed_versions
from auditor.students import processes
from auditor.students.arms import DatasetArm, row_order
from auditor.students.plan import Plan, share_of_added
from auditor.students.readout import Family, Reading, answer_support, families, read
from auditor.students.settings import StudentSettings, TrainingConfig
from auditor.students.training import (
    Encode,
    TrainingExample,
    batched,
    mean_loss,
    new_student,
    train,
    training_examples,
)
from auditor.traits.panel import Panel

Measure = Callable[[LanguageModel], Unit]

LOG = logging.getLogger(__name__)

_CACHED_ROWS = 2**15  # encoded rows: the arms of a block share most of theirs


@dataclass(frozen=True)
class ExperimentContext:
    """What every student of an experiment shares.

    encode: the renderer's, with a cache. support: answers of the reference that are told apart.
    measure: more arrays to keep of each trained student.
    """

    lm: LanguageModel
    renderer: ChatTokenizer
    encode: Encode
    families: Sequence[Family]
    support: Sequence[npt.NDArray[np.int64]]
    training: TrainingConfig
    seed: int
    measure: Measure | None

    def read(self, student: LanguageModel) -> Reading:
        """What the student would answer."""
        return read(student, self.families, self.support)


def new_context(
    lm: LanguageModel,
    panel: Panel,
    trait: str | None,
    settings: StudentSettings,
    measure: Measure | None = None,
) -> ExperimentContext:
    """The context of students of `lm`, which is in float32.

    Raises: TraitError for a trait that cannot be read out.
    """
    renderer = ChatTokenizer(lm)
    read_out = families(renderer, panel, trait)
    for family in read_out:
        LOG.info("reading out %d traits of the group %s", len(family.names), family.group)
    return ExperimentContext(
        lm,
        renderer,
        functools.lru_cache(_CACHED_ROWS)(renderer.encode),
        read_out,
        answer_support(lm, read_out),
        settings.training_for(lm),
        settings.seed,
        measure,
    )


@dataclass(frozen=True)
class StudentJob:
    """What a worker must know to train students; it can be sent to another process.

    load: gives the base, in float32. reference, versions: its identity and the versions of the run.
    """

    load: Callable[[], LanguageModel]
    reference: Mapping[str, str]
    versions: Mapping[str, str]
    panel: Panel
    trait: str | None
    settings: StudentSettings
    plan: Plan
    arms: Sequence[DatasetArm]


@contextmanager
def open_runner(job: StudentJob) -> Iterator[Runner]:
    """A worker that trains students with `train_student`. Raises RunError or ModelError where it
    has other versions, or another base.
    """
    check_same_versions(job.versions)
    lm = job.load()
    check_same_model(lm, job.reference)
    context = new_context(lm, job.panel, job.trait, job.settings)
    yield Runner(context, job.plan, job.arms, None, lambda _: None)


def student_workers(
    engine: Engine,
    load: Callable[[], LanguageModel],
    lm: LanguageModel,
    panel: Panel,
    trait: str | None,
    settings: StudentSettings,
    logs: Path,
) -> Workers | None:
    """The workers of `engine` that train students of `lm`, which `load` gives on another machine;
    None where the engine is this process, which trains them one by one, and some not at all.
    """
    if engine.name == "local":
        return None

    def workers(
        plan: Plan, arms: Sequence[DatasetArm], most: int
    ) -> AbstractContextManager[Pool[Runner]]:
        reference = identity_of(lm).as_dict()
        job = StudentJob(load, reference, installed_versions(), panel, trait, settings, plan, arms)
        return engine.pool(partial(open_runner, job), most=most, on_device=True, logs=logs)

    return workers


def train_student(runner: Runner, item: tuple[int, int], tell: Tell) -> Unit:
    """The student of a block and of an arm, both by number. tell: of the updates done."""
    number, arm = item
    return runner.train(number, runner.arms[arm], tell)


def unit_name(block: int, arm: str) -> str:
    """Under which name a store keeps the student of an arm in a block."""
    return f"block {block} {arm}"


Workers = Callable[[Plan, Sequence[DatasetArm], int], AbstractContextManager[Pool["Runner"]]]
"""Opens at most so many workers for a plan and its arms, as `open_runner` makes them."""


class Runner:
    """Trains the students of one block after another, or finds them finished in the store."""

    def __init__(
        self,
        context: ExperimentContext,
        plan: Plan,
        arms: Sequence[DatasetArm],
        store: UnitStore | None,
        progress: Callable[[Progress], None],
    ) -> None:
        """`arms`: the control first, then the original; or one alone."""
        self._context, self._plan, self._store, self._progress = context, plan, store, progress
        self.arms = arms
        self._held_out: list[list[TrainingExample]] = []
        for arm in (arms[0], arms[min(1, len(arms) - 1)]):
            # What an arm masks is no less part of the task, so its loss is over all tokens.
            unmasked = replace(arm, masked={})
            examples = training_examples(context.renderer, context.encode, unmasked, plan.held_out)
            if plan.held_out and not examples:
                message = (
                    f"None of the {len(plan.held_out)} rows of {arm.name} that were to be held out"
                    " can be used."
                )
                hint = "Give rows that fit into the reference's context and its chat template."
                raise InputError(message, hint)
            self._held_out.append(list(examples.values()))
        # All students start as the reference, so that their first reading is its reading.
        self._before = context.read(context.lm)
        self.reference_loss = self._losses(context.lm)
        self._updates_done = 0

    def blocks(self, workers: Workers | None = None) -> Generator[dict[str, Unit], None, None]:
        """The students of one block after another, by the name of their arm. workers: who trains
        them; without any they are trained here, when they are asked for. Close it at the end.
        """
        if workers is None:
            yield from map(self.block, range(len(self._plan.blocks)))
            return
        arms, blocks = range(len(self.arms)), range(len(self._plan.blocks))
        items = [(number, arm) for number in blocks for arm in arms]
        units = {item: unit for item in items if (unit := self._load(*item)) is not None}
        due = [item for item in items if item not in units]
        before, total = len(units) * self._plan.updates, len(items) * self._plan.updates

        def show(tally: Tally) -> None:
            unit = f"updates ({tally.workers} workers)"
            self._progress(Progress("training students", before + tally.rows, total, unit))

        with ExitStack() as stack:
            trained: Iterator[tuple[int, Unit]] = iter(())
            if due:
                pool = stack.enter_context(workers(self._plan, self.arms, len(due)))
                trained = pool.map(train_student, due, show)
            for number in blocks:
                while any((number, arm) not in units for arm in arms):
                    position, unit = next(trained)
                    units[due[position]] = unit
                    self._save(*due[position], unit)
                yield {arm.name: units[number, i] for i, arm in enumerate(self.arms)}

    def _load(self, number: int, arm: int) -> Unit | None:
        name = unit_name(number, self.arms[arm].name)
        return self._store.load_unit(name) if self._store else None

    def _save(self, number: int, arm: int, unit: Unit) -> None:
        if self._store:
            self._store.save_unit(unit_name(number, self.arms[arm].name), unit)

    def block(self, number: int) -> dict[str, Unit]:
        """The students of one block by the name of their arm; several processes share them out."""
        mine = self.arms[processes.number() :: processes.count()]
        trained = {arm.name: self._load_or_train(number, arm) for arm in mine}
        # After this every student of the block is in the store, whichever process trained it.
        processes.wait()
        return {
            arm.name: trained.get(arm.name) or self._load_or_train(number, arm) for arm in self.arms
        }

    def _load_or_train(self, number: int, arm: DatasetArm) -> Unit:
        name = unit_name(number, arm.name)
        unit = self._store.load_unit(name) if self._store else None
        if unit is not None:
            # The progress counts what an earlier run has trained.
            self._updates_done += self._plan.updates
            LOG.debug("%s: loaded", name)
            return unit
        total = len(self._plan.blocks) * len(self.arms) * self._plan.updates
        before = self._updates_done

        def tell(updates: int) -> None:
            self._updates_done = before + updates
            self._progress(Progress("training students", self._updates_done, total, "updates"))

        unit = self.train(number, arm, tell)
        if self._store:
            self._store.save_unit(name, unit)
        return unit

    def train(self, number: int, arm: DatasetArm, tell: Tell) -> Unit:
        """Train the student of an arm in one block, and read it out at every checkpoint. tell: of
        the updates done.
        """
        context, plan = self._context, self._plan
        rows, blocks = plan.blocks[number], len(plan.blocks)
        added = [row for row in arm.rows if row < 0]
        # A block has this share of the original's rows, and gets as large a share of the added.
        fraction = len(rows) / max(1, len(arm.rows) - len(added))
        added_here = [
            row for row in added if share_of_added(row, blocks, fraction, context.seed) == number
        ]
        examples = training_examples(context.renderer, context.encode, arm, [*rows, *added_here])
        # All students of a block start from the same weights and take rows in the same order.
        student_seed = random.Random(f"{context.seed} student {number}").getrandbits(31)
        student = new_student(context.lm, context.training, student_seed)
        # With fewer updates than a pass not all rows are trained on, so they are counted.
        trained_rows: set[int] = set()

        def stream() -> Iterator[TrainingExample]:
            for row in row_order(list(examples), f"{context.seed} block {number}"):
                trained_rows.add(row)
                yield examples[row]

        batches = batched(stream(), context.training.batch, plan.updates)
        readings, tokens = [self._before], 0
        for update, count in enumerate(train(student, batches, context.training), start=1):
            tokens += count
            if update in plan.checkpoints:
                readings.append(context.read(student))
            tell(update)
        LOG.debug(
            "block %d, %s: %d of %d rows trained on, %d added, %d tokens",
            *(number, arm.name, len(trained_rows), len(examples), len(added_here), tokens),
        )
        return {
            "margins": np.stack([reading.margins for reading in readings]),
            "rates": np.stack([reading.rates for reading in readings]),
            "answers": np.stack([reading.answers for reading in readings]),
            "losses": np.array(self._losses(student)),
            "counts": np.array([len(trained_rows), tokens]),
            **(context.measure(student) if context.measure else {}),
        }

    def _losses(self, lm: LanguageModel) -> tuple[float, float]:
        """Nats a token on held-out rows of the control and of the original; NaN where the plan
        holds none out.
        """
        if not self._plan.held_out:
            return math.nan, math.nan
        control, original = (mean_loss(lm, examples) for examples in self._held_out)
        return control, original
