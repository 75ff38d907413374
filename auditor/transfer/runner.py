"""The students of an experiment, trained one block after another."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditor.encode import Renderer
from auditor.errors import InputError
from auditor.lm import LanguageModel
from auditor.records import Progress
from auditor.rundir import Units
from auditor.traits import Panel
from auditor.transfer import processes
from auditor.transfer.arms import Arm, row_order
from auditor.transfer.plan import Plan, share_of_added
from auditor.transfer.readout import Family, Reading, answer_support, families, read
from auditor.transfer.students import Encode, Lesson, Recipe, batched, lessons_of, mean_loss, new_student, train
from auditor.transfer.summary import Unit

Lessons = Mapping[int, Lesson]
Measure = Callable[[LanguageModel], Unit]

_REMEMBERED = 2**15  # encoded rows: the arms of a block share most of theirs


def nothing(_: LanguageModel) -> Unit:
    return {}


@dataclass(frozen=True)
class Lab:
    """What every student of an experiment shares. `encode` is the renderer's, and remembers its rows."""

    lm: LanguageModel
    renderer: Renderer
    encode: Encode
    families: Sequence[Family]
    support: Sequence[npt.NDArray[np.int64]]
    recipe: Recipe
    seed: int
    measure: Measure

    def read(self, student: LanguageModel) -> Reading:
        return read(student, self.families, self.support)


def new_lab(lm: LanguageModel, panel: Panel, trait: str | None, recipe: Recipe, seed: int, measure: Measure) -> Lab:
    renderer = Renderer(lm)
    read_out = families(renderer, panel, trait)
    encode = functools.lru_cache(_REMEMBERED)(renderer.encode)
    return Lab(lm, renderer, encode, read_out, answer_support(lm, read_out), recipe, seed, measure)


def unit_name(block: int, arm: str) -> str:
    """Under which name a store keeps the student of an arm in a block."""
    return f"block {block} {arm}"


class Runner:
    """Trains the students of one block after another, or finds them finished in the store."""

    def __init__(
        self,
        lab: Lab,
        plan: Plan,
        arms: Sequence[Arm],
        store: Units | None,
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
        return {arm.name: found.get(arm.name) or self._kept_or_trained(number, arm) for arm in self.arms}

    def _kept_or_trained(self, number: int, arm: Arm) -> Unit:
        name = unit_name(number, arm.name)
        unit = self._store.load_unit(name) if self._store else None
        if unit is not None:
            self._steps += self._plan.updates
            return unit
        unit = self._student(number, arm)
        if self._store:
            self._store.save_unit(name, unit)
        return unit

    def _student(self, number: int, arm: Arm) -> Unit:
        lab, plan = self._lab, self._plan
        lessons = lessons_of(lab.renderer, lab.encode, arm, self._rows(number, arm))
        seen: set[int] = set()
        student = new_student(lab.lm, lab.recipe, random.Random(f"{lab.seed} student {number}").getrandbits(31))
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

    def _rows(self, number: int, arm: Arm) -> list[int]:
        """Row numbers of one block, with the block's share of the rows that the arm has added."""
        rows = self._plan.blocks[number]
        added = [each for each in arm.rows if each < 0]
        fraction = len(rows) / max(1, len(arm.rows) - len(added))
        blocks = len(self._plan.blocks)
        return [*rows, *(each for each in added if share_of_added(each, blocks, fraction, self._lab.seed) == number)]

    def _losses(self, lm: LanguageModel) -> tuple[float, float]:
        """Nats a token on held-out rows of the control and of the original."""
        control, original = (mean_loss(lm, lessons) for lessons in self._held_out)
        return control, original


def _held_out(lab: Lab, arm: Arm, numbers: Sequence[int]) -> list[Lesson]:
    """Rows for the loss on the carrier task, whole: what an arm masks is no less part of the task."""
    found = list(lessons_of(lab.renderer, lab.encode, replace(arm, masked={}), numbers).values())
    if not found:
        message = f"None of the {len(numbers)} rows of {arm.name} that were to be held out can be used."
        raise InputError(message, "Give rows that fit into the reference's context and its chat template.")
    return found


def _noting(order: Iterator[int], lessons: Lessons, seen: set[int]) -> Iterator[Lesson]:
    """The lessons in order, noting in `seen` which were taken."""
    for number in order:
        seen.add(number)
        yield lessons[number]
