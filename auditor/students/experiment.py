"""The student-transfer experiment: train students on data sets that differ in one thing, and read
out what they like.

Rows that the original and the control share are dealt into disjoint blocks. In each block every arm
gets one student; all start from the same weights with the same LoRA, and take the same rows in the
same order in as many updates. What an arm did to a trait is the margin in its student minus that in
the control's, and the block is the unit of inference.
"""

from __future__ import annotations

import copy
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from auditor.errors import InputError
from auditor.inference.paired import settled
from auditor.model.language_model import LanguageModel
from auditor.progress import Progress
from auditor.runs.run_directory import UnitStore
from auditor.students import processes
from auditor.students.arms import DatasetArm
from auditor.students.plan import Cost, Plan, Size, duration, make_plan, size_of, within
from auditor.students.result import TransferResult
from auditor.students.runner import ExperimentContext, Measure, Runner, new_context, no_measurement
from auditor.students.summary import Unit, all_differences, arm_result, stack, training, warnings
from auditor.students.training import (
    TrainingConfig,
    TrainingExample,
    batched,
    new_student,
    train,
    training_examples,
)
from auditor.traits.panel import Panel

DOSES = (0.25, 0.5, 1.0)
_TIMED = 8  # control rows written to see how long one takes

Writer = Callable[[Sequence[int]], DatasetArm]


def run_transfer(
    lm: LanguageModel,
    arms: Sequence[DatasetArm],
    control: DatasetArm | Writer,
    panel: Panel,
    trait: str | None,
    *,
    blocks: int = 3,
    rows_per_block: int | None = None,
    updates: int | None = None,
    doses: Sequence[float] = DOSES,
    seed: int = 0,
    recipe: TrainingConfig | None = None,
    budget: float | None = None,
    stop_early: bool = True,
    store: UnitStore | None = None,
    measure: Measure = no_measurement,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TransferResult:
    """Train students on every arm and compare what they like with the control's students.

    arms: the original first; names differ. control: the clean arm, or a function that writes it for
        given rows. trait: of the panel; None reads out every trait. blocks: pairs of students; the
        unit of inference. rows_per_block: None is as many as there are. updates: of a student; None
        is one pass over its rows, or 60 where that is more.
    doses: shares of the updates, in (0, 1], after which students are read out. budget: seconds that
        training and writing the control may take; None is no limit. The size that fits is fixed
        before the first student, by the time of one update and one readout, so that a resumed run
        ends the same.
    stop_early: end before the last block when no verdict can change, see `compare.settled`. store:
        keeps finished students; the caller answers for it being the same experiment. Several
        processes (`transfer.processes`) need one, to share.
    measure: more arrays to keep of each trained student in its unit of the store, see `unit_name`.

    Raises: InputError for arms without rows in common, too few rows or too small a budget;
    TraitError for a trait that cannot be read out; ModelError for layers that the model lacks.
    """
    common = _common(arms, control)
    lm = (
        lm
        if lm.dtype == "float32"
        else replace(lm, dtype="float32", model=copy.deepcopy(lm.model).float())
    )
    lab = new_context(lm, panel, trait, recipe or TrainingConfig(), seed, measure)
    wanted = size_of(len(common), blocks, rows_per_block, updates, lab.recipe.batch)
    students = len(arms) + 1
    size = processes.in_turn(
        lambda: _size(lab, wanted, arms[0], control, students, doses, budget, store, progress)
    )
    plan = make_plan(common, size, doses, seed)
    if not isinstance(control, DatasetArm):
        write, needed = control, sorted({*itertools.chain(*plan.blocks), *plan.held_out})
        control = processes.in_turn(lambda: write(needed))
    runner = Runner(lab, plan, [control, *arms], store, progress)
    done: list[dict[str, Unit]] = []
    for number in range(len(plan.blocks)):
        done.append(runner.block(number))
        if (
            stop_early
            and trait is not None
            and _is_settled(done, arms, control, lab.families[0].names.index(trait), plan)
        ):
            break
    return _result(lab, plan, size, runner, done, trait)


def measured_cost(
    lm: LanguageModel,
    original: DatasetArm,
    control: DatasetArm,
    panel: Panel,
    trait: str,
    recipe: TrainingConfig,
    seed: int,
) -> Cost:
    """Seconds of one update and of one readout of a student of `original`, for who plans several
    experiments.
    """
    return _cost(new_context(lm, panel, trait, recipe, seed, no_measurement), original, control)


def _common(arms: Sequence[DatasetArm], control: DatasetArm | Writer) -> set[int]:
    """Original rows that the control has too; each arm has to have some of them."""
    names = [arm.name for arm in arms] + ([control.name] if isinstance(control, DatasetArm) else [])
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"{repeated[0]} is given twice.", "Give every data set once, under names that differ."
        )
    common = (
        set(arms[0].rows) & set(control.rows)
        if isinstance(control, DatasetArm)
        else set(arms[0].rows)
    )
    for arm in arms:
        if not common & arm.rows.keys():
            message = f"{arm.name} has no row in common with {arms[0].name} and the control."
            raise InputError(
                message, "Give data sets that were made from the original, which comes first."
            )
    return common


