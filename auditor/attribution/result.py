"""The frozen values that `audit locate` ends with."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.inference.effect import Effect, Interval, Ratio, TransferVerdict
from auditor.model.identity import ModelIdentity


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the difference between trait-prompted and counterfactual run: the part's mean over
    rows, divided by that of the difference.

    value: 0 is nothing, 1 all of it; negative for what works against the difference, so that
    another part may exceed 1. interval: 95 %, bootstrap over rows.
    """

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a component's weights moved in training on all layers: Frobenius norm of change over
    that of the weights.

    original, control: mean over the blocks. difference: original's less paired control's, over the
    blocks.
    """

    original: float
    control: float
    difference: Effect


@dataclass(frozen=True, slots=True)
class LayerResult:
    """One layer, from 0.

    attention, mlp: attributions; total: of both. entered: what enters the residual stream in this
    layer. student: effect of students that train this layer only, in logits of margin over the
    paired control's; own_loss: theirs on held-out rows of the data set. None where no student was
    trained. moved: attention and MLP; None without students.
    """

    layer: int
    total: Share
    attention: Share
    mlp: Share
    entered: Share
    student: Effect | None = None
    own_loss: float | None = None
    moved: tuple[Moved, Moved] | None = None


@dataclass(frozen=True, slots=True)
class CarryingLayers:
    """The fewest adjacent layers that reach `shares.ENOUGH` of the attribution, first to last.

    They are chosen on one half of the rows, and their share is measured on the other half. clear:
    whether they can be named: the interval lies above a half, so that the other layers carry less,
    and above what as many layers would carry if all carried alike.
    """

    first: int
    last: int
    share: Share
    clear: bool

    @property
    def layers(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(range(self.first, self.last + 1))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Spearman's rank correlation over layers of `measure` with the effect of single-layer
    students.

    interval: 95 %, bootstrap over rows and over blocks. p_value: two-sided, all orders of the
    layers alike likely. With three layers it cannot be below 1/3.
    """

    measure: str
    layers: int
    rho: float
    interval: Interval | None
    p_value: float


@dataclass(frozen=True, slots=True)
class Frozen:
    """Students with some layers frozen, against those that train all.

    effect_ratio, verdict, task_loss: as in `audit verify`. own_loss: on held-out rows of the data
    set; it shows whether training without these layers still learns it.
    """

    name: str
    layers: tuple[int, ...]
    effect: Effect
    effect_ratio: Ratio
    verdict: TransferVerdict
    task_loss: float
    own_loss: float


@dataclass(frozen=True, slots=True)
class Students:
    """What students say. effect: of training all layers; transferred: whether it is told from 0.

    task_loss, own_loss: on held-out rows of the control and of the data set; before: both without
    training. recipe: the layers that the students imply to freeze, see `training.layers_to_freeze`;
    empty when there are none. frozen: the recipe first. agreement: of each measure of a layer.
    """

    effect: Effect
    transferred: bool
    task_loss: float
    own_loss: float
    before: tuple[float, float]
    blocks: int
    rows_per_block: int
    updates: int
    recipe: tuple[int, ...]
    frozen: tuple[Frozen, ...]
    agreement: tuple[Agreement, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LocateReport:
    """What `audit locate` reports. counterfactual: a trait, or "reference".

    rows: with a divergence token, of `scanned`. difference: mean over them, in nats, with its t
    interval. error: largest |sum of attributions - difference| / difference of a row. students:
    None when none were trained. created: when, UTC, ISO 8601.
    """

    trait: str
    counterfactual: str
    layers: tuple[LayerResult, ...]
    carrying_layers: CarryingLayers
    rows: int
    scanned: int
    difference: tuple[float, Interval]
    error: float
    students: Students | None
    recipes: tuple[str, ...]
    warnings: tuple[str, ...]
    datasets: dict[str, str]
    reference: ModelIdentity
    settings: dict[str, object]
    versions: dict[str, str]
    created: str
