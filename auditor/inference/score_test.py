"""The efficient score test for the dose of one trait.

The scores of a trait (`auditor.inference.tempering`) are centred by taking nuisance directions out:
the inverse temperature, and for every family of traits the mean over its other traits, since "You
love owls" moves text towards "You love France" too. What remains is summed by row, the unit of
inference.

Source: Neyman's C(alpha) test (1959). Differs from panel centring in the literature by a centre for
every family, and from the usual one-step estimate by what the score is divided by: the information
at dose 0 gives .57 to .70 for data wholly under the prompt (docs/methods.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditor.inference.estimates import MIN_ROWS, Array, Estimate, score_estimate
from auditor.inference.tempering import Moments

# Share of a trait's information that must remain after centring: below it the trait is a
# combination of the nuisance directions to within rounding.
_MIN_INFORMATION_SHARE = 1e-3


@dataclass(frozen=True, slots=True)
class TraitColumns:
    """Where a trait stands among the conditions of a block: its own column, and the columns of the
    traits that centre it, by family.
    """

    column: int
    centres: tuple[tuple[int, ...], ...]


def estimate(
    blocks: Sequence[Moments],
    columns: Sequence[TraitColumns],
    weights: Sequence[Array] | None = None,
    null: float = 0.0,
) -> Estimate | None:
    """The dose of one trait: its efficient score after the temperature and the mean of each centre
    are taken out.

    The dose is the sum of the efficient scores over its expectation under the trait's own prompt,
    which is known at every position: 1 is data written wholly under that prompt, and the dose of a
    mixture is the share of its tokens that were, weighted by what they tell. Under the reference
    the expectation is 0, so the dose is unbiased at both ends, and linear in the share between.

    blocks: moments stacked over the rows of a block, score [R, 1 + K], covariance [R, 1 + K, 1 + K]
    and signal [R, 1 + K, K]. columns: where the trait and its centres stand in each block, as many
    centres in all of them; their traits may differ between blocks, but must be settled before a
    block is scored. weights: [R] for each block, above 0, how much each row counts beside the
    others; all alike if None. null: the dose that text without the trait has at most, above 0 for
    greedy text only. None for too few rows (`auditor.inference.estimates.MIN_ROWS`), or when next
    to no information is left after centring.

    Greedy text follows a share of a trait's choices whichever its teacher, so a dose of 0 is no
    null for it. Its error is what remains of the rows' scores once the dose is taken out, and at
    least that of as many independent choices at the null: text that follows every choice leaves
    nothing, and seven of seven are not certain.

    Rows of unequal weight tell as much as (sum w)^2 / sum(w^2) equal ones (Kish 1965). So many must
    be there, and they give the degrees of freedom.
    """
    if weights is None:
        weights = [np.ones(len(block.score)) for block in blocks]
    total = np.concatenate([np.ones(0), *weights])
    if not len(total):
        return None
    mean = total.mean()
    reduced = [
        _reduce(block, column, weight / mean)
        for block, column, weight in zip(blocks, columns, weights, strict=True)
        if len(block.score)
    ]
    score = np.concatenate([scores for scores, _, _ in reduced])
    covariance = np.sum([covariances for _, covariances, _ in reduced], axis=0)
    signal = np.concatenate([signals for _, _, signals in reduced])
    # The last direction is the trait; its projection on the nuisance directions before it is what
    # they explain, and is taken out of score and information alike.
    slope = np.linalg.lstsq(covariance[:-1, :-1], covariance[:-1, -1], rcond=1e-10)[0]
    information = float(covariance[-1, -1] - covariance[-1, :-1] @ slope)
    if information < _MIN_INFORMATION_SHARE * covariance[-1, -1]:
        return None
    scores = score[:, -1] - score[:, :-1] @ slope
    expected = signal[:, -1] - signal[:, :-1] @ slope
    dose = score_estimate(scores, float(expected.sum()))
    effective_rows = float(total.sum() ** 2 / np.square(total).sum())
    if dose is None or effective_rows < MIN_ROWS:
        return None
    if null:
        rest = np.square(scores - dose.effect * expected).sum()
        choices = null * (1 - null) * float(total / mean @ expected)
        dose = replace(dose, se=math.sqrt(max(rest, choices)) / expected.sum(), null=null)
    return replace(dose, df=min(dose.df, effective_rows - 1))


def _reduce(block: Moments, columns: TraitColumns, weights: Array) -> tuple[Array, Array, Array]:
    """The block's weighted scores [R, C + 2], their summed covariance and their expectation [R, C +
    2] under the trait's prompt, for the temperature, the mean of each centre, and the trait.
    """
    # Directions are columns of one matrix, so that scores and covariance are combined alike. Column
    # 0 of a block is the temperature; trait k of the block is column 1 + k.
    mix = np.zeros((block.score.shape[1], len(columns.centres) + 2))
    mix[0, 0] = 1.0
    for direction, centre in enumerate(columns.centres, start=1):
        mix[[1 + k for k in centre], direction] = 1.0 / max(1, len(centre))
    mix[1 + columns.column, -1] = 1.0
    covariance = np.einsum("r,rij->ij", weights, block.covariance)
    signal = block.signal[:, :, columns.column] @ mix
    return (
        weights[:, None] * (block.score @ mix),
        mix.T @ covariance @ mix,
        weights[:, None] * signal,
    )
