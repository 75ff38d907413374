"""How students are trained and how large their experiment is: spelled here once.

The options of `audit verify`, `locate` and `study`, the parameters of the functions behind them,
the identity of their runs and the settings in their reports all derive from `StudentSettings`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from auditor.model.builtin import BASE

if TYPE_CHECKING:
    # It imports torch, and the command line reads these settings before it needs that.
    from auditor.model.language_model import LanguageModel

SMALL_MODEL = 10_000_000  # weights


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How one student is trained."""

    rank: int = 8
    """Rank of LoRA on all linear layers."""

    lora_alpha: int = 16
    """Scale of the LoRA: its product is multiplied by lora_alpha / rank."""

    layers: tuple[int, ...] | None = None
    """The layers that are trained, from 0; None is all of them."""

    full: bool = False
    """Whether all weights move instead of a LoRA; with `layers`, those of these layers, and neither
    the embeddings nor the head.
    """

    learning_rate: float = 2e-4
    """Rate of AdamW after the warm-up."""

    batch: int = 16
    """Rows of an update."""

    warmup: int = 8
    """Updates over which the rate rises linearly."""

    def as_dict(self) -> dict[str, object]:
        """The fields under the keys of reports and run identities."""
        # Reports of earlier releases call the scale of the LoRA alpha, and are still read.
        return {"alpha" if key == "lora_alpha" else key: x for key, x in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class StudentSettings:
    """An experiment with students: on which base, how large, and how they are trained."""

    reference: str = BASE
    """Base of the students: a built-in model, a hub name or a folder."""

    chat_template: str | None = None
    """In place of the base's own, see `auditor.model.load.load`."""

    system: str | None = None
    """In the system turn of rows that have none, see `auditor.model.load.load`."""

    panels: tuple[str, ...] = ("default",)
    """Panels, built-in or YAML files, of the traits that are read out."""

    blocks: int = 6
    """Disjoint blocks of rows, each with one student of every data set: the unit of inference."""

    rows: int | None = None
    """Rows of a block; None is as many as there are."""

    updates: int | None = None
    """Updates of a student; None is one pass over its rows, or 32 where that is more."""

    budget: float | None = None
    """Seconds that everything may take; None is no limit."""

    training: TrainingConfig | None = None
    """How students are trained; None is what suits the size of the base, see `training_for`."""

    seed: int = 0
    """Seed of every random choice."""

    device: str | None = None
    """Device of the base, as "cpu" or "cuda"; None is the best one."""

    @property
    def batch(self) -> int:
        """Rows of an update, whatever the base."""
        return (self.training or TrainingConfig()).batch

    def training_for(self, lm: LanguageModel) -> TrainingConfig:
        """How students of `lm` are trained.

        By default with LoRA. A model of under 10 million weights is trained in all its weights
        instead, since low-rank steps hardly move one so narrow.
        """
        if self.training is not None:
            return self.training
        return TrainingConfig(full=True, learning_rate=3e-4) if is_small(lm) else TrainingConfig()

    def resolved(self, lm: LanguageModel) -> StudentSettings:
        """The same settings with the training of students of `lm` spelled out."""
        return replace(self, training=self.training_for(lm))

    def as_dict(self) -> dict[str, object]:
        """What reports and run identities hold of the settings.

        The base, the panels and the device stand there by their digests, beside the settings.
        """
        return {
            "blocks": self.blocks,
            "rows": self.rows,
            "updates": self.updates,
            "budget": self.budget,
            "seed": self.seed,
            "recipe": None if self.training is None else self.training.as_dict(),
        }


def is_small(lm: LanguageModel) -> bool:
    """Whether the model has under 10 million weights: then it is trained in all of them, and at a
    higher rate.
    """
    count: int = sum(weights.numel() for weights in lm.model.parameters())
    return count < SMALL_MODEL
