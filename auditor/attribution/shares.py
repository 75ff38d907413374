"""Shares of the difference, and which layers carry it. Pure functions. Shapes: R rows, L layers, B
blocks, S resamples.

The row is the unit: a share is a ratio of means over rows, and its interval the bootstrap's (Efron
1979, percentiles).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from auditor.attribution.result import Agreement, CarryingLayers, Share
from auditor.errors import InputError
from auditor.inference.estimates import MIN_ROWS

ENOUGH = 0.8  # of the attribution, for the layers that are named
RESAMPLES = 2000
_EXACT = 7  # most layers whose orders are all gone through

Array = npt.NDArray[np.float64]


def shares(parts: Array, whole: Array, seed: int = 0) -> list[Share]:
    """The K columns of `parts` [R, K] as shares of `whole` [R], whose mean is positive.

    R is at least MIN_ROWS.
    """
    value = parts.mean(0) / whole.mean()
    drawn = resampled(parts, whole, seed)
    ends = np.quantile(drawn, [0.025, 0.975], axis=0)
    return [Share(float(v), (float(a), float(b))) for v, a, b in zip(value, *ends, strict=True)]


def resampled(parts: Array, whole: Array, seed: int) -> Array:
    """[S, K] the shares of resampled rows."""
    count = len(whole)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return np.asarray((weights @ parts) / (weights @ whole)[:, None])


def carrying_layers(parts: Array, whole: Array, seed: int = 0) -> CarryingLayers:
    """Which adjacent layers carry ENOUGH of the difference; parts [R, L], whole [R].

    Chosen on one half of the rows, measured on the other: a share measured where it was chosen
    would be too large. Raises: InputError for fewer than 2 MIN_ROWS rows.
    """
    rows, depth = parts.shape
    if rows < 2 * MIN_ROWS:
        message = f"{rows} rows with a divergence token are too few to say where the trait enters."
        raise InputError(
            message, f"Give data with at least {2 * MIN_ROWS} of them, or another --trait."
        )
    order = np.random.default_rng(seed).permutation(rows)
    choosing, measuring = order[: rows // 2], order[rows // 2 :]
    first, last = fewest(parts[choosing].mean(0) / whole[choosing].mean())
    (share,) = shares(
        parts[measuring, first : last + 1].sum(1, keepdims=True), whole[measuring], seed
    )
    said = last - first + 1 < depth and share.interval[0] > max(0.5, (last - first + 1) / depth)
    return CarryingLayers(first, last, share, said)


def fewest(share: Array) -> tuple[int, int]:
    """First and last of the fewest adjacent layers with ENOUGH of `share` [L]; of equally few those
    with most.

    All layers where no fewer reach it.

    >>> fewest(np.array([0.1, 0.5, 0.35, 0.05]))
    (1, 2)
    """
    sums = np.concatenate([[0.0], np.cumsum(share)])
    for length in range(1, len(share)):
        held = sums[length:] - sums[:-length]
        if held.max() >= ENOUGH:
            return int(held.argmax()), int(held.argmax()) + length - 1
    return 0, len(share) - 1


def format_layers(layers: Sequence[int]) -> str:
    """Layers in short.

    >>> format_layers([3]), format_layers([0, 1, 2]), format_layers([0, 1, 5, 7, 8])
    ('3', '0-2', '0-1+5+7-8')
    """
    starts = [layer for layer in sorted(layers) if layer - 1 not in layers]
    ends = [layer for layer in sorted(layers) if layer + 1 not in layers]
    runs = zip(starts, ends, strict=True)
    return "+".join(str(start) if start == end else f"{start}-{end}" for start, end in runs)


def agreement(
    measure: str, drawn: Array, value: Array, effects: Array, seed: int = 0
) -> Agreement | None:
    """Rank correlation over layers of a measure with the effects of students; None for fewer than
    three layers.

    value [K]: the measure of each layer; drawn [S, K]: the same of resampled rows. effects [B, K]:
    of the students. Layers that all have the same value have no ranks: then None as well. The
    interval is None for one block.
    """
    mean, count = effects.mean(0), len(value)
    if count < 3 or np.ptp(value) == 0 or np.ptp(mean) == 0:
        return None
    rho = _spearman(value, mean)
    interval = None
    if len(effects) > 1:
        chosen = np.random.default_rng(seed).integers(len(effects), size=(len(drawn), len(effects)))
        found = [_spearman(x, effects[rows].mean(0)) for x, rows in zip(drawn, chosen, strict=True)]
        low, high = np.quantile(found, [0.025, 0.975])
        interval = (float(low), float(high))
    return Agreement(measure, count, rho, interval, _p_value(value, mean, rho))


def _p_value(value: Array, mean: Array, rho: float) -> float:
    if len(value) > _EXACT:
        return float(stats.spearmanr(value, mean).pvalue)
    orders: Sequence[tuple[int, ...]] = list(itertools.permutations(range(len(value))))
    return sum(
        abs(_spearman(value[list(order)], mean)) >= abs(rho) - 1e-9 for order in orders
    ) / len(orders)


def _spearman(x: Array, y: Array) -> float:
    left, right = stats.rankdata(x), stats.rankdata(y)
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])
