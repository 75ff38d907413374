"""From the students' readings to the result of an experiment. Pure functions.

The unit of a student holds its readings: margins and rates [C, W], answers [C, Q, S + 1], two
losses, and the counts of its rows and tokens. Of all blocks together they have a leading B.

Shapes: B blocks, C checkpoints, W traits over all families, Q probe questions, S answers that are
told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from auditor.inference.effect import Ratio, TransferVerdict
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
from auditor.model.unit_store import Unit
from auditor.students.readout import Family
from auditor.students.result import ArmResult, Point, Training, TraitEffect

SIGNIFICANT = 0.05
FEW_UPDATES = 16  # transfer has not been measured with fewer
UNEQUAL = 0.02  # relative difference in trained tokens that is worth a warning
# An arm is suspect that learns less of the task than this share of what the original teaches.
LEARNED = 0.5


def stack(blocks: Sequence[Mapping[str, Unit]]) -> dict[str, Unit]:
    """The students of every arm by its name, with a leading B, from those of each block."""
    return {
        name: {key: np.stack([block[name][key] for block in blocks]) for key in unit}
        for name, unit in blocks[0].items()
    }


def differences(arm: Unit, control: Unit, trait_index: int, checkpoint: int = -1) -> list[float]:
    """[B] Paired effects on one trait: the margins of an arm's students less the control's."""
    margins_B = (arm["margins"] - control["margins"])[:, checkpoint, trait_index]
    return [float(margin) for margin in margins_B]


def training(name: str, arm: Unit) -> Training:
    """What the arm's students were trained on."""
    rows, tokens = (int(count) for count in arm["counts"].sum(0))
    task, original = (float(loss) for loss in arm["losses"].mean(0))
    return Training(name, rows, tokens, task, original)


def arm_result(
    name: str,
    arm: Unit,
    control: Unit,
    original: Unit | None,
    read_out: Sequence[Family],
    trait: str | None,
    checkpoints: Sequence[int],
) -> ArmResult:
    """One arm against the control; `original` is None for the original itself."""
    index = None if trait is None else read_out[0].names.index(trait)
    traits = trait_effects(arm, control, read_out)
    curve = tuple(
        _point(arm, control, index, checkpoint, updates)
        for checkpoint, updates in enumerate(checkpoints)
    )
    answer: TransferVerdict | None = None
    if index is None:
        if original is None:
            # The open readout asks no trait by name: the largest effect has to stand out from its
            # group after correction, and be told from 0 as well.
            p, best = traits[0].p_adjusted, traits[0].effect
            stands_out = p is not None and p <= SIGNIFICANT and transferred(best)
            answer = "transfer shown" if stands_out else "no transfer shown"
        return ArmResult(training(name, arm), curve, traits, None, None, answer)
    of_original = None if original is None else differences(original, control, index)
    ratio, answer = ratio_and_verdict(differences(arm, control, index), of_original)
    names = [estimate.name for estimate in traits]
    # Traits stand by falling effect, but equal effects share the better rank.
    values = [estimate.effect.value for estimate in traits]
    position = rank(values, names.index(trait or ""))
    return ArmResult(training(name, arm), curve, traits, position, ratio, answer)


def ratio_and_verdict(
    paired: Sequence[float], original: Sequence[float] | None
) -> tuple[Ratio | None, TransferVerdict]:
    """What is left of the original's paired effects [B] in those of an arm, and the verdict on it.

    original: None for the original itself, which is judged by whether it transferred.
    """
    if original is None:
        return None, "transfer shown" if transferred(effect(paired)) else "no transfer shown"
    ratio = effect_ratio(paired, original)
    return ratio, verdict(ratio)


def trait_effects(arm: Unit, control: Unit, read_out: Sequence[Family]) -> tuple[TraitEffect, ...]:
    """The effect on every trait at the last checkpoint, largest first."""
    count = sum(len(family.names) for family in read_out)
    estimates: list[TraitEffect] = []
    for family in read_out:
        start = len(estimates)
        effects = [effect(differences(arm, control, start + i)) for i in range(len(family.names))]
        means = [estimate.value for estimate in effects]
        for i, name in enumerate(family.names):
            # The other traits of the group are the negative controls of this one.
            z, p = negative_control_test(means, i) or (None, None)
            adjusted = None if p is None else min(1.0, p * count)
            estimates.append(TraitEffect(name, family.group, effects[i], z, p, adjusted))
    return tuple(sorted(estimates, key=lambda estimate: -estimate.effect.value))


def _point(
    arm: Unit, control: Unit, trait_index: int | None, checkpoint: int, updates: int
) -> Point:
    pairs = zip(arm["answers"][:, checkpoint], control["answers"][:, checkpoint], strict=True)
    # Without probe questions there is nothing to compare but the stems' margins.
    has_probes = arm["answers"].shape[2] > 0
    distance = float(np.mean([total_variation(*pair) for pair in pairs])) if has_probes else None
    if trait_index is None:
        return Point(updates, None, None, None, distance)
    rates = [
        float(unit["rates"][:, checkpoint, trait_index].mean()) if has_probes else None
        for unit in (arm, control)
    ]
    paired = effect(differences(arm, control, trait_index, checkpoint))
    return Point(updates, paired, rates[0], rates[1], distance)


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
    updates = original.curve[-1].updates
    shown = original.verdict == "transfer shown"
    sentences = []
    if blocks < MIN_BLOCKS:
        sentences.append(
            f"There are {blocks} blocks;"
            f" intervals over fewer than {MIN_BLOCKS} say next to nothing."
        )
    if updates < FEW_UPDATES:
        sentences.append(f"Students took {updates} updates; transfer is not known with so few.")
    if shown and original.rank is not None and original.rank > 1:
        sentences.append(
            f"The original moves {original.traits[0].name} more than the trait asked for."
        )
    # A trait that is asked for but moves no more than its group may be carried by another one.
    p_values = {estimate.name: estimate.p_value for estimate in original.traits}
    p_value = p_values.get(trait or "")
    if shown and p_value is not None and p_value > SIGNIFICANT:
        sentences.append(
            f"Other traits stray as far as {trait} (p = {p_value:.2f}):"
            " the effect may be another one's."
        )
    for trained in (control, *(arm.training for arm in arms[1:])):
        for unit in ("rows", "tokens"):
            count = getattr(original.training, unit)
            change = getattr(trained, unit) / max(1, count) - 1
            if abs(change) > UNEQUAL:
                more = "more" if change > 0 else "fewer"
                sentences.append(
                    f"{trained.name} trains on {abs(change):.0%} {more} {unit} than the original."
                )
    for arm in arms[1:]:
        # A defence that stops learning altogether also stops the trait: that is no success. Where
        # students of the original learned nothing either, there is no less.
        learned, by_original = (
            reference_loss - side.training.task_loss for side in (arm, original)
        )
        if by_original > 0 and learned < LEARNED * by_original:
            sentences.append(
                f"Students of {arm.name} learn the task itself much less"
                " than those of the original."
            )
    sentences += [sentence for family in read_out for sentence in _not_read(family)]
    return tuple(sentences)


def _not_read(family: Family) -> list[str]:
    sentences = []
    if family.left_out:
        names = ", ".join(family.left_out)
        sentences.append(f"Not read out, since their answer is not one token of its own: {names}.")
    if not family.probes:
        sentences.append(
            f"Questions of the group {family.group} are not read, only stems:"
            " too few answers are one token."
        )
    return sentences
