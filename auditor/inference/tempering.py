"""The statistics of one row against a tempered reference: what each trait prompt explains of it.

Notation. T completion tokens of a row, V entries of a token's support, K conditions (trait
prompts). p(v) is the null: what the reference predicts at a position, at the data set's own inverse
temperature b and on its own alphabet. l_k(v) = log p_k(v) - log p_ref(v) is the log-likelihood
ratio of trait k.

The data of a teacher that follows trait k with dose d come from p_d(v) proportional to p(v) exp(d b
l_k(v)): d = 0 is the reference, d = 1 the reference under the trait prompt. The score of d at 0,
per token, is

    b (l_k(x) - E_p[l_k]),

which has mean zero under the null at every position whatever came before: the reference's own
completions calibrate the statistic, in expectation over all of them instead of by a sample. Greedy
text has choices and no samples; there the score counts divergence tokens instead (`choices`).

Source: log-likelihood ratios under system prompts are those of logit-linear selection (2602.04863),
clean calibration that of docs/methods.md. Differs from both: the calibration is by expectation, and
the effect is on a scale of doses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from auditor.inference.estimates import Array

# b of greedy decoding; beyond it p is one-hot to within float noise.
MAX_INVERSE_TEMPERATURE = 20.0
# Ratio of non-argmax tokens to those expected of samples at T = 1, halfway between greedy decoding
# (0) and such samples (1).
GREEDY = 0.5
# Log-probability of a token that has none: low enough to leave no mass, and finite.
_FLOOR = -30.0


@dataclass(frozen=True, slots=True)
class Moments:
    """What one row says of 1 + K directions: the temperature (log p_ref), and the K conditions.

    score: [1 + K] sum over tokens of the direction at the row's token less its expectation.
    covariance: [1 + K, 1 + K] covariance of the score under the null, the Fisher information.
    signal: [1 + K, K] expectation of the score, had each token been written under condition k given
    what stands before it. Covariance and signal are known at every position, without the token.
    """

    score: Array
    covariance: Array
    signal: Array

    def of_rows(self, selected: npt.NDArray[np.bool_]) -> Moments:
        """Of moments that are stacked over rows, those of the rows selected, [R]."""
        return Moments(self.score[selected], self.covariance[selected], self.signal[selected])


def restrict_and_renormalize(
    support_logprob: npt.NDArray[np.floating], removed: npt.NDArray[np.bool_]
) -> Array:
    """Log-probabilities over the support, given that the token is in it and is none of those
    removed.

    support_logprob: [T, S]. removed: [T, S]. Each position of the result [T, S] sums to 1.
    """
    # Twice the floor: a removed token must weigh less than one that merely has no probability.
    logp = np.where(removed, 2 * _FLOOR, np.maximum(support_logprob.astype(np.float64), _FLOOR))
    return np.asarray(logp - np.logaddexp.reduce(logp, axis=-1, keepdims=True))


def locate(
    tokens: npt.NDArray[np.integer], support: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """Index of each token [T] in its support [T, S]; -1 when it is not there."""
    match = support == tokens[:, None]
    return np.asarray(np.where(match.any(-1), match.argmax(-1), -1), dtype=np.int64)


def temper(logp: Array, inverse_temperature: float) -> Array:
    """p^b, renormalised, as log-probabilities.

    b = 1 changes nothing; b = MAX_INVERSE_TEMPERATURE is greedy decoding.
    """
    tilted = inverse_temperature * logp
    return np.asarray(tilted - np.logaddexp.reduce(tilted, axis=-1, keepdims=True))


def inverse_temperature(logps: Sequence[Array], indices: Sequence[npt.NDArray[np.int64]]) -> float:
    """Maximum-likelihood inverse temperature of the tokens under the reference, in [1/4,
    MAX_INVERSE_TEMPERATURE].

    1 is sampling at T = 1, MAX_INVERSE_TEMPERATURE greedy decoding. Text that the reference did not
    write gives values below 1.

    logps: for each row [T, V] the reference. indices: [T] where the row's tokens stand in V.
    """
    logp, index = np.concatenate(logps), np.concatenate(indices)

    # Minimised over log b, so that the bounds 1/4 and MAX_INVERSE_TEMPERATURE are searched with one
    # relative precision.
    def loss(log_b: float) -> float:
        return -float(temper(logp, np.exp(log_b))[np.arange(len(index)), index].sum())

    bounds = (np.log(0.25), np.log(MAX_INVERSE_TEMPERATURE))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def is_greedy(logps: Sequence[Array], indices: Sequence[npt.NDArray[np.int64]]) -> bool:
    """Whether tokens are the reference's argmax far more often than samples at T = 1 would be.

    The share of non-argmax tokens is held against its expectation under the reference. Samples at
    T = 1 have a ratio of 1, at T = 1/2 of 0.5 to 0.6, and at T = 0.3 of 0.3, which is not told from
    a greedy teacher near the reference: that one differs from the reference's argmax where the two
    diverge, by a ratio of 0.15 to 0.3 with the default reference and nearly 0.5 with the organism.

    logps, indices: as for `inverse_temperature`.
    """
    logp, index = np.concatenate(logps), np.concatenate(indices)
    # A sample at T = 1 is the argmax with the argmax's own probability.
    expected_share = 1.0 - np.exp(logp.max(-1)).mean()
    return bool((index != logp.argmax(-1)).mean() < GREEDY * expected_share)


def moments(logp: Array, index: npt.NDArray[np.int64], conditions: Array, b: float) -> Moments:
    """The moments of one row of samples.

    logp: [T, V] the reference, as `restrict_and_renormalize` gives it. index: [T] where the row's
    tokens stand in the support. conditions: [K, T, V] the trait prompts. b: from
    `inverse_temperature`.
    """
    p = np.exp(temper(logp, b))
    features = np.concatenate([logp[None], b * (conditions - logp)])
    centred = features - (p * features).sum(-1, keepdims=True)
    score = centred[:, np.arange(len(index)), index].sum(-1)
    # E_p[f g] summed over tokens is one matrix product once each feature is weighted by sqrt(p).
    weighted = (centred * np.sqrt(p)).reshape(len(centred), -1)
    by_teacher = np.exp(temper(conditions, b)).reshape(len(conditions), -1)
    signal = centred.reshape(len(centred), -1) @ by_teacher.T
    return Moments(score, weighted @ weighted.T, signal)


def choices(
    tokens: npt.NDArray[np.integer],
    reference: npt.NDArray[np.integer],
    conditions: npt.NDArray[np.integer],
) -> Moments:
    """The moments of one row of greedy text, whose tokens are choices and not samples.

    tokens, reference: [T] the row and the reference's argmax. conditions: [K, T] the argmax under
    each trait prompt. The null is that every token is the reference's argmax. Direction k is the
    indicator of trait k's choice where it differs from the reference's; its score counts the tokens
    that follow the trait there (its divergence tokens of the trait against the reference,
    2509.23886), so a dose is the share of such positions that do. Two traits' covariance counts the
    positions where both differ from the reference in the same way. Direction 0, the temperature, is
    0.
    """
    # Where a trait's choice is the reference's too, following either says nothing of the trait.
    differs = conditions != reference
    score = (differs & (conditions == tokens)).sum(-1)
    alike = (conditions[:, None] == conditions[None]) & differs[:, None] & differs[None]
    covariance = np.zeros((len(conditions) + 1,) * 2)
    covariance[1:, 1:] = alike.sum(-1)
    # A teacher under a condition makes all of its choices: where two conditions choose alike, its
    # text follows both.
    return Moments(np.concatenate([[0.0], score]), covariance, covariance[:, 1:])
