"""The student-transfer experiment: train students on data sets that differ in one thing, and read
out what they like.

Rows that the original and the control share are dealt into disjoint blocks. In each block every arm
gets one student; all start from the same weights with the same LoRA, and take the same rows in the
same order in as many updates. What an arm did to a trait is the margin in its student minus that in
the control's, and the block is the unit of inference.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from auditor.errors import InputError
from auditor.inference.paired import settled
from auditor.model.language_model import LanguageModel
from auditor.model.unit_store import Unit, UnitStore
from auditor.progress import Progress, announce
from auditor.students import processes
from auditor.students.arms import DatasetArm
from auditor.students.plan import Cost, Size, make_plan, size_of, within
from auditor.students.result import TransferResult
from auditor.students.runner import ExperimentContext, Measure, Runner, Workers, new_context
from auditor.students.settings import StudentSettings
from auditor.students.summary import arm_result, differences, stack, training, warnings
from auditor.students.training import (
    TrainingExample,
    batched,
    float32_copy,
    new_student,
    train,
    training_examples,
)
from auditor.traits.panel import Panel

CHECKPOINTS = (0.25, 0.5, 1.0)  # shares of the updates after which students are read out
_TIMED_ROWS = 8  # control rows written to see how long one takes

Writer = Callable[[Sequence[int]], DatasetArm]

LOG = logging.getLogger(__name__)


def run_transfer(
    lm: LanguageModel,
    arms: Sequence[DatasetArm],
    control: DatasetArm | Writer,
    panel: Panel,
    trait: str | None,
    settings: StudentSettings,
    *,
    checkpoint_fractions: Sequence[float] = CHECKPOINTS,
    stop_early: bool = True,
    store: UnitStore | None = None,
    measure: Measure | None = None,
    workers: Workers | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TransferResult:
    """Train students on every arm and compare what they like with the control's students.

    arms: the original first; names differ. control: the clean arm, or a function that writes it for
        some rows. trait: of the panel; None reads out every trait. settings: how large and how; its
        reference, panels and device are those of `lm` and `panel`. A budget counts for training and
        writing the control: the size that fits is fixed before the first student, by the time of
        one update and one readout, so that a resumed run ends the same.
    checkpoint_fractions: shares of the updates, in (0, 1], after which students are read out.
    stop_early: end before the last block when no verdict can change, see
        `auditor.inference.paired.settled`. store: keeps finished students; the caller answers for
        it being the same experiment. Several processes (`auditor.students.processes`) need one, to
        share.
    measure: more arrays to keep of each trained student in its unit of the store, see `unit_name`.
    workers: who trains the students; without them, which `measure` cannot be given with, this
        process does.

    Raises: InputError for arms without rows in common, too few rows or too small a budget;
    TraitError for a trait that cannot be read out; ModelError for layers that the model lacks.
    """
    common = _common_rows(arms, control)
    LOG.info("students of %s are trained by %s", lm.name, settings.training_for(lm))
    # In bfloat16 an update is lost in rounding, and with it most of the effect.
    if lm.dtype != "float32":
        lm = float32_copy(lm)
    context = new_context(lm, panel, trait, settings, measure)
    largest = size_of(
        len(common), settings.blocks, settings.rows, settings.updates, context.training.batch
    )
    # Two losses on held-out rows at the end take as long as one reading more.
    readings = len(checkpoint_fractions) + 1

    def affordable_size() -> Size:
        progress(Progress("timing one update and one readout", 0, None))
        cost = measured_cost(context, arms[0], control)
        LOG.info("measured %s", cost)
        students, size = len(arms) + 1, largest
        if settings.budget is not None:
            batch = context.training.batch
            size = within(settings.budget, largest, cost, students, readings, batch)
        work = f"{size.blocks} blocks of {students} students, {size.updates} updates each"
        announce(progress, work, size.seconds(cost, students, readings))
        return size

    size = processes.in_turn(lambda: Size.load_or_decide(store, "size", affordable_size))
    plan = make_plan(common, size, checkpoint_fractions, settings.seed)
    LOG.info("%s, %d rows held out, read at %s", size, len(plan.held_out), plan.checkpoints)
    if not isinstance(control, DatasetArm):
        # Only the rows of the plan are written: with a budget they may be few.
        write, needed = control, sorted({*itertools.chain(*plan.blocks), *plan.held_out})
        control = processes.in_turn(lambda: write(needed))
    runner = Runner(context, plan, [control, *arms], store, progress)
    blocks: list[dict[str, Unit]] = []
    with closing(runner.blocks(workers)) as trained:
        for students_of_block in trained:
            blocks.append(students_of_block)
            # An interim analysis after every block; the open readout has no one effect to settle.
            if stop_early and trait is not None:
                students, index = stack(blocks), context.families[0].names.index(trait)
                # The control of a block is the same for all arms, so their effects are paired.
                original, *mitigated = (
                    differences(students[arm.name], students[control.name], index) for arm in arms
                )
                if settled(mitigated, original, len(plan.blocks)):
                    LOG.info("settled after %d of %d blocks", len(blocks), len(plan.blocks))
                    break
    students = stack(blocks)
    results = tuple(
        arm_result(
            arm.name,
            students[arm.name],
            students[control.name],
            None if arm is arms[0] else students[arms[0].name],
            context.families,
            trait,
            plan.checkpoints,
        )
        for arm in arms
    )
    clean, loss = training(control.name, students[control.name]), runner.reference_loss
    return TransferResult(
        trait=trait,
        transferred=results[0].verdict == "transfer shown",
        arms=results,
        control=clean,
        blocks=len(blocks),
        blocks_planned=len(plan.blocks),
        rows_per_block=size.rows,
        updates=plan.updates,
        reference_loss=loss,
        warnings=warnings(results, clean, trait, loss[0], context.families, len(blocks)),
    )


def train_blocks(
    lm: LanguageModel,
    arms: Sequence[DatasetArm],
    panel: Panel,
    settings: StudentSettings,
    *,
    store: UnitStore,
    measure: Measure | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Iterator[dict[str, Unit]]:
    """Train students of every arm, one block of rows after another, and yield the units of a block
    by the name of the arm: every trait is read out before and after the training.

    settings: its blocks and updates; the blocks share out the rows of the first arm. Nothing is
    compared here, so that a caller may stop after any block.

    Raises: InputError for too few rows; TraitError for a panel of which nothing can be read out.
    """
    if lm.dtype != "float32":
        lm = float32_copy(lm)
    context = new_context(lm, panel, None, settings, measure)
    batch, available = context.training.batch, len(arms[0].rows)
    size = size_of(available, settings.blocks, settings.rows, settings.updates, batch)
    # Nobody asks for the losses on the rows held out.
    plan = replace(make_plan(arms[0].rows, size, (1.0,), settings.seed), held_out=())
    progress(Progress("timing one update and one readout", 0, None))
    seconds = size.seconds(measured_cost(context, arms[0], arms[0]), len(arms), 1)
    work = f"{size.blocks} blocks of {len(arms)} students, {size.updates} updates each, at most"
    announce(progress, work, seconds)
    runner = Runner(context, plan, arms, store, progress)
    yield from runner.blocks()


def _common_rows(arms: Sequence[DatasetArm], control: DatasetArm | Writer) -> set[int]:
    """Original rows that the control has too; every arm has to have some of them."""
    given_control = [control] if isinstance(control, DatasetArm) else []
    names = [arm.name for arm in (*arms, *given_control)]
    for name in names:
        if names.count(name) > 1:
            hint = "Give every data set once, under names that differ."
            raise InputError(f"{name} is given twice.", hint)
    # A control that is written later has every row of the original.
    common = set(arms[0].rows).intersection(*(arm.rows for arm in given_control))
    for arm in arms:
        if not common & arm.rows.keys():
            message = f"{arm.name} has no row in common with {arms[0].name} and the control."
            hint = "Give data sets that were made from the original, which comes first."
            raise InputError(message, hint)
        LOG.info("%s: %d of %d common rows", arm.name, len(common & arm.rows.keys()), len(common))
    return common


def measured_cost(
    context: ExperimentContext, original: DatasetArm, control: DatasetArm | Writer
) -> Cost:
    """Seconds of one update, one readout and one row of the control, measured on a student that is
    thrown away; the first update, which is slower, does not count.
    """
    config = context.training
    count = min(len(original.rows), 2 * config.batch)
    numbers = random.Random(context.seed).sample(sorted(original.rows), count)
    examples = training_examples(context.renderer, context.encode, original, numbers)
    # A data set without a usable row is refused later, with a better message.
    repeated = itertools.cycle(list(examples.values()) or [TrainingExample((), ())])
    student = new_student(context.lm, config, context.seed)
    times = [time.perf_counter()]
    for _ in train(student, batched(repeated, config.batch, 2), config):
        times.append(time.perf_counter())
    context.read(student)
    times.append(time.perf_counter())
    row = 0.0
    if not isinstance(control, DatasetArm):
        timed = sorted(numbers[:_TIMED_ROWS])
        control(timed)
        row = (time.perf_counter() - times[-1]) / len(timed)
    return Cost(times[2] - times[1], times[3] - times[2], row)
