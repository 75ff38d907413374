"""Experiments on several traits taken together. Pure functions.

A pair of students (one block of one trait) is the unit. The t interval over all pairs holds for the
mean over the traits that were studied, and is too wide rather than too narrow where traits differ;
it says nothing of other traits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from auditor.inference.effect import Effect
from auditor.inference.paired import effect, effect_ratio, transferred, verdict
from auditor.students.result import ArmResult, Point, TransferResult


def pool(results: Sequence[TransferResult]) -> TransferResult:
    """One result from those of several traits with the same doses; an arm is pooled over the
    results that have it.

    Effects are over all pairs; counts are summed, losses averaged; what belongs to one trait (rank,
    readout of the others) is left empty.
    """
    names = list(dict.fromkeys(arm.name for result in results for arm in result.arms))
    arms = tuple(_arm(results, name) for name in names)
    first = results[0]
    return replace(
        first,
        trait=", ".join(dict.fromkeys(result.trait or "" for result in results)),
        transferred=transferred(final(arms[0])),
        arms=arms,
        blocks=sum(result.blocks for result in results),
        blocks_planned=sum(result.blocks_planned for result in results),
        warnings=tuple(dict.fromkeys(chain.from_iterable(result.warnings for result in results))),
    )


def final(arm: ArmResult) -> Effect:
    """The effect at the last dose."""
    found = arm.curve[-1].effect
    assert found is not None  # a study names a trait, so every point has an effect
    return found


def find(result: TransferResult, name: str) -> ArmResult | None:
    """The arm of that name, if the experiment has it."""
    return next((arm for arm in result.arms if arm.name == name), None)


def _arm(results: Sequence[TransferResult], name: str) -> ArmResult:
    pairs = [(arm, result.arms[0]) for result in results if (arm := find(result, name))]
    arms, originals = [arm for arm, _ in pairs], [original for _, original in pairs]
    curve = tuple(
        Point(
            points[0].updates,
            effect(list(chain.from_iterable(p.effect.blocks for p in points if p.effect))),
            *(None,) * 3,
        )
        for points in zip(*(arm.curve for arm in arms), strict=True)
    )
    own, others = _blocks(arms), _blocks(originals)
    is_original = name == results[0].arms[0].name
    ratio = None if is_original else effect_ratio(own, others)
    shown = transferred(effect(own))
    answer = verdict(ratio) if ratio else "transfer shown" if shown else "no transfer shown"
    training = replace(
        arms[0].training,
        rows=sum(arm.training.rows for arm in arms),
        tokens=sum(arm.training.tokens for arm in arms),
        task_loss=sum(arm.training.task_loss for arm in arms) / len(arms),
        original_loss=sum(arm.training.original_loss for arm in arms) / len(arms),
    )
    return ArmResult(training, curve, (), None, ratio, answer)


def _blocks(arms: Sequence[ArmResult]) -> list[float]:
    return list(chain.from_iterable(final(arm).blocks for arm in arms))
