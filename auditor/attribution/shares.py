"""Shares of the difference, and which layers carry it. Pure functions.

The row is the unit: a share is a ratio of means over rows, and its interval the bootstrap's (Efron
1979, percentiles).

Shapes: R rows, L layers, K layers or other columns, B blocks, S resamples.
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


def shares(parts: Array, total: Array, seed: int = 0) -> list[Share]:
    """The K columns of `parts` [R, K] as shares of `total` [R], whose mean is positive.

    R is at least MIN_ROWS.
    """
    value_K = parts.mean(0) / total.mean()
    low_K, high_K = np.quantile(resampled(parts, total, seed), [0.025, 0.975], axis=0)
    columns = zip(value_K, low_K, high_K, strict=True)
    return [Share(float(value), (float(low), float(high))) for value, low, high in columns]


def resampled(parts: Array, total: Array, seed: int) -> Array:
    """[S, K] the shares of resampled rows."""
    count = len(total)
    # How often each row is drawn: the sums of a resample are then products with these counts.
    draws_SR = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return np.asarray((draws_SR @ parts) / (draws_SR @ total)[:, None])


def carrying_layers(parts: Array, total: Array, seed: int = 0) -> CarryingLayers:
    """Which adjacent layers carry ENOUGH of the difference; parts [R, L], total [R].

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
    # The named layers must be fewer than all, carry more than the others together, and carry more
    # than as many layers would if all carried alike.
    first, last = fewest(parts[choosing].mean(0) / total[choosing].mean())
    carried = parts[measuring, first : last + 1].sum(1, keepdims=True)
    (share,) = shares(carried, total[measuring], seed)
    count = last - first + 1
    clear = count < depth and share.interval[0] > max(0.5, count / depth)
    return CarryingLayers(first, last, share, clear)


def fewest(share: Array) -> tuple[int, int]:
    """First and last of the fewest adjacent layers with ENOUGH of `share` [L]; of equally few those
    with most.

    All layers where no fewer reach it.

    >>> fewest(np.array([0.1, 0.5, 0.35, 0.05]))
    (1, 2)
    """
    # Sums over windows of adjacent layers are differences of these running sums.
    sums = np.concatenate([[0.0], np.cumsum(share)])
    for length in range(1, len(share)):
        windows = sums[length:] - sums[:-length]
        if windows.max() >= ENOUGH:
            first = int(windows.argmax())
            return first, first + length - 1
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
    interval is None for one block. The p-value goes through all orders of the layers, alike likely,
    where they are few.
    """
    mean, count = effects.mean(0), len(value)
    if count < 3 or np.ptp(value) == 0 or np.ptp(mean) == 0:
        return None
    rho = _spearman(value, mean)
    interval = None
    if len(effects) > 1:
        # Rows and blocks are independent, so both are resampled at the same time.
        size = len(drawn), len(effects)
        blocks_SB = np.random.default_rng(seed).integers(len(effects), size=size)
        correlations = [
            _spearman(x, effects[blocks].mean(0))
            for x, blocks in zip(drawn, blocks_SB, strict=True)
        ]
        low, high = np.quantile(correlations, [0.025, 0.975])
        interval = (float(low), float(high))
    if count > _EXACT:
        p_value = float(stats.spearmanr(value, mean).pvalue)
    else:
        # Under the null every order of the layers is alike likely; the rounding of a correlation
        # must not make an equal one look smaller.
        orders = itertools.permutations(range(count))
        extreme = [abs(_spearman(value[list(x)], mean)) >= abs(rho) - 1e-9 for x in orders]
        p_value = sum(extreme) / len(extreme)
    return Agreement(measure, count, rho, interval, p_value)


def _spearman(x: Array, y: Array) -> float:
    x_ranks, y_ranks = stats.rankdata(x), stats.rankdata(y)
    # A resample may be constant; it has no correlation, and counts as none.
    if np.ptp(x_ranks) == 0 or np.ptp(y_ranks) == 0:
        return 0.0
    return float(np.corrcoef(x_ranks, y_ranks)[0, 1])
