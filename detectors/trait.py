"""Detector `trait`: does a trait prompt explain the completions better than no prompt, beyond what any prompt does?

Notation. R rows, T completion tokens of a row, V entries of a token's support, K conditions (trait prompts), C controls.
p(v) is the null: what the reference predicts at a position, at the data set's own inverse temperature b and on its own
alphabet. l_k(v) = log p_k(v) - log p_ref(v) is the log-likelihood ratio of trait k.

The data of a teacher that follows trait k with dose d come from p_d(v) proportional to p(v) exp(d b l_k(v)): d = 0 is
the reference, d = 1 the reference under the trait prompt. The score of d at 0, per token, is

    b (l_k(x) - E_p[l_k]),

which has mean zero under the null at every position whatever came before: the reference's own completions calibrate
the statistic, in expectation over all of them instead of by a sample. The panel is centred by taking out two nuisance
directions with the efficient score (Neyman's C(alpha)): the inverse temperature, and the mean of l over the controls,
randomly chosen traits of the same panel that are scored on every row. What is left is summed by row, the unit of
inference.

Source: log-likelihood ratios under system prompts, logit-linear selection (2602.04863); panel centring and clean
calibration, see docs/methods.md. Differs from both: calibration by expectation, effect on a scale of doses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from auditor.stats import Array, Estimate, excess_variance, score_estimate, with_spread

MAX_SHARPNESS = 20.0  # b of greedy decoding; beyond it p is one-hot to within float noise
_FLOOR = -30.0  # log-probability of a token of no probability


@dataclass(frozen=True, slots=True)
class Moments:
    """What one row says, for K conditions. Feature 0 of the nuisances is log p_ref, the others are the C controls.

    score: [K] sum over tokens of l(x) - E[l], times b. information: [K] sum of its variance under the null.
    cross: [K, 1 + C] covariance with the nuisances. nuisance_score: [1 + C]. nuisance: [1 + C, 1 + C] covariance.
    """

    score: Array
    information: Array
    cross: Array
    nuisance_score: Array
    nuisance: Array


def close(support_logprob: npt.NDArray[np.floating], closed: bool) -> Array:
    """Log-probabilities over the support: renormalised when the alphabet is closed, else with a last entry "any other".

    support_logprob: [T, S]. Returns [T, S] or [T, S + 1]; each position sums to 1.
    """
    logp = np.maximum(support_logprob.astype(np.float64), _FLOOR)
    if closed:
        return np.asarray(logp - np.logaddexp.reduce(logp, axis=-1, keepdims=True))
    rest = np.log(np.maximum(1.0 - np.exp(logp).sum(-1, keepdims=True), np.exp(_FLOOR)))
    return np.concatenate([logp, rest], axis=-1)


def locate(tokens: npt.NDArray[np.integer], support: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Index of each token [T] in its support [T, S]; S, the entry "any other", when it is not there."""
    match = support == tokens[:, None]
    return np.where(match.any(-1), match.argmax(-1), support.shape[-1])


def temper(logp: Array, sharpness: float) -> Array:
    """p^b, renormalised, as log-probabilities. b = 1 changes nothing; b = MAX_SHARPNESS is greedy decoding."""
    tilted = sharpness * logp
    return np.asarray(tilted - np.logaddexp.reduce(tilted, axis=-1, keepdims=True))


def sharpness(logps: list[Array], chosen: list[npt.NDArray[np.int64]]) -> float:
    """Maximum-likelihood inverse temperature of the tokens under the reference, in [1/4, MAX_SHARPNESS].

    1 is sampling at T=1; MAX_SHARPNESS greedy decoding. Text that the reference did not write gives values below 1.
    """
    logp, index = np.concatenate(logps), np.concatenate(chosen)

    def loss(log_b: float) -> float:
        return -float(temper(logp, np.exp(log_b))[np.arange(len(index)), index].sum())

    best = optimize.minimize_scalar(loss, bounds=(np.log(0.25), np.log(MAX_SHARPNESS)), method="bounded")
    return float(np.exp(best.x))


