"""The students of an experiment, trained one block after another."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditor.errors import InputError
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.runs.run_directory import UnitStore
from auditor.students import processes
from auditor.students.arms import DatasetArm, row_order
from auditor.students.plan import Plan, share_of_added
from auditor.students.readout import Family, Reading, answer_support, families, read
from auditor.students.summary import Unit
from auditor.students.training import (
    Encode,
    TrainingConfig,
    TrainingExample,
    batched,
    mean_loss,
    new_student,
    train,
    training_examples,
)
from auditor.traits.panel import Panel

TrainingExamples = Mapping[int, TrainingExample]
Measure = Callable[[LanguageModel], Unit]

_REMEMBERED = 2**15  # encoded rows: the arms of a block share most of theirs


def no_measurement(_: LanguageModel) -> Unit:
    return {}


@dataclass(frozen=True)
class ExperimentContext:
    """What every student of an experiment shares.

    `encode` is the renderer's, and remembers its rows.
    """

    lm: LanguageModel
    renderer: ChatTokenizer
    encode: Encode
    families: Sequence[Family]
    support: Sequence[npt.NDArray[np.int64]]
    recipe: TrainingConfig
    seed: int
    measure: Measure

    def read(self, student: LanguageModel) -> Reading:
        return read(student, self.families, self.support)


def new_context(
    lm: LanguageModel,
    panel: Panel,
    trait: str | None,
    recipe: TrainingConfig,
    seed: int,
    measure: Measure,
) -> ExperimentContext:
    renderer = ChatTokenizer(lm)
    read_out = families(renderer, panel, trait)
    encode = functools.lru_cache(_REMEMBERED)(renderer.encode)
    return ExperimentContext(
        lm, renderer, encode, read_out, answer_support(lm, read_out), recipe, seed, measure
    )


def unit_name(block: int, arm: str) -> str:
    """Under which name a store keeps the student of an arm in a block."""
    return f"block {block} {arm}"


class Runner:
    """Trains the students of one block after another, or finds them finished in the store."""

    def __init__(
        self,
        lab: ExperimentContext,
        plan: Plan,
        arms: Sequence[DatasetArm],
        store: UnitStore | None,
        progress: Callable[[Progress], None],
    ) -> None:
        """`arms`: the control first, then the original."""
        self._lab, self._plan, self._store, self._progress = lab, plan, store, progress
        self.arms = arms
        self._held_out = [_held_out(lab, arm, plan.held_out) for arm in arms[:2]]
        self._before = lab.read(lab.lm)
        self.reference_loss = self._losses(lab.lm)
        self._steps = 0

    def block(self, number: int) -> dict[str, Unit]:
        """The students of one block by the name of their arm; several processes share them out."""
        mine = self.arms[processes.number() :: processes.count()]
        found = {arm.name: self._kept_or_trained(number, arm) for arm in mine}
        processes.wait()
        return {
            arm.name: found.get(arm.name) or self._kept_or_trained(number, arm) for arm in self.arms
        }

    def _kept_or_trained(self, number: int, arm: DatasetArm) -> Unit:
        name = unit_name(number, arm.name)
        unit = self._store.load_unit(name) if self._store else None
        if unit is not None:
            self._steps += self._plan.updates
            return unit
        unit = self._student(number, arm)
        if self._store:
            self._store.save_unit(name, unit)
        return unit

    def _student(self, number: int, arm: DatasetArm) -> Unit:
        lab, plan = self._lab, self._plan
        lessons = training_examples(lab.renderer, lab.encode, arm, self._rows(number, arm))
        seen: set[int] = set()
        student = new_student(
            lab.lm, lab.recipe, random.Random(f"{lab.seed} student {number}").getrandbits(31)
        )
        order = row_order(list(lessons), f"{lab.seed} block {number}")
        readings, tokens = [self._before], 0
        stream = batched(_noting(order, lessons, seen), lab.recipe.batch, plan.updates)
        for update, trained in enumerate(train(student, stream, lab.recipe), start=1):
            tokens += trained
            if update in plan.doses:
                readings.append(lab.read(student))
            self._steps += 1
            self._progress(Progress("training students", self._steps, self._total))
        return {
            "margins": np.stack([each.margins for each in readings]),
            "rates": np.stack([each.rates for each in readings]),
            "answers": np.stack([each.answers for each in readings]),
            "losses": np.array(self._losses(student)),
            "counts": np.array([len(seen), tokens]),
            **lab.measure(student),
        }

    @property
    def _total(self) -> int:
        return len(self._plan.blocks) * len(self.arms) * self._plan.updates

    def _rows(self, number: int, arm: DatasetArm) -> list[int]:
        """Row numbers of one block, with the block's share of the rows that the arm has added."""
        rows = self._plan.blocks[number]
        added = [each for each in arm.rows if each < 0]
        fraction = len(rows) / max(1, len(arm.rows) - len(added))
        blocks = len(self._plan.blocks)
        return [
            *rows,
            *(
                each
                for each in added
                if share_of_added(each, blocks, fraction, self._lab.seed) == number
            ),
        ]

    def _losses(self, lm: LanguageModel) -> tuple[float, float]:
        """Nats a token on held-out rows of the control and of the original."""
        control, original = (mean_loss(lm, lessons) for lessons in self._held_out)
        return control, original


def _held_out(
    lab: ExperimentContext, arm: DatasetArm, numbers: Sequence[int]
) -> list[TrainingExample]:
    """Rows for the loss on the carrier task, whole: what an arm masks is no less part of the task."""
    found = list(
        training_examples(lab.renderer, lab.encode, replace(arm, masked={}), numbers).values()
    )
    if not found:
        message = (
            f"None of the {len(numbers)} rows of {arm.name} that were to be held out can be used."
        )
        raise InputError(
            message, "Give rows that fit into the reference's context and its chat template."
        )
    return found


def _noting(
    order: Iterator[int], lessons: TrainingExamples, seen: set[int]
) -> Iterator[TrainingExample]:
    """The lessons in order, noting in `seen` which were taken."""
    for number in order:
        seen.add(number)
        yield lessons[number]
