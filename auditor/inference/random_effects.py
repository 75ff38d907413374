"""How far the doses of traits that the data do not carry vary, beyond their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from auditor.inference.estimates import Estimate

MIN_NEGATIVE_CONTROLS = 8  # fewer traits cannot tell how far a panel strays
MAX_STRAY = 10.0  # in doses; templates, the strangest text seen, have 1


def add_random_effect(
    plain: Mapping[int, Estimate], placebos: Mapping[int, frozenset[int]]
) -> dict[int, Estimate]:
    """Estimates of traits by number, whose errors allow for how far their placebos stray; see
    `between_trait_variance`.

    placebos: for each trait those that do not stray with it when the data carry it.
    """
    variance: dict[frozenset[int], float] = {}  # most traits of a family share their placebos
    for own in {placebos[k] for k in plain}:
        variance[own] = between_trait_variance([each for k, each in plain.items() if k in own])
    return {
        k: replace(each, se=math.sqrt(each.se**2 + variance[placebos[k]]))
        for k, each in plain.items()
    }


def between_trait_variance(strangers: Sequence[Estimate]) -> float:
    """The variance of the doses of traits that the data do not carry, beyond their errors; at least
    0.

    strangers: traits that are no relatives of the one under test. Text that the reference did not
    write (people's, another model's, that of another prompt) follows some prompts more than others
    for reasons of style, so their doses stray from 0 however many rows there are: dose ~ N(0, se^2
    + v). v is the posterior mean with all standard deviations up to MAX_STRAY equally likely
    before, so that few rows or few strangers do not pass for none that stray. 0 for fewer than
    MIN_PLACEBOS. Source: random effects (DerSimonian and Laird 1986), with the prior of Gelman
    (2006, Bayesian Analysis 1, 3).
    """
    if len(strangers) < MIN_NEGATIVE_CONTROLS:
        return 0.0
    dose, error = np.array([(each.effect, each.se) for each in strangers]).T
    stray = MAX_STRAY * np.linspace(0, 1, 401) ** 2  # closer where it matters, near 0
    spread = error[:, None] ** 2 + stray**2
    likelihood = -(np.log(spread) + dose[:, None] ** 2 / spread).sum(0) / 2
    weights = np.exp(likelihood - likelihood.max()) * np.gradient(stray)
    return float(np.average(stray**2, weights=weights))


def inflation(z: Sequence[float]) -> float:
    """By how much the squares of z exceed what chance gives, at least 1: median(z^2) over the
    median of chi^2_1.

    z: of tests on the same rows that are no relatives of the one in question. 1 for fewer than
    MIN_PLACEBOS. Source: genomic control (Devlin and Roeder 1999).
    """
    if len(z) < MIN_NEGATIVE_CONTROLS:
        return 1.0
    return max(1.0, float(np.median(np.square(z))) / float(stats.chi2.ppf(0.5, 1)))
