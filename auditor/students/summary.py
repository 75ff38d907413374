"""From the students' readings to the result of an experiment. Pure functions.

Shapes: B blocks, D doses, W traits over all families, Q probe questions, S answers told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.inference.effect import TransferVerdict
from auditor.inference.paired import (
    MIN_BLOCKS,
    effect,
    effect_ratio,
    negative_control_test,
    rank,
    total_variation,
    transferred,
    verdict,
)
from auditor.students.readout import Family
from auditor.students.result import ArmResult, Point, Training, TraitEffect

Unit = dict[str, npt.NDArray[Any]]

SIGNIFICANT = 0.05
FEW_UPDATES = 16  # transfer has not been measured with fewer
UNEQUAL = 0.02  # relative difference in trained tokens that is worth a warning
# an arm that learns less of the carrier task than this share of what the original teaches is
# suspect
LEARNED = 0.5


def stack(units: Sequence[Unit]) -> Unit:
    """One student a block to arrays with a leading B."""
    return {key: np.stack([unit[key] for unit in units]) for key in units[0]}


def differences(arm: Unit, control: Unit, place: int, dose: int = -1) -> list[float]:
    """[B] paired effects on the trait at `place`."""
    return [float(each) for each in (arm["margins"] - control["margins"])[:, dose, place]]


def training(name: str, arm: Unit) -> Training:
    """What the arm's students were trained on."""
    rows, tokens = (int(each) for each in arm["counts"].sum(0))
    task, original = (float(each) for each in arm["losses"].mean(0))
    return Training(name, rows, tokens, task, original)


def arm_result(
    name: str,
    arm: Unit,
    control: Unit,
    original: Unit | None,
    read_out: Sequence[Family],
    trait: str | None,
    doses: Sequence[int],
) -> ArmResult:
    """One arm against the control; `original` is None for the original itself."""
    place = None if trait is None else read_out[0].names.index(trait)
    traits = trait_effects(arm, control, read_out)
    curve = tuple(_point(arm, control, place, dose, updates) for dose, updates in enumerate(doses))
    if place is None:
        answer = _shown(named(traits) is not None) if original is None else None
        return ArmResult(training(name, arm), curve, traits, None, None, answer)
    own = differences(arm, control, place)
    ratio = None if original is None else effect_ratio(own, differences(original, control, place))
    answer = _shown(transferred(effect(own))) if ratio is None else verdict(ratio)
    order = [float(each.effect.value) for each in traits]
    own_place = next(i for i, each in enumerate(traits) if each.name == trait)
    return ArmResult(training(name, arm), curve, traits, rank(order, own_place), ratio, answer)


def _shown(transfer: bool) -> TransferVerdict:
    return "transfer shown" if transfer else "no transfer shown"


def named(traits: Sequence[TraitEffect]) -> TraitEffect | None:
    """The largest effect, if it stands out from its group after correction and its interval lies
    above 0.
    """
    best = traits[0]
    clear = (
        best.p_adjusted is not None and best.p_adjusted <= SIGNIFICANT and transferred(best.effect)
    )
    return best if clear else None


def trait_effects(arm: Unit, control: Unit, read_out: Sequence[Family]) -> tuple[TraitEffect, ...]:
    """The effect on every trait at the last dose, largest first."""
    count = sum(len(family.names) for family in read_out)
    found = []
    start = 0
    for family in read_out:
        effects = [effect(differences(arm, control, start + i)) for i in range(len(family.names))]
        means = [each.value for each in effects]
        for i, (name, each) in enumerate(zip(family.names, effects, strict=True)):
            z, p = negative_control_test(means, i) or (None, None)
            adjusted = None if p is None else min(1.0, p * count)
            found.append(TraitEffect(name, family.group, each, z, p, adjusted))
        start += len(family.names)
    return tuple(sorted(found, key=lambda each: -each.effect.value))


def _point(arm: Unit, control: Unit, place: int | None, dose: int, updates: int) -> Point:
    answers, others = arm["answers"][:, dose], control["answers"][:, dose]
    asked = answers.shape[1] > 0
    distance = None
    if asked:
        distance = float(
            np.mean([total_variation(*pair) for pair in zip(answers, others, strict=True)])
        )
    if place is None:
        return Point(updates, None, None, None, distance)
    rates = [
        float(each["rates"][:, dose, place].mean()) if asked else None for each in (arm, control)
    ]
    return Point(
        updates, effect(differences(arm, control, place, dose)), rates[0], rates[1], distance
    )


def warnings(
    arms: Sequence[ArmResult],
    control: Training,
    trait: str | None,
    reference_loss: float,
    read_out: Sequence[Family],
    blocks: int,
) -> tuple[str, ...]:
    """What a reader has to know before believing the table, one sentence each."""
    original = arms[0]
    said = []
    if blocks < MIN_BLOCKS:
        said.append(
            f"There are {blocks} blocks; intervals over fewer than {MIN_BLOCKS} say next to nothing."
        )
    if original.curve[-1].updates < FEW_UPDATES:
        said.append(
            f"Students took {original.curve[-1].updates} updates; transfer is not known with so few."
        )
    if original.rank is not None and original.rank > 1 and original.verdict == "transfer shown":
        said.append(f"The original moves {original.traits[0].name} more than the trait asked for.")
    own = next((each for each in original.traits if each.name == trait), None)
    if (
        own is not None
        and own.p_value is not None
        and own.p_value > SIGNIFICANT
        and original.verdict == "transfer shown"
    ):
        said.append(
            f"Other traits stray as far as {trait} (p = {own.p_value:.2f}): the effect may be another one's."
        )
    for each in (control, *(arm.training for arm in arms[1:])):
        said += _unequal(each, original.training)
    for arm in arms[1:]:
        learned = reference_loss - arm.training.task_loss
        if learned < LEARNED * (reference_loss - original.training.task_loss):
            said.append(
                f"Students of {arm.name} learn the task itself much less than those of the original."
            )
    said += [sentence for family in read_out for sentence in _unread(family)]
    return tuple(said)


def _unequal(arm: Training, original: Training) -> list[str]:
    said = []
    for what, own, other in (
        ("rows", arm.rows, original.rows),
        ("tokens", arm.tokens, original.tokens),
    ):
        change = own / max(1, other) - 1
        if abs(change) > UNEQUAL:
            more = "more" if change > 0 else "fewer"
            said.append(f"{arm.name} trains on {abs(change):.0%} {more} {what} than the original.")
    return said


def _unread(family: Family) -> list[str]:
    said = []
    if family.left_out:
        names = ", ".join(family.left_out)
        said.append(f"Not read out, since their answer is not one token of its own: {names}.")
    if not family.probes:
        said.append(
            f"Questions of the group {family.group} are not read, only stems: too few answers are one token."
        )
    return said


def all_differences(
    students: Mapping[str, Unit], names: Sequence[str], control: str, place: int
) -> list[list[float]]:
    """Paired effects [arms][B] of the arms `names`."""
    return [differences(students[name], students[control], place) for name in names]
