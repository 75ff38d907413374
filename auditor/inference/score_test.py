"""The efficient score test for the dose of one trait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auditor.inference.estimates import Array, Estimate, score_estimate
from auditor.inference.tempering import (
    Moments,
)


@dataclass(frozen=True, slots=True)
class TraitColumns:
    """Where a trait stands among the conditions of a block: its own number, and those that centre
    it, by family.
    """

    own: int
    centres: tuple[tuple[int, ...], ...]


def estimate(blocks: Sequence[Moments], places: Sequence[TraitColumns]) -> Estimate | None:
    """The dose of one trait: its efficient score after the temperature and the mean of each centre
    are taken out.

    blocks: moments stacked over the rows of a block, score [R, 1 + K] and covariance [R, 1 + K, 1 +
    K]. places: where the trait and its centres stand in each block, as many centres in all of them;
    their traits may differ between blocks, but must be settled before a block is seen. None for too
    few rows (`auditor.inference.estimates.MIN_ROWS`), or when less than a thousandth of the
    information is left after centring.
    """
    small = [
        _reduce(block, place)
        for block, place in zip(blocks, places, strict=True)
        if len(block.score)
    ]
    if not small:
        return None
    score = np.concatenate([each[0] for each in small])
    covariance = np.sum([each[1] for each in small], axis=0)
    slope = np.linalg.lstsq(covariance[:-1, :-1], covariance[:-1, -1], rcond=1e-10)[0]
    left = float(covariance[-1, -1] - covariance[-1, :-1] @ slope)
    if left < 1e-3 * covariance[-1, -1]:
        return None
    return score_estimate(score[:, -1] - score[:, :-1] @ slope, left)


def _reduce(block: Moments, place: TraitColumns) -> tuple[Array, Array]:
    """The block's scores [R, C + 2] and summed covariance for temperature, the mean of each centre,
    and the trait.
    """
    mix = np.zeros((block.score.shape[1], len(place.centres) + 2))
    mix[0, 0] = 1.0
    for column, centre in enumerate(place.centres, start=1):
        mix[[1 + k for k in centre], column] = 1.0 / max(1, len(centre))
    mix[1 + place.own, -1] = 1.0
    return block.score @ mix, mix.T @ block.covariance.sum(0) @ mix
