"""How far the doses of traits that the data do not carry vary, beyond their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from auditor.inference.estimates import Estimate, with_spread

# Fewer traits cannot tell how far the doses of a panel vary.
MIN_NEGATIVE_CONTROLS = 8
# Largest standard deviation between traits that is thought possible, in doses; templates, the text
# that is least like the reference's own, have 1.
MAX_BETWEEN_TRAIT_SD = 10.0


def add_random_effect(
    plain: Mapping[int, Estimate], negative_controls: Mapping[int, frozenset[int]]
) -> dict[int, Estimate]:
    """Estimates of traits by number, whose errors allow for how far the doses of their negative
    controls vary; see `between_trait_variance`.

    negative_controls: for each trait those whose doses stay put when the data carry the trait.
    """
    # Most traits of a family share their controls, and the variance is the same for all of them.
    variance = {
        controls: between_trait_variance([plain[k] for k in plain if k in controls])
        for controls in {negative_controls[k] for k in plain}
    }
    return {
        k: replace(estimate, se=math.sqrt(estimate.se**2 + variance[negative_controls[k]]))
        for k, estimate in plain.items()
    }


def between_trait_variance(controls: Sequence[Estimate]) -> float:
    """The variance of the doses of traits that the data do not carry, beyond their errors; at least
    0.

    controls: estimates of traits that are no relatives of the one under test. Text that the
    reference did not write (people's, another model's, that of another prompt) follows some prompts
    more than others for reasons of style, so its doses differ from 0 however many rows there are:
    dose ~ N(0, se^2 + v). v is the posterior mean with all standard deviations up to
    MAX_BETWEEN_TRAIT_SD equally likely before, so that few rows or few controls do not pass for no
    variance at all. 0 for fewer than MIN_NEGATIVE_CONTROLS. Source: random effects (DerSimonian and
    Laird 1986), with the prior of Gelman (2006, Bayesian Analysis 1, 3).
    """
    if len(controls) < MIN_NEGATIVE_CONTROLS:
        return 0.0
    dose, error = np.array([(estimate.effect, estimate.se) for estimate in controls]).T
    # The grid is finer near 0, where most data sets lie; its spacing is the weight of the prior.
    sd = MAX_BETWEEN_TRAIT_SD * np.linspace(0, 1, 401) ** 2
    variance = error[:, None] ** 2 + sd**2
    log_likelihood = -(np.log(variance) + dose[:, None] ** 2 / variance).sum(0) / 2
    # The largest is taken out before exp, or with many controls every weight would underflow to 0.
    weights = np.exp(log_likelihood - log_likelihood.max()) * np.gradient(sd)
    return float(np.average(sd**2, weights=weights))


def inflated(estimate: Estimate, controls: Sequence[float]) -> Estimate:
    """The estimate with its squared error times the mean square of `controls`, where that exceeds
    the 1 that chance gives.

    controls: z of tests on the same rows for what the data do not carry. The mean of n squares is
    itself known with n degrees of freedom only. Source: genomic control (Devlin and Roeder 1999),
    with the mean in place of the median, since these are few and none of them is a finding.
    """
    excess = max(0.0, float(np.mean(np.square(controls))) - 1.0)
    return with_spread(estimate, excess * estimate.se**2, len(controls))
