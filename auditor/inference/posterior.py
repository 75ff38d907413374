"""How probable it is that a data set carries a trait, under a stated prior."""

from __future__ import annotations

import math
from collections.abc import Sequence

STEPS = 100
# No data give a dose more exactly than this, nor one so large; a report that somebody made up can.
MIN_SE, MAX_EFFECT = 1e-6, 1e6


def dose_probability(estimates: Sequence[tuple[float, float]], limit: float) -> float | None:
    """The posterior probability of a dose above `limit`, in [0, 1]; None without an estimate.

    estimates: for every trait tested its dose and the standard error; a standard error of 0 or less
    stands for a trait of which nothing is known. limit: a dose in (0, 1].

    The prior: a half of all data sets carry no trait. The others carry exactly one of the traits,
    each alike, at a dose that is uniform on (0, 1]. So the value without any information is
    (1 - limit) / 2. The likelihood of an estimate is normal, as in `Estimate.log_evidence`. It is
    summed at the middle of 100 steps on either side of `limit`.
    """
    if not estimates:
        return None
    above, below = (_log_evidence(estimates, *ends) for ends in ((limit, 1.0), (0.0, limit)))
    return math.exp(above - _log_sum([0.0, above, below]))


def _log_evidence(estimates: Sequence[tuple[float, float]], low: float, high: float) -> float:
    """Log of the likelihood ratio of a dose between `low` and `high` against no trait, integrated
    over the dose and averaged over the traits; -inf where nothing lies between.
    """
    if high <= low:
        return -math.inf
    doses = [low + (high - low) * (step + 0.5) / STEPS for step in range(STEPS)]
    log_ratios = []
    for effect, se in estimates:
        effect = max(-MAX_EFFECT, min(MAX_EFFECT, effect))
        precision = max(se, MIN_SE) ** -2 if se > 0 else 0.0
        # log N(effect; d, se) - log N(effect; 0, se) for every dose d.
        log_ratios += [dose * (effect - dose / 2) * precision for dose in doses]
    return _log_sum(log_ratios) + math.log((high - low) / len(log_ratios))


def _log_sum(logs: Sequence[float]) -> float:
    """Log of a sum, from logs of its terms: a z of 40 would overflow without."""
    largest = max(logs)
    return largest + math.log(math.fsum(math.exp(term - largest) for term in logs))
