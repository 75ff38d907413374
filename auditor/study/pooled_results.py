"""Experiments on several traits taken together. Pure functions.

A pair of students (one block of one trait) is the unit. The t interval over all pairs holds for the
mean over the traits that were studied, and is too wide rather than too narrow where traits differ;
it says nothing of other traits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from auditor.inference.paired import effect, transferred
from auditor.students.result import ArmResult, Point, TransferResult
from auditor.students.summary import ratio_and_verdict


def pool(results: Sequence[TransferResult]) -> TransferResult:
    """One result from those of several traits with the same checkpoints; an arm is pooled over the
    results that have it.

    Effects are over all pairs; counts are summed, losses averaged; what belongs to one trait (rank,
    readout of the others) is left empty.
    """
    names = list(dict.fromkeys(arm.name for result in results for arm in result.arms))
    arms = tuple(_pooled_arm(results, name) for name in names)
    return replace(
        results[0],
        trait=", ".join(dict.fromkeys(result.trait or "" for result in results)),
        transferred=transferred(arms[0].final_effect),
        arms=arms,
        blocks=sum(result.blocks for result in results),
        blocks_planned=sum(result.blocks_planned for result in results),
        warnings=tuple(dict.fromkeys(chain.from_iterable(result.warnings for result in results))),
    )


def _pooled_arm(results: Sequence[TransferResult], name: str) -> ArmResult:
    # The original counts only in the traits that have the arm: the two are paired.
    having = [(arm, result.arms[0]) for result in results if (arm := result.arm(name))]
    arms = [arm for arm, _ in having]
    curve = tuple(
        Point(
            points[0].updates,
            effect([value for point in points if point.effect for value in point.effect.blocks]),
            *(None,) * 3,
        )
        for points in zip(*(arm.curve for arm in arms), strict=True)
    )
    paired = [value for arm, _ in having for value in arm.final_effect.blocks]
    originals = [value for _, original in having for value in original.final_effect.blocks]
    is_original = name == results[0].arms[0].name
    ratio, answer = ratio_and_verdict(paired, None if is_original else originals)
    training = replace(
        arms[0].training,
        rows=sum(arm.training.rows for arm in arms),
        tokens=sum(arm.training.tokens for arm in arms),
        task_loss=sum(arm.training.task_loss for arm in arms) / len(arms),
        original_loss=sum(arm.training.original_loss for arm in arms) / len(arms),
    )
    return ArmResult(training, curve, (), None, ratio, answer)