def _size(
    lab: ExperimentContext,
    wanted: Size,
    original: DatasetArm,
    control: DatasetArm | Writer,
    students: int,
    doses: Sequence[float],
    budget: float | None,
    store: UnitStore | None,
    progress: Callable[[Progress], None],
) -> Size:
    """The size of the experiment within the budget, with what it takes shown; decided once for a
    run.
    """
    kept = store.load_unit("size") if store else None
    if kept is not None:
        return Size(*(int(each) for each in kept["size"]))
    progress(Progress("timing one update and one readout", 0, None))
    cost = _cost(lab, original, control)
    readings = len(doses) + 1  # two losses on held-out rows at the end count as one reading more
    size = (
        wanted
        if budget is None
        else within(budget, wanted, cost, students, readings, lab.recipe.batch)
    )
    if store:
        store.save_unit("size", {"size": np.array([size.blocks, size.rows, size.updates])})
    about = duration(size.seconds(cost, students, readings))
    stage = (
        f"{size.blocks} blocks of {students} students, {size.updates} updates each: about {about}"
    )
    progress(Progress(stage, 0, None))
    return size


def _cost(lab: ExperimentContext, original: DatasetArm, control: DatasetArm | Writer) -> Cost:
    """Seconds, measured on a student that is thrown away; the first update, which is slower, does
    not count.
    """
    numbers = random.Random(lab.seed).sample(
        sorted(original.rows), min(len(original.rows), 2 * lab.recipe.batch)
    )
    lessons = list(training_examples(lab.renderer, lab.encode, original, numbers).values())
    student = new_student(lab.lm, lab.recipe, lab.seed)
    began = [time.perf_counter()]
    for _ in train(
        student,
        batched(itertools.cycle(lessons or [TrainingExample((), ())]), lab.recipe.batch, 2),
        lab.recipe,
    ):
        began.append(time.perf_counter())
    lab.read(student)
    began.append(time.perf_counter())
    row = 0.0
    if not isinstance(control, DatasetArm):
        control(sorted(numbers[:_TIMED]))
        row = (time.perf_counter() - began[-1]) / len(numbers[:_TIMED])
    return Cost(began[2] - began[1], began[3] - began[2], row)


def _is_settled(
    done: Sequence[dict[str, Unit]],
    arms: Sequence[DatasetArm],
    control: DatasetArm,
    place: int,
    plan: Plan,
) -> bool:
    students = {name: stack([block[name] for block in done]) for name in done[0]}
    original, *others = all_differences(students, [arm.name for arm in arms], control.name, place)
    return settled(others, original, len(plan.blocks))


def _result(
    lab: ExperimentContext,
    plan: Plan,
    size: Size,
    runner: Runner,
    done: Sequence[dict[str, Unit]],
    trait: str | None,
) -> TransferResult:
    students = {name: stack([block[name] for block in done]) for name in done[0]}
    control, original, *others = (arm.name for arm in runner.arms)
    results = tuple(
        arm_result(
            name,
            students[name],
            students[control],
            None if name == original else students[original],
            lab.families,
            trait,
            plan.doses,
        )
        for name in (original, *others)
    )
    clean = training(control, students[control])
    return TransferResult(
        trait=trait,
        transferred=results[0].verdict == "transfer shown",
        arms=results,
        control=clean,
        blocks=len(done),
        blocks_planned=len(plan.blocks),
        rows_per_block=size.rows,
        updates=plan.updates,
        reference_loss=runner.reference_loss,
        warnings=warnings(results, clean, trait, runner.reference_loss[0], lab.families, len(done)),
    )
