"""Doses of tuned copies: what is theirs alone counts, what all of them do does not."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.inference.estimates import Array
from auditor.inference.tempering import Moments
from detectors.tuned import tuned_estimates

ROWS, COPIES = 400, 5
FAMILY = (tuple(range(COPIES)),)
ALL = dict.fromkeys(range(COPIES), np.ones(ROWS, dtype=bool))


def moments(drift: Array, common: float = 0.0, seed: int = 0) -> Moments:
    """Rows whose copies' scores share a part of variance 1 beside one of their own; `drift`
    [COPIES] is their mean.
    """
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((ROWS, 1)) + common
    own = rng.standard_normal((ROWS, COPIES)) + drift
    score = np.concatenate([np.zeros((ROWS, 1)), own + shared], axis=1)
    covariance = np.zeros((COPIES + 1, COPIES + 1))
    covariance[1:, 1:] = np.eye(COPIES) + 1.0
    return locally(score, np.tile(covariance, (ROWS, 1, 1)))


def locally(score: Array, covariance: Array) -> Moments:
    """Moments of effects so small that what a condition makes of a score is its covariance."""
    return Moments(score, covariance, covariance[:, :, 1:])


def test_the_copy_whose_data_these_are_is_found() -> None:
    """Its dose is what its own score says, and the others' lie below."""
    found = tuned_estimates(moments(np.array([0.0, 0.5, 0.0, 0.0, 0.0])), FAMILY, ALL)
    assert max(found, key=lambda k: found[k].z) == 1
    assert found[1].z > 6
    assert all(found[k].effect < 0.1 for k in (0, 2, 3, 4))


def test_a_copy_is_not_blamed_for_what_the_others_do() -> None:
    """Data at a dose of 0.5 of every copy but the first: its score drifts too, by what it shares,
    and its dose is 0.
    """
    covariance = np.eye(COPIES) + 1.0
    drift = covariance @ np.array([0.0, 0.5, 0.5, 0.5, 0.5])
    assert drift[0] == 2.0
    found = tuned_estimates(moments(drift), FAMILY, ALL)
    assert abs(found[0].z) < 3
    assert all(found[k].z > 5 for k in (1, 2, 3, 4))


def test_the_error_rate_is_kept() -> None:
    """Of 1,000 doses without any drift about a twentieth have p below .05."""
    worlds = [
        tuned_estimates(moments(np.zeros(COPIES), seed=seed), FAMILY, ALL) for seed in range(200)
    ]
    rate = np.mean([each.p_value < 0.05 for found in worlds for each in found.values()])
    assert 0.03 < rate < 0.07


def test_rows_that_mention_the_trait_are_no_evidence_for_it() -> None:
    """The drift sits in rows that speak of trait 1: what is left of its dose is nothing."""
    rows = moments(np.zeros(COPIES))
    rows.score[:100, 2] += 3.0
    kept = ALL | {1: np.arange(ROWS) >= 100}
    assert tuned_estimates(rows, FAMILY, ALL)[1].z > 5
    assert abs(tuned_estimates(rows, FAMILY, kept)[1].z) < 3


def test_a_copy_that_nothing_tells_from_the_others_has_no_dose() -> None:
    """Two copies with the same scores in a family of two: nothing is left after centring."""
    rows = moments(np.zeros(COPIES))
    twins = locally(
        rows.score[:, [0, 1, 1]], np.tile(np.array([[0, 0, 0], [0, 1, 1], [0, 1, 1]]), (ROWS, 1, 1))
    )
    assert tuned_estimates(twins, ((0, 1),), ALL) == {}


def test_a_teacher_tuned_on_something_else_is_no_finding() -> None:
    """Where all copies stray, to either side, the one that strays most is no evidence; where it
    alone does, it is.
    """
    rng = np.random.default_rng(0)
    score = np.concatenate([np.zeros((ROWS, 1)), rng.standard_normal((ROWS, 9))], axis=1)
    score[:, 1:] += [0.35, *([0.3, -0.3] * 4)]
    covariance = np.diag([0.0, *[1.0] * 9])
    stray = locally(score, np.tile(covariance, (ROWS, 1, 1)))
    seen = dict.fromkeys(range(9), np.ones(ROWS, dtype=bool))
    for families in ((tuple(range(9)),), ((0,), tuple(range(1, 9)))):
        assert tuned_estimates(stray, families, seen)[0].z < 2
    score[:, 2:] -= [0.3, -0.3] * 4
    alone = tuned_estimates(locally(score, stray.covariance), (tuple(range(9)),), seen)
    assert alone[0].z > 4


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_have_no_dose(rows: int) -> None:
    """There is no error to be had from them."""
    few = moments(np.zeros(COPIES))
    seen = {k: each[:rows] for k, each in ALL.items()}
    assert tuned_estimates(few.of_rows(np.arange(ROWS) < rows), FAMILY, seen) == {}