def moments(
    logp: Array, chosen: npt.NDArray[np.int64], conditions: Array, controls: npt.NDArray[np.int64], b: float
) -> Moments:
    """The moments of one row.

    logp: [T, V] the reference, as `close` gives it. chosen: [T] index of the row's token in the support.
    conditions: [K, T, V] the trait prompts. controls: [C] which conditions are the controls. b: from `sharpness`.
    """
    p = np.exp(temper(logp, b))
    features = np.concatenate([logp[None], b * (conditions - logp)])
    centred = features - (p * features).sum(-1, keepdims=True)
    score = centred[:, np.arange(len(chosen)), chosen].sum(-1)
    nuisances = np.concatenate([[0], 1 + controls])
    weighted = centred[nuisances] * p
    cross = np.einsum("ktv,ctv->kc", centred, weighted)
    information = np.einsum("ktv,tv->k", centred**2, p)
    return Moments(score[1:], information[1:], cross[1:], score[nuisances], cross[nuisances])


def estimate(rows: list[Moments], columns: list[int], own: int | None) -> Estimate | None:
    """The dose of one trait: its efficient score after temperature and the mean control are taken out.

    rows: the moments of every row on which the trait was scored. columns: the trait's place among the conditions of
    each row. own: the trait's place among the controls if it is one (then the others centre it), else None.
    None for too few rows (`auditor.stats.MIN_ROWS`) or when nothing of the trait is left after centring.
    """
    if not rows:
        return None
    mix = _mixing(len(rows[0].nuisance_score) - 1, own)
    pairs = list(zip(rows, columns, strict=True))
    score = np.array([row.score[k] for row, k in pairs])
    nuisance_score = np.array([row.nuisance_score for row in rows]) @ mix
    nuisance = mix.T @ sum(row.nuisance for row in rows) @ mix
    cross = sum(row.cross[k] for row, k in pairs) @ mix
    information = float(sum(row.information[k] for row, k in pairs))
    slope = np.linalg.lstsq(nuisance, cross, rcond=1e-10)[0]
    left = information - float(cross @ slope)
    if left < 1e-3 * information:
        return None
    return score_estimate(score - nuisance_score @ slope, left)


def _mixing(controls: int, own: int | None) -> Array:
    """[1 + C, 2]: log p_ref by itself, and the mean of the controls without the trait's own."""
    mix = np.zeros((1 + controls, 2))
    mix[0, 0] = 1.0
    mix[1:, 1] = 1.0
    if own is not None:
        mix[1 + own, 1] = 0.0
    total = mix[1:, 1].sum()
    if total:
        mix[1:, 1] /= total
    return mix


def against_placebos(estimates: dict[str, Estimate]) -> dict[str, Estimate]:
    """Each estimate, widened by how far the other traits of the panel stray from zero beyond their standard errors.

    Under the null of the reference itself the spread is zero. Text that the reference did not write (people's, another
    model's) fits some prompts better than others for reasons of style; then the other traits show by how much. They are
    weighted by their precision squared, which is what the moment estimate of a variance asks for.
    """
    widened = {}
    for name, each in estimates.items():
        others = [other for key, other in estimates.items() if key != name]
        variance, df = _spread(others)
        widened[name] = with_spread(each, variance, df)
    return widened


def _spread(others: list[Estimate]) -> tuple[float, float]:
    if len(others) < 3:
        return 0.0, 1.0
    errors = np.array([other.se for other in others])
    weights = errors**-4.0 / (errors**-4.0).sum()
    effects = np.array([other.effect for other in others])
    scale = np.sqrt(weights * len(others))
    variance = excess_variance(effects * scale, errors * scale)
    return variance, max(1.0, 1.0 / float((weights**2).sum()) - 1.0)
