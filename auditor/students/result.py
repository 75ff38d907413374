"""The frozen values that a student-transfer experiment ends with.

Numbers are in logits unless another unit is named.
"""

from __future__ import annotations

from dataclasses import dataclass

from auditor.inference.effect import Effect, Ratio, TransferVerdict
from auditor.model.identity import ModelIdentity


@dataclass(frozen=True, slots=True)
class TraitEffect:
    """The effect on one trait of the panel, at the last checkpoint.

    z: the effect less the mean of the other traits' of its group, in standard deviations of these
    others (negative controls). p_value: one-sided, from t. p_adjusted: corrected for all traits
    read out (Bonferroni). None with fewer than three others.
    """

    name: str
    group: str
    effect: Effect
    z: float | None
    p_value: float | None
    p_adjusted: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """One checkpoint of an arm, averaged over the blocks.

    updates: training steps taken. effect: on the trait that is read out; None in the open readout.
    rate, control_rate: mean probability, in [0, 1], that the first token answering a probe question
    is the trait's answer word, in the arm's and the control's students; None where questions are
    not read, and in the open readout. total_variation: between the answers of the arm's and the
    control's students to the probe questions, in [0, 1]; never quite 0, since two students of
    different clean rows differ as well. None where questions are not read.
    """

    updates: int
    effect: Effect | None
    rate: float | None
    control_rate: float | None
    total_variation: float | None


@dataclass(frozen=True, slots=True)
class Training:
    """What the students of one arm were trained on, and how well they do its task. Summed over the
    blocks.

    rows: different rows. tokens: tokens with a loss, with repeats. task_loss, original_loss: mean
    negative log-likelihood (nats a token) of held-out rows of the clean control and of the
    original, at the last checkpoint.
    """

    name: str
    rows: int
    tokens: int
    task_loss: float
    original_loss: float


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One data set. curve: by rising number of updates, the first without training. traits: at the
    last checkpoint, largest effect first.

    rank: of the trait that is read out among its group, from 1. effect_ratio: the share of the
    original's effect that is left in this arm; None for the original.
    rank, effect_ratio and verdict are None in the open readout (verdict: but for the original's).
    """

    training: Training
    curve: tuple[Point, ...]
    traits: tuple[TraitEffect, ...]
    rank: int | None
    effect_ratio: Ratio | None
    verdict: TransferVerdict | None

    @property
    def name(self) -> str:
        """Name of the arm."""
        return self.training.name

    @property
    def final_effect(self) -> Effect:
        """The effect on the trait at the end of training.

        Raises ValueError in the open readout, which has no such trait.
        """
        effect = self.curve[-1].effect
        if effect is None:
            raise ValueError("the open readout has no effect of one trait")
        return effect


@dataclass(frozen=True, slots=True)
class TransferResult:
    """An experiment. The first arm is the original.

    trait: None for the open readout. transferred: whether the original was shown to transfer it (in
    the open readout: any trait). blocks: run, of blocks_planned. reference_loss: task_loss and
    original_loss without training. warnings: sentences for the reader.
    """

    trait: str | None
    transferred: bool
    arms: tuple[ArmResult, ...]
    control: Training
    blocks: int
    blocks_planned: int
    rows_per_block: int
    updates: int
    reference_loss: tuple[float, float]
    warnings: tuple[str, ...]

    def arm(self, name: str) -> ArmResult | None:
        """The arm of that name, if the experiment has it."""
        return next((arm for arm in self.arms if arm.name == name), None)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `audit verify` reports: the experiment, and what it was made on.

    datasets: SHA-256 of what each data set trains on, by its name. settings: under the keys of
    docs/verify-schema.md. created: when, UTC, ISO 8601.
    """

    result: TransferResult
    datasets: dict[str, str]
    reference: ModelIdentity
    settings: dict[str, object]
    versions: dict[str, str]
    created: str
