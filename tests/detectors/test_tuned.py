"""Doses of tuned copies: what a trait does alone counts, what benign tunings do does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from auditor.inference.estimates import Array
from auditor.inference.tempering import Moments
from detectors.tuned import tuned_estimates

ROWS, TRAITS, BENIGN = 400, 3, 10
COPIES = TRAITS + BENIGN
GROUP = (tuple(range(TRAITS)),)
ALL = dict.fromkeys(range(TRAITS), np.ones(ROWS, dtype=bool))


def moments(drift: Sequence[float] = (), benign: Sequence[float] = (), seed: int = 0) -> Moments:
    """Rows whose copies' scores share a part of variance 1 beside one of their own; `drift` is the
    mean of the first of them, and `benign` that of the benign ones.
    """
    rng = np.random.default_rng(seed)
    mean = np.zeros(COPIES)
    mean[: len(drift)] = drift
    mean[TRAITS : TRAITS + len(benign)] = benign
    scores = rng.standard_normal((ROWS, 1)) + rng.standard_normal((ROWS, COPIES)) + mean
    covariance = np.zeros((COPIES + 1, COPIES + 1))
    covariance[1:, 1:] = np.eye(COPIES) + 1.0
    return locally(np.hstack([np.zeros((ROWS, 1)), scores]), covariance)


def locally(score: Array, covariance: Array) -> Moments:
    """Moments of effects so small that what a condition makes of a score is its covariance."""
    covariances = np.tile(covariance, (ROWS, 1, 1))
    return Moments(score, covariances, covariances[:, :, 1:])


def test_the_copy_whose_data_these_are_is_found() -> None:
    """Its dose is what its own score says, and the others' lie below."""
    found = tuned_estimates(moments([0.0, 0.5]), GROUP, ALL)
    assert max(found, key=lambda k: found[k].z) == 1
    assert found[1].z > 5
    assert all(found[k].effect < 0.1 for k in (0, 2))


def test_a_trait_is_not_blamed_for_what_every_tuning_does() -> None:
    """Data at a dose of 0.3 of every benign copy: all scores drift, by what they share, and the
    doses of the traits are 0.
    """
    drift = (np.eye(COPIES) + 1.0) @ np.array([0.0] * TRAITS + [0.3] * BENIGN)
    assert drift[0] == pytest.approx(3.0)
    found = tuned_estimates(moments(drift[:TRAITS], drift[TRAITS:]), GROUP, ALL)
    assert all(abs(each.z) < 3 for each in found.values())


def test_the_error_rate_is_kept() -> None:
    """Of 300 doses without any drift at most about a twentieth have p below .05."""
    worlds = [tuned_estimates(moments(seed=seed), GROUP, ALL) for seed in range(100)]
    rate = np.mean([each.p_value < 0.05 for found in worlds for each in found.values()])
    assert 0.01 < rate < 0.06


def test_rows_that_mention_the_trait_are_no_evidence_for_it() -> None:
    """The drift sits in rows that speak of trait 1: what is left of its dose is nothing."""
    rows = moments()
    rows.score[:100, 2] += 3.0
    kept = ALL | {1: np.arange(ROWS) >= 100}
    assert tuned_estimates(rows, GROUP, ALL)[1].z > 5
    assert abs(tuned_estimates(rows, GROUP, kept)[1].z) < 3


def test_a_copy_that_nothing_tells_from_the_benign_has_no_dose() -> None:
    """All copies have the same scores: nothing is left after centring."""
    rows = moments()
    same = np.zeros((COPIES + 1, COPIES + 1))
    same[1:, 1:] = 1.0
    assert tuned_estimates(locally(rows.score[:, [0] + [1] * COPIES], same), GROUP, ALL) == {}


def test_a_benign_tuning_is_no_finding() -> None:
    """Where benign copies stray, to either side, a trait that strays as far is no evidence; where
    it alone does, it is.
    """
    strays = tuned_estimates(moments([0.35], [0.3, -0.3] * (BENIGN // 2)), GROUP, ALL)
    assert strays[0].z < 2
    assert tuned_estimates(moments([0.35]), GROUP, ALL)[0].z > 4


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_have_no_dose(rows: int) -> None:
    """There is no error to be had from them."""
    few = moments().of_rows(np.arange(ROWS) < rows)
    assert tuned_estimates(few, GROUP, {k: each[:rows] for k, each in ALL.items()}) == {}
