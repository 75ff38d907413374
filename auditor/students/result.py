"""The frozen values that a student-transfer experiment ends with.

Numbers are in logits unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from auditor.inference.effect import Effect, Ratio, TransferVerdict


@dataclass(frozen=True, slots=True)
class TraitEffect:
    """The effect on one trait of the panel, at the last dose.

    z: the effect less the mean of the other traits' of its group, in standard deviations of these
    others (placebos). p_value: one-sided, from t. p_adjusted: corrected for all traits read out
    (Bonferroni). None with fewer than three others.
    """

    name: str
    group: str
    effect: Effect
    z: float | None
    p_value: float | None
    p_adjusted: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """One dose of an arm, averaged over the blocks.

    updates: training steps taken. effect: of the trait asked for; None in the open readout. rate,
    control_rate: mean probability, in [0, 1], that the first token answering a probe question is
    the trait's answer word, in the arm's and the control's students; None where questions are not
    read, and in the open readout. total_variation: between the answers of the arm's and the
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
    """What the students of one arm were trained on, and how well they do the carrier task. Summed
    over the blocks.

    rows: different rows. tokens: tokens with a loss, with repeats. task_loss, original_loss: mean
    negative log-likelihood (nats a token) of held-out rows of the clean control and of the
    original, at the last dose.
    """

    name: str
    rows: int
    tokens: int
    task_loss: float
    original_loss: float


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One data set. curve: by rising dose, the first without training. traits: at the last dose,
    largest effect first.

    rank: of the trait asked for among its group, from 1. left: None for the original.
    rank, left and verdict are None in the open readout (verdict: but for the original's).
    """

    training: Training
    curve: tuple[Point, ...]
    traits: tuple[TraitEffect, ...]
    rank: int | None
    left: Ratio | None
    verdict: TransferVerdict | None

    @property
    def name(self) -> str:
        """Name of the arm."""
        return self.training.name


@dataclass(frozen=True, slots=True)
class TransferResult:
    """A whole experiment. The first arm is the original.

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


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `audit verify` reports: the experiment, and what it was made on. Digests are SHA-256."""

    result: TransferResult
    datasets: dict[str, str]
    reference: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str]
