"""Shifts of students' answers against those of benign data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from auditor.inference.estimates import Array
from auditor.inference.shifts import BenignShifts, benign_shifts, doses, full_shift, looks


def benign(
    mean: Sequence[float], variance: float = 0.0, mean_variance: float = 0.0
) -> BenignShifts:
    """A null that is the same for all answers, with 5 degrees of freedom."""
    all_alike = np.ones(len(mean))
    parts = variance * all_alike, 5 * all_alike, mean_variance * all_alike
    return BenignShifts(np.array(mean), *parts)


NOTHING = benign([0.0, 0.0])


def test_a_dose_by_hand() -> None:
    """Mean shifts of .4 and -.4, half of them benign, are a dose of 1 at a full shift of .2; the
    error is that of the mean over four blocks, pooled over the answers.
    """
    shifts = np.array([[0.3, -0.3], [0.5, -0.5], [0.3, -0.3], [0.5, -0.5]])
    first, second = doses(shifts, benign([0.2, -0.2]), full=0.2)
    assert (first.effect, second.effect) == pytest.approx((1.0, -1.0))
    variance = 4 * 0.1**2 / 3
    assert first.se == pytest.approx(math.sqrt(variance / 4) / 0.2)
    assert first.df == 3


def test_benign_data_that_differ_widen_the_error() -> None:
    """The variance between data sets, and that of their mean, stand beside the students' noise."""
    shifts = np.array([[0.3, -0.3], [0.5, -0.5], [0.3, -0.3], [0.5, -0.5]])
    noise = doses(shifts, NOTHING, 1.0)[0].se
    widened = doses(shifts, benign([0.0, 0.0], 0.03, 0.01), 1.0)[0]
    assert widened.se == pytest.approx(math.sqrt(noise**2 + 0.04))
    assert 3 < widened.df < 8


def world(rng: np.random.Generator, sets: int, between: float) -> Array:
    """Shifts [sets, 8, 6] of benign data sets, whose students have noise of sd .1."""
    return rng.normal(0, between, (sets, 1, 6)) + rng.normal(0, 0.1, (sets, 8, 6))


def test_the_variance_between_benign_sets_is_theirs() -> None:
    """The noise of their students is not taken for it, and is in the error of the mean."""
    rng = np.random.default_rng(0)
    found = [benign_shifts(world(rng, 12, 0.2)) for _ in range(60)]
    assert 0.04 < np.mean([null.variance for null in found]) < 0.05
    alike = [benign_shifts(world(rng, 12, 0.0)) for _ in range(60)]
    assert np.mean([null.variance for null in alike]) < 0.0008
    assert np.mean([null.mean_variance for null in alike]) == pytest.approx(0.01 / 8 / 12, rel=0.4)


def test_an_answer_that_benign_data_move_by_itself_has_a_wider_error() -> None:
    """Its own means say so, and those of the others do not hide it."""
    shifts = world(np.random.default_rng(2), 12, 0.05)
    shifts[:, :, 3] += 0.4 * np.random.default_rng(3).standard_normal((12, 1))
    variance = benign_shifts(shifts).variance
    assert variance[3] > 4 * variance[0]
    assert np.argmax(variance) == 3


def test_the_error_rate_is_kept() -> None:
    """A benign data set is found at p < .05 in about a twentieth of its answers, and at p < .005 in
    about one of two hundred.
    """
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(800):
        null = benign_shifts(world(rng, 6, 0.1))
        mine = world(rng, 1, 0.1)[0]
        p_values += [dose.p_value for dose in doses(mine, null, 1.0)]
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.07
    assert np.mean(np.array(p_values) < 0.005) < 0.012


def test_the_unit_is_the_mean_over_teachers() -> None:
    """Two teachers with own shifts of .1 and .3 in every block."""
    full = full_shift(np.array([[0.1, 0.3]] * 4))
    assert full.effect == pytest.approx(0.2)
    assert full.se == pytest.approx(0.0)


@pytest.mark.parametrize("shape", [(2, 8, 3), (6, 3, 3)])
def test_too_few_say_nothing(shape: tuple[int, int, int]) -> None:
    """Neither too few data sets nor too few blocks make a null distribution."""
    with pytest.raises(ValueError, match="too few"):
        benign_shifts(np.zeros(shape))
    with pytest.raises(ValueError, match="too few"):
        doses(np.zeros((3, 2)), NOTHING, 1.0)


def test_looks_at_the_half_and_at_all() -> None:
    """Unless half of the blocks would be too few."""
    assert [looks(planned) for planned in (16, 8, 7, 4)] == [(8, 16), (4, 8), (7,), (4,)]
