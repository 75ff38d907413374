"""Students that train some layers only, each pair against its own clean control.

All students of one run start from the same weights and take the same rows in the same order; a
student of the original and its control differ in the completions alone, two pairs in the layers
that they train alone. Embeddings, norms outside of the layers and the head never move, as is usual
with LoRA: then training all layers, one, and all but some differ in nothing but these layers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditor.attribution.components import layers_of
from auditor.attribution.movement import movement
from auditor.attribution.result import CarryingLayers, Frozen, Moved
from auditor.attribution.shares import format_layers
from auditor.inference.paired import effect, effect_ratio, transferred, verdict
from auditor.model.language_model import LanguageModel
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir
from auditor.students.arms import DatasetArm
from auditor.students.experiment import Writer, run_transfer
from auditor.students.result import TransferResult
from auditor.students.runner import unit_name
from auditor.students.settings import StudentSettings
from auditor.traits.panel import Panel

LOG = logging.getLogger(__name__)

MAX_SINGLE_LAYERS = 6  # layers trained one by one by default
ORIGINAL, CONTROL = "original", "clean control"
MOVED = "moved"
CARRIES = 0.1  # of the effect of all layers; a layer with less is no way for the trait


@dataclass(frozen=True)
class LayerStudents:
    """What all students of a run share. settings: with the budget of one pair of students."""

    lm: LanguageModel
    original: DatasetArm
    control: DatasetArm | Writer
    panel: Panel
    trait: str
    settings: StudentSettings
    store: RunDir
    progress: Callable[[Progress], None]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(layers_of(self.lm))

    def train(self, layers: Sequence[int]) -> TransferResult:
        """The original's students against the control's, both training only `layers`; once trained
        they are kept.

        The first call fixes blocks, rows and updates for all: it should train all layers, which
        takes longest.
        """
        self.progress(Progress(f"students: layers {format_layers(layers)}", 0, None))
        # All layers are named too, and not left at None: embeddings and head must not move.
        training = replace(self.settings.training_for(self.lm), layers=tuple(layers))
        # The names of the arms tell these students from those of other layers in the store.
        name, control = _arm_name(CONTROL, layers), self.control
        return run_transfer(
            self.lm,
            [replace(self.original, name=_arm_name(ORIGINAL, layers))],
            replace(control, name=name)
            if isinstance(control, DatasetArm)
            else lambda numbers: replace(control(numbers), name=name),
            self.panel,
            self.trait,
            replace(self.settings, training=training),
            # Only the end counts here, and pairs must stay as many for every set of layers.
            checkpoint_fractions=(1.0,),
            stop_early=False,
            store=self.store,
            measure=lambda student: {MOVED: movement(self.lm, student)},
            progress=self.progress,
        )

    def moved(self, blocks: int) -> list[tuple[Moved, Moved]]:
        """[L] where the weights of the students of all layers moved: attention and MLP.

        `train` has been called for all layers.
        """
        by_arm = []
        for arm in (ORIGINAL, CONTROL):
            names = [unit_name(b, _arm_name(arm, range(self.depth))) for b in range(blocks)]
            units = [self.store.load_unit(name) for name in names]
            by_arm.append(np.stack([unit[MOVED] for unit in units if unit is not None]))
        layers = []
        for layer in range(self.depth):
            attention, mlp = (
                Moved(float(original_B.mean()), float(control_B.mean()), effect(change_B.tolist()))
                for original_B, control_B in zip(*(x[:, layer].T for x in by_arm), strict=True)
                for change_B in [original_B - control_B]
            )
            layers.append((attention, mlp))
        return layers


def layers_to_freeze(effects: Mapping[int, float], total: float, depth: int) -> tuple[int, ...]:
    """The layers to freeze by the effects of students that train one layer; none when that would be
    all.

    They are all that take over CARRIES or more of the effect of training all layers (`total`) when
    they are trained alone: any such layer that still trains would do so when the others are frozen.
    Layers that were not trained alone go with a neighbour that was, since what has not been tested
    is not held to be harmless.

    >>> layers_to_freeze({0: 0.9, 1: 0.05, 2: -0.1}, 0.8, 3)
    (0,)
    >>> layers_to_freeze({0: 0.4, 3: 0.2, 6: 0.0, 9: 0.0}, 0.5, 10)
    (0, 1, 2, 3, 4, 5)
    >>> layers_to_freeze({0: 0.9}, 0.8, 2)  # layer 1 is not known
    ()
    """
    carrying = {layer for layer, value in effects.items() if value >= CARRIES * total}
    frozen = []
    for layer in range(depth):
        # The nearest tested layers on both sides; a tested layer is its own neighbour.
        below = max((tested for tested in effects if tested <= layer), default=None)
        above = min((tested for tested in effects if tested >= layer), default=None)
        if {below, above} & carrying:
            frozen.append(layer)
    return tuple(frozen) if len(frozen) < depth else ()


def frozen_students(
    students: LayerStudents,
    all_layers: TransferResult,
    recipe: tuple[int, ...],
    carrying: CarryingLayers,
) -> tuple[Frozen, ...]:
    """Students with layers frozen: those of the recipe, as many others, and those of the
    attribution.

    all_layers: the students that train all layers. The others are as many adjacent layers at the
    end of the network that is further away, so that what freezing the recipe's leaves can be told
    from what training fewer layers leaves whichever they are. What is frozen twice stands there
    once.
    """
    depth, count = students.depth, len(recipe)
    # By the layers, in the order of the report: what comes first gives a set its name.
    names: dict[tuple[int, ...], str] = {}
    if recipe:
        names[recipe] = "recipe"
    if carrying.clear:
        names.setdefault(carrying.layers, "layers of the attribution")
    # A control for the recipe: as many layers far from it.
    if recipe:
        is_early = recipe[0] <= depth - 1 - recipe[-1]
        opposite = range(depth - count, depth) if is_early else range(count)
        names.setdefault(tuple(opposite), "as many others")
    LOG.info("students with layers frozen: %s", names)
    full = all_layers.arms[0].final_effect
    frozen = []
    for layers, name in names.items():
        result = students.train([layer for layer in range(depth) if layer not in layers])
        arm = result.arms[0]
        ratio = effect_ratio(arm.final_effect.blocks, full.blocks)
        frozen.append(
            Frozen(
                name=name,
                layers=layers,
                effect=arm.final_effect,
                effect_ratio=ratio,
                verdict=verdict(ratio) if transferred(full) else "no transfer shown",
                task_loss=arm.training.task_loss,
                own_loss=arm.training.original_loss,
            )
        )
    return tuple(frozen)


def spread(depth: int, most: int = MAX_SINGLE_LAYERS) -> tuple[int, ...]:
    """At most `most` layers evenly spread over a network, the first and the last among them.

    >>> spread(3), spread(30)
    ((0, 1, 2), (0, 6, 12, 17, 23, 29))
    """
    count = min(depth, most)
    return tuple(sorted({round(i * (depth - 1) / max(1, count - 1)) for i in range(count)}))


def _arm_name(arm: str, layers: Sequence[int]) -> str:
    return f"{arm} (layers {format_layers(layers)})"
