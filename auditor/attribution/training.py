"""Students that train some layers only, each pair against its own clean control.

All students of one run start from the same weights and take the same rows in the same order; a
student of the original and its control differ in the completions alone, two pairs in the layers
that they train alone. Embeddings, norms outside of the layers and the head never move, as is usual
with LoRA: then training all layers, one, and all but some differ in nothing but these layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditor.attribution.components import layers_of
from auditor.attribution.movement import movement
from auditor.attribution.result import CarryingLayers, Frozen, Moved
from auditor.attribution.shares import format_layers
from auditor.inference.effect import Effect
from auditor.inference.paired import effect, effect_ratio, transferred, verdict
from auditor.model.language_model import LanguageModel
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir
from auditor.students.arms import DatasetArm
from auditor.students.experiment import Writer, run_transfer
from auditor.students.result import TransferResult
from auditor.students.runner import unit_name
from auditor.students.training import TrainingConfig
from auditor.traits.panel import Panel

MOST_SINGLE = 6  # layers trained one by one unless asked otherwise
ORIGINAL, CONTROL = "original", "clean control"
MOVED = "moved"
CARRIES = 0.1  # of the effect of all layers; a layer with less is no way for the trait

Show = Callable[[Progress], None]


@dataclass(frozen=True)
class LayerStudents:
    """What all students of a run share.

    blocks, rows, updates: as for `run_transfer`. budget: seconds of one pair.
    """

    lm: LanguageModel
    original: DatasetArm
    control: DatasetArm | Writer
    panel: Panel
    trait: str
    recipe: TrainingConfig
    store: RunDir
    blocks: int
    rows: int | None
    updates: int | None
    budget: float | None
    seed: int
    progress: Show

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
        return run_transfer(
            self.lm,
            [replace(self.original, name=_named(ORIGINAL, layers))],
            self._control(layers),
            self.panel,
            self.trait,
            blocks=self.blocks,
            rows_per_block=self.rows,
            updates=self.updates,
            doses=(1.0,),
            seed=self.seed,
            recipe=replace(self.recipe, layers=tuple(layers)),
            budget=self.budget,
            stop_early=False,
            store=self.store,
            measure=lambda student: {MOVED: movement(self.lm, student)},
            progress=self.progress,
        )

    def _control(self, layers: Sequence[int]) -> DatasetArm | Writer:
        """The control under a name that tells its students from those of other layers."""
        control, name = self.control, _named(CONTROL, layers)
        if isinstance(control, DatasetArm):
            return replace(control, name=name)
        return lambda numbers: replace(control(numbers), name=name)

    def moved(self, blocks: int) -> list[tuple[Moved, Moved]]:
        """[L] where the weights of the students of all layers moved: attention and MLP."""
        original, control = (
            np.stack(
                [self._movement(block, _named(name, range(self.depth))) for block in range(blocks)]
            )
            for name in (ORIGINAL, CONTROL)
        )
        return [
            (
                _moved(original[:, layer, 0], control[:, layer, 0]),
                _moved(original[:, layer, 1], control[:, layer, 1]),
            )
            for layer in range(self.depth)
        ]

    def _movement(self, block: int, arm: str) -> npt.NDArray[np.float64]:
        unit = self.store.load_unit(unit_name(block, arm))
        assert unit is not None  # `train` has put it there
        return np.asarray(unit[MOVED], dtype=np.float64)


def layers_to_freeze(effects: Mapping[int, float], whole: float, depth: int) -> tuple[int, ...]:
    """The layers to freeze by the effects of students that train one layer; none when that would be
    all.

    They are all that take over CARRIES or more of the effect of training all layers (`whole`) when
    they are trained alone: any one that is left would do so when the others are frozen. Layers that
    were not trained alone go with a neighbour that does, since what has not been tested is not held
    to be harmless.

    >>> layers_to_freeze({0: 0.9, 1: 0.05, 2: -0.1}, 0.8, 3)
    (0,)
    >>> layers_to_freeze({0: 0.4, 3: 0.2, 6: 0.0, 9: 0.0}, 0.5, 10)
    (0, 1, 2, 3, 4, 5)
    >>> layers_to_freeze({0: 0.9}, 0.8, 2)  # layer 1 is not known
    ()
    """
    carrying = {layer for layer, value in effects.items() if value >= CARRIES * whole}
    chosen = []
    for layer in range(depth):
        below = max((each for each in effects if each <= layer), default=None)
        above = min((each for each in effects if each >= layer), default=None)
        if {below, above} & carrying:
            chosen.append(layer)
    return tuple(chosen) if len(chosen) < depth else ()


def frozen_students(
    school: LayerStudents, whole: TransferResult, chosen: tuple[int, ...], carriers: CarryingLayers
) -> tuple[Frozen, ...]:
    """Students with layers frozen: those `chosen` for the recipe, as many others, and those of the
    attribution.

    The others are as many adjacent layers at the end of the network that is further away, so that
    what freezing the chosen ones leaves can be told from what training fewer layers leaves
    whichever they are. What is frozen twice stands there once.
    """
    depth, count = school.depth, len(chosen)
    found = {}
    if carriers.said:
        found[carriers.layers] = "layers of the attribution"
    if chosen:
        early = chosen[0] <= depth - 1 - chosen[-1]
        others = tuple(range(depth - count, depth)) if early else tuple(range(count))
        found.setdefault(others, "as many others")
        found = {chosen: "recipe"} | {
            layers: name for layers, name in found.items() if layers != chosen
        }
    return tuple(_frozen(school, whole, name, layers) for layers, name in found.items())


def spread(depth: int, most: int = MOST_SINGLE) -> tuple[int, ...]:
    """At most `most` layers evenly spread over a network, the first and the last among them.

    >>> spread(3), spread(30)
    ((0, 1, 2), (0, 6, 12, 17, 23, 29))
    """
    count = min(depth, most)
    return tuple(sorted({round(i * (depth - 1) / max(1, count - 1)) for i in range(count)}))


def own_effect(result: TransferResult) -> Effect:
    """The effect of the original on the trait at the end of training."""
    found = result.arms[0].curve[-1].effect
    assert found is not None  # a trait is always named here
    return found


def _frozen(
    school: LayerStudents, whole: TransferResult, name: str, layers: tuple[int, ...]
) -> Frozen:
    result = school.train([layer for layer in range(school.depth) if layer not in layers])
    own, full, trained = own_effect(result), own_effect(whole), result.arms[0].training
    ratio = effect_ratio(own.blocks, full.blocks)
    answer = verdict(ratio) if transferred(full) else "no transfer shown"
    return Frozen(name, layers, own, ratio, answer, trained.task_loss, trained.original_loss)


def _moved(original: npt.NDArray[np.float64], control: npt.NDArray[np.float64]) -> Moved:
    return Moved(
        float(original.mean()), float(control.mean()), effect((original - control).tolist())
    )


def _named(arm: str, layers: Sequence[int]) -> str:
    return f"{arm} (layers {format_layers(layers)})"
