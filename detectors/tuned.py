"""Detector `tuned`: does a copy of the reference that was tuned on a trait explain the completions better?

A teacher may have its trait in its weights. It gets no trait prompt then, and no prompt of a panel moves the reference
the way its weights were moved. A copy of the reference that was tuned on the same trait does: its log-likelihood ratio
to the reference takes the place of the trait prompt's in the statistic of `detectors.trait`. Dose 0 is the reference,
dose 1 data of such a copy.

Whatever such copies are tuned on moves them alike ("answers in one word"). That is taken out with the means over the
copies tuned on the other traits, family by family, as nuisance directions.

Source: trait-tuned weights as a teacher, 2509.23886 and its replications; the detector is ours. A plain likelihood
ratio of tuned copies names no trait; the score centred by expectation and by the other copies does (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from auditor.stats import Estimate
from detectors.trait import MIN_PLACEBOS, Moments, Place, estimate, inflation


def tuned_estimates(
    moments: Moments,
    families: Sequence[Sequence[int]],
    hidden: Mapping[int, npt.NDArray[np.bool_]],
) -> dict[int, Estimate]:
    """The dose of every copy with enough rows and information, by its number.

    moments: of R rows under K copies. families: the numbers 0 .. K - 1 by family. hidden: [R] for each copy, the rows
    that do not mention its trait openly; the others are no evidence for it.

    Any tuning of a teacher, a benign one too, moves its text along the copies' directions, and a trait must stand out
    from that: errors are widened by the inflation of the copies of other families; where those are fewer than
    MIN_PLACEBOS, by that of all other copies. That is more cautious, since a trait's relatives stray with it.
    """
    found = {}
    for k in (k for family in families for k in family):
        seen = Moments(moments.score[hidden[k]], moments.covariance[hidden[k]])
        centres = tuple(tuple(j for j in family if j != k) for family in families)
        if dose := estimate([seen], [Place(k, centres)]):
            found[k] = dose
    return {k: replace(each, se=each.se * math.sqrt(_stray(k, found, families))) for k, each in found.items()}


def _stray(k: int, found: Mapping[int, Estimate], families: Sequence[Sequence[int]]) -> float:
    own = next(family for family in families if k in family)
    strangers = [each.z for j, each in found.items() if j not in own]
    others = [each.z for j, each in found.items() if j != k]
    return inflation(strangers if len(strangers) >= MIN_PLACEBOS else others)
