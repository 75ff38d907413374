"""The inference functions, by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from auditor.inference.estimates import Estimate, score_estimate, with_spread
from auditor.inference.interim import spending


def test_score_estimate_by_hand() -> None:
    """Scores 0..9 and information 90: effect 45 / 90, variance of the sum 10 * 82.5 / 9."""
    found = score_estimate(np.arange(10.0), 90.0)
    assert found is not None
    assert found.effect == pytest.approx(0.5)
    assert found.se == pytest.approx((10 * 82.5 / 9) ** 0.5 / 90)
    assert found.df == 9


def test_too_few_rows_or_no_information_is_not_an_estimate() -> None:
    """Seven rows, or none of the information, give None and never a number."""
    assert score_estimate(np.ones(7), 1.0) is None
    assert score_estimate(np.ones(20), 0.0) is None


def test_the_difference_of_two_estimates_is_welchs() -> None:
    """Errors 3 and 4 make 5; with 9 and 16 degrees of freedom 25^2 / (81 / 9 + 256 / 16) = 25. Less
    itself an effect is nothing, whatever style put into both.
    """
    found = Estimate(1.5, 3.0, 9).less(Estimate(0.5, 4.0, 16))
    assert (found.effect, found.se, found.df, found.null) == (1.0, 5.0, pytest.approx(25.0), 0.0)
    assert Estimate(2.0, 0.1, 50).less(Estimate(2.0, 0.1, 50)).p_value == pytest.approx(0.5)


def test_p_values_are_uniform_under_the_null() -> None:
    """Of 2,000 null samples of 30 rows about 5 % have p < .05 (binomial bounds at 4 sd)."""
    rng = np.random.default_rng(0)
    found = [
        score_estimate(rng.standard_normal(30) * rng.uniform(0.5, 2, 30), 30.0) for _ in range(2000)
    ]
    rate = np.mean([each.p_value < 0.05 for each in found if each])
    assert abs(rate - 0.05) < 4 * (0.05 * 0.95 / 2000) ** 0.5


def test_evidence_for_an_effect_against_none() -> None:
    """Nothing is known: 0.

    At an effect of 0 the mean of exp(-d^2 / 2 s^2) over d, by hand from the error function.
    """
    assert Estimate(0.3, 1e6, 100.0).log_evidence(1.0) == pytest.approx(0.0, abs=1e-6)
    by_hand = 0.2 * (np.pi / 2) ** 0.5 * math.erf(1 / 0.2 / 2**0.5)
    assert Estimate(0.0, 0.2, 100.0).log_evidence(1.0) == pytest.approx(math.log(by_hand), abs=0.02)
    assert Estimate(0.0, 0.5, 31.0).log_evidence(1.0) > Estimate(0.1, 0.1, 31.0).log_evidence(
        1.0
    )  # z of 0 and of 1
    assert Estimate(2.0, 0.1, 31.0).log_evidence(1.0) > 100
    assert Estimate(-5.0, 0.01, 31.0).log_evidence(1.0) < -5


def test_spread_widens_and_zero_spread_changes_nothing() -> None:
    """A variance of three times the squared error doubles the error and lowers the degrees of
    freedom.
    """
    plain = Estimate(1.0, 0.1, 100.0)
    assert with_spread(plain, 0.0, 5.0) is plain
    wide = with_spread(plain, 0.03, 5.0)
    assert wide.se == pytest.approx(0.2)
    assert 5.0 < wide.df < 100.0


def test_spending_sums_to_one_and_grows() -> None:
    """The looks together spend the whole error rate, most of it late."""
    shares = spending(np.array([0.1, 0.5, 1.0]))
    assert shares.sum() == pytest.approx(1.0)
    assert list(shares) == sorted(shares)
