"""The statistics of paired students: pure functions.

The unit of inference is a block of rows with one pair of students: nothing that happens within a
pair (its prompts, its tokens) counts as a repetition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from auditor.inference.effect import REMOVED, Effect, Ratio, TransferVerdict
from auditor.inference.estimates import Array

LEVEL = 0.95
# Pairs of students before an experiment may stop early: two have one degree of freedom.
MIN_BLOCKS = 3
# Fewer alternatives in a group cannot tell how far their effects vary without the trait.
MIN_NEGATIVE_CONTROLS = 3


def margins(logits: Array) -> Array:
    """[..., W] the logit of every word minus the mean of all other words' logits [..., W]; W is at
    least 2.
    """
    count = logits.shape[-1]
    return np.asarray((logits - logits.mean(-1, keepdims=True)) * count / (count - 1))


def effect(differences: Sequence[float], level: float = LEVEL) -> Effect:
    """Mean of the paired differences [B] with its t interval; without an interval for one block.

    B is at least 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    blocks = tuple(float(value) for value in values)
    if len(values) < 2:
        return Effect(mean, None, blocks)
    half = _t(len(values), level) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Effect(mean, (mean - half, mean + half), blocks)


def transferred(original: Effect) -> bool:
    """Whether the original moved its students to the trait: its interval lies above 0."""
    return original.interval is not None and original.interval[0] > 0


def effect_ratio(arm: Sequence[float], original: Sequence[float], level: float = LEVEL) -> Ratio:
    """Share of the original's effect that is left in an arm, from the paired effects [B] of both.

    The interval is Fieller's (1954): all shares r for which the mean of arm - r original is not
    told from 0 by its t test over the blocks. That set is an interval exactly when the original's
    own effect is told from 0; otherwise it reaches to infinity, and there is no interval.
    """
    x, y = np.asarray(arm, dtype=np.float64), np.asarray(original, dtype=np.float64)
    if len(y) < 2:
        return Ratio(None, None, "one block has no interval")
    covariance = np.cov(x, y) * _t(len(y), level) ** 2 / len(y)
    a = float(y.mean() ** 2 - covariance[1, 1])
    b = float(x.mean() * y.mean() - covariance[0, 1])
    c = float(x.mean() ** 2 - covariance[0, 0])
    # The shares r with a r^2 - 2 b r + c <= 0 are the interval. They lie between the two roots only
    # where a > 0, which says that the original's effect is told from 0.
    if a <= 0 or y.mean() <= 0:
        return Ratio(None, None, "the original's effect is not told from 0")
    root = math.sqrt(max(0.0, b * b - a * c))  # rounding alone can make it negative
    return Ratio(float(x.mean() / y.mean()), ((b - root) / a, (b + root) / a), None)


def verdict(ratio: Ratio) -> TransferVerdict:
    """What an arm did to the effect, by the interval of what is left.

    "removed": at most REMOVED, at the upper end. "reduced": below 1 there. "not reduced": a
    reduction is not shown, and more than REMOVED is left at the lower end. "inconclusive": the
    interval holds both, so that the defence may have removed all or nothing. "no transfer shown":
    there is no interval, and nothing can be said about the defence.
    """
    if ratio.interval is None:
        return "no transfer shown"
    low, high = ratio.interval
    if high <= REMOVED:
        return "removed"
    if high < 1:
        return "reduced"
    return "not reduced" if low > REMOVED else "inconclusive"


def settled(arms: Sequence[Sequence[float]], original: Sequence[float], planned: int) -> bool:
    """Whether further blocks would leave the verdicts as they are: every interval lies within one
    verdict's range.

    arms: paired effects [B] of each arm. planned: blocks in all. An experiment may stop after any
    block from MIN_BLOCKS on, so the intervals used here have an error rate of 5 % over all these
    interim analyses together (Bonferroni).
    """
    if len(original) < MIN_BLOCKS:
        return False
    level = 1 - (1 - LEVEL) / max(1, planned - MIN_BLOCKS + 1)
    if not transferred(effect(original, level)):
        return False
    for arm in arms:
        interval = effect_ratio(arm, original, level).interval
        if interval is None:
            return False
        low, high = interval
        # Both ends must lie on one side of each bound that parts two verdicts.
        if low <= REMOVED < high or low < 1 <= high:
            return False
    return True


def negative_control_test(effects: Sequence[float], index: int) -> tuple[float, float] | None:
    """z and one-sided p of effects[index] against the other traits of its group, effects [W].

    The other traits are negative controls, which the data do not carry: how far their effects vary
    is the noise of one effect, whatever its cause. z = (effect - mean of controls) / sd of
    controls; p is from t with W - 2 degrees of freedom and allows for the error of that mean.
    Relatives of a true trait vary more, which makes the test cautious. None with fewer than
    MIN_NEGATIVE_CONTROLS controls, or when they do not vary at all.
    """
    controls = np.delete(np.asarray(effects, dtype=np.float64), index)
    if len(controls) < MIN_NEGATIVE_CONTROLS or (spread := float(controls.std(ddof=1))) == 0:
        return None
    z = float(effects[index] - controls.mean()) / spread
    return z, float(stats.t.sf(z / math.sqrt(1 + 1 / len(controls)), len(controls) - 1))


def total_variation(left_answers: Array, right_answers: Array) -> float:
    """Mean over contexts of half the L1 distance of two sets of distributions [Q, S]; in [0, 1]."""
    return float(np.abs(left_answers - right_answers).sum(-1).mean() / 2)


def rank(effects: Sequence[float], index: int) -> int:
    """Rank of effects[index] among them all, 1 for the largest; ties share the better rank."""
    return 1 + sum(effect > effects[index] for effect in effects)


def _t(blocks: int, level: float) -> float:
    return float(stats.t.ppf(0.5 + level / 2, blocks - 1))
