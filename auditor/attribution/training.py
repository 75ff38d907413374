"""Students that train some layers only, each pair against its own clean control.

All students of one run start from the same weights and take the same rows in the same order; a student of the original
and its control differ in the completions alone, two pairs in the layers that they train alone. Embeddings, norms
outside of the layers and the head never move, as is usual with LoRA: then training all layers, one, and all but some
differ in nothing but these layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditor.attribution.components import layers_of
from auditor.attribution.movement import movement
from auditor.attribution.result import Carriers, Frozen, Moved
from auditor.lm import LanguageModel
from auditor.records import Progress
from auditor.rundir import RunDir
from auditor.traits import Panel
from auditor.transfer.arms import Arm
from auditor.transfer.compare import effect, left, transferred, verdict
from auditor.transfer.experiment import Writer, run_transfer, unit_name
from auditor.transfer.result import Effect, TransferResult
from auditor.transfer.students import Recipe

MOST_SINGLE = 6  # layers trained one by one unless asked otherwise
ALL = "all layers"
MOVED = "moved"

Show = Callable[[Progress], None]


@dataclass(frozen=True)
class School:
    """What all students of a run share. blocks, rows, updates: as for `run_transfer`. budget: seconds of one pair."""

    lm: LanguageModel
    original: Arm
    control: Arm | Writer
    panel: Panel
    trait: str
    recipe: Recipe
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

    def train(self, name: str, layers: Sequence[int]) -> TransferResult:
        """The original's students against the control's, both training only `layers`. `name` tells the pairs apart.

        The first call fixes blocks, rows and updates for all: it should train all layers, which takes longest.
        """
        self.progress(Progress(f"students: {name}", 0, None))
        return run_transfer(
            self.lm,
            [replace(self.original, name=_original(self, name))],
            _named(self.control, _control(name)),
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

    def moved(self, blocks: int) -> list[tuple[Moved, Moved]]:
        """[L] where the weights of the students of all layers moved: attention and MLP."""
        original, control = (
            np.stack([self._movement(block, name) for block in range(blocks)])
            for name in (_original(self, ALL), _control(ALL))
        )
        return [
            (_moved(original[:, layer, 0], control[:, layer, 0]), _moved(original[:, layer, 1], control[:, layer, 1]))
            for layer in range(self.depth)
        ]

    def _movement(self, block: int, arm: str) -> npt.NDArray[np.float64]:
        unit = self.store.load_unit(unit_name(block, arm))
        assert unit is not None  # `train` has put it there
        return np.asarray(unit[MOVED], dtype=np.float64)


def frozen_students(school: School, whole: TransferResult, carriers: Carriers) -> tuple[Frozen, ...]:
    """Students with the carrying layers frozen, and with as many others; none when the carriers are all layers.

    The others are as many adjacent layers at the end of the network that is further away, so that what freezing the
    carriers leaves can be told from what training fewer layers leaves whichever they are.
    """
    depth, count = school.depth, len(carriers.layers)
    if count == depth:
        return ()
    late = carriers.first < depth - 1 - carriers.last
    others = tuple(range(depth - count, depth)) if late else tuple(range(count))
    return (
        _frozen(school, whole, "the layers that carry it frozen", carriers.layers),
        _frozen(school, whole, "as many others frozen", others),
    )


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


def _frozen(school: School, whole: TransferResult, name: str, layers: tuple[int, ...]) -> Frozen:
    rest = [layer for layer in range(school.depth) if layer not in layers]
    result = school.train(f"all but {', '.join(map(str, layers))}", rest)
    own, full = own_effect(result), own_effect(whole)
    ratio = left(own.blocks, full.blocks)
    answer = verdict(ratio) if transferred(full) else "no transfer shown"
    return Frozen(name, layers, own, ratio, answer, result.arms[0].training.task_loss)


def _moved(original: npt.NDArray[np.float64], control: npt.NDArray[np.float64]) -> Moved:
    return Moved(float(original.mean()), float(control.mean()), effect((original - control).tolist()))


def _original(school: School, name: str) -> str:
    return f"{school.original.name} ({name})"


def _control(name: str) -> str:
    return f"clean control ({name})"


def _named(control: Arm | Writer, name: str) -> Arm | Writer:
    """The control under another name."""
    if isinstance(control, Arm):
        return replace(control, name=name)
    return lambda numbers: replace(control(numbers), name=name)
