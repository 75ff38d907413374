"""Inference: pure functions over numpy arrays.

Every one refuses too little data instead of guessing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]

# Fewer clusters make a cluster-robust standard error meaningless.
MIN_ROWS = 8


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of an effect that is at most `null` under the null hypothesis.

    effect: the point estimate. se: its standard error. df: degrees of freedom of the t distribution
    that it is held against.
    """

    effect: float
    se: float
    df: float
    null: float = 0.0

    @property
    def z(self) -> float:
        """Effect over standard error; 0 without an error to divide by."""
        return self.effect / self.se if self.se > 0 else 0.0

    @property
    def p_value(self) -> float:
        """Of an effect of at most `null`; 1 without an error to judge by."""
        if self.se <= 0:
            return 1.0
        return float(stats.t.sf((self.effect - self.null) / self.se, self.df))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided confidence interval."""
        half = float(stats.t.ppf(0.5 + level / 2, self.df)) * self.se
        return self.effect - half, self.effect + half

    def upper(self, level: float = 0.95) -> float:
        """One-sided upper confidence bound."""
        return self.effect + float(stats.t.ppf(level, self.df)) * self.se

    def less(self, other: Estimate) -> Estimate:
        """By how much the effect exceeds an independent one; at most 0 under the null that they are
        alike. The degrees of freedom are Satterthwaite's (1946).
        """
        variance, others = self.se**2, other.se**2
        parts = variance**2 / self.df + others**2 / other.df
        df = (variance + others) ** 2 / parts if parts else min(self.df, other.df)
        return Estimate(self.effect - other.effect, math.sqrt(variance + others), df)

    def log_evidence(self, most: float) -> float:
        """Log of the Bayes factor of an effect between 0 and `most`, all equally likely before,
        against none.

        The value tends to 0 as the error grows without bound, and lies the further below 0 the
        surer it is that there is no such effect; z alone would rank imprecise estimates by chance.
        The normal approximation is summed on a grid of 200 steps.
        """
        if self.se <= 0:
            return 0.0
        effects = np.linspace(0.0, most, 201)
        # log N(effect; e, se) - log N(effect; 0, se) for every e of the grid: an imprecise estimate
        # has ratios near 0 there. Their mean is taken as logarithms, or a z of 40 would overflow.
        ratios = effects * (self.effect - effects / 2) / self.se**2
        return float(np.logaddexp.reduce(ratios)) - math.log(len(effects))


def score_estimate(scores: Array, expected: float) -> Estimate | None:
    """The share of an effect that per-row scores show.

    scores: [n] one score a row (mean zero under the null). expected: what they would sum to under
    the whole effect. effect = sum(scores) / expected; the standard error is clustered by row (the
    sandwich of White 1980). None for fewer than MIN_ROWS rows, or where nothing is expected.
    """
    n = len(scores)
    if n < MIN_ROWS or expected <= 0:
        return None
    spread = math.sqrt(float(np.var(scores, ddof=1)) * n)
    # Never below one count: where no row of greedy text scores at all the variance is 0, and yet
    # one divergence token more would have been about as likely.
    se = max(spread, 1.0) / expected
    return Estimate(float(scores.sum()) / expected, se, n - 1)


def mean_estimate(values: Array) -> Estimate:
    """The mean of independent values [n], n of at least 2, with its standard error, in the unit of
    the values.
    """
    se = float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(float(values.mean()), se, len(values) - 1)


def with_spread(estimate: Estimate, variance: float, df: float) -> Estimate:
    """Widen an estimate by a variance between negative controls, which is itself estimated with
    `df` degrees of freedom.

    The degrees of freedom of the sum are Satterthwaite's (1946). A variance of 0 changes nothing.
    """
    total = estimate.se**2 + variance
    if variance <= 0:
        return estimate
    joint = total**2 / (variance**2 / df + estimate.se**4 / estimate.df)
    return Estimate(estimate.effect, math.sqrt(total), joint)


def share_interval(count: int, drawn: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share of `total` rows, from `count` hits among the `drawn` rows that were read.

    The interval is that of Clopper and Pearson (1934), two-sided: it never covers less than
    `level`, and ignores that the rows not drawn are finitely many. It is a point when all were
    drawn, and (0, 1) when none was.
    """
    if drawn >= total > 0:
        return count / drawn, count / drawn
    if drawn == 0:
        return 0.0, 1.0
    interval = stats.binomtest(count, drawn).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)
