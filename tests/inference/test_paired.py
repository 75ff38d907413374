"""The statistics of paired students, against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from auditor.inference.effect import Ratio
from auditor.inference.paired import (
    effect,
    effect_ratio,
    margins,
    negative_control_test,
    rank,
    settled,
    total_variation,
    transferred,
    verdict,
)

T2 = 4.302653  # 97.5 % quantile of t with 2 degrees of freedom, from a table


def test_margin_is_the_logit_less_the_mean_of_the_others() -> None:
    """Also row by row, and a shift of all logits changes nothing."""
    logits = np.array([[3.0, 1.0, 2.0], [0.0, 0.0, 3.0]])
    by_hand = np.array([[1.5, -1.5, 0.0], [-1.5, -1.5, 3.0]])
    assert margins(logits) == pytest.approx(by_hand)
    assert margins(logits + 7) == pytest.approx(by_hand)


def test_effect_is_a_t_interval_over_blocks() -> None:
    """1, 2, 3: mean 2, sd 1, half width t / sqrt(3)."""
    found = effect([1.0, 2.0, 3.0])
    assert found.value == 2
    assert found.blocks == (1, 2, 3)
    half = T2 / math.sqrt(3)
    assert found.interval == pytest.approx((2 - half, 2 + half), abs=1e-5)
    assert not transferred(found)
    assert transferred(effect([1.9, 2.0, 2.1]))


def test_one_block_has_no_interval() -> None:
    """A mean without an interval is no transfer shown."""
    found = effect([5.0])
    assert (found.value, found.interval) == (5, None)
    assert not transferred(found)
    assert effect_ratio([1.0], [5.0]).interval is None


def test_an_exact_multiple_has_a_ratio_without_width() -> None:
    """An arm that has half the original's effect in every block leaves exactly one half."""
    found = effect_ratio([0.5, 0.6, 0.4], [1.0, 1.2, 0.8])
    assert found.value == pytest.approx(0.5)
    assert found.interval == pytest.approx((0.5, 0.5), abs=1e-6)


def test_a_constant_original_gives_the_t_interval_divided() -> None:
    """With no noise in the original the interval is that of the arm over the constant."""
    found = effect_ratio([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])
    half = T2 / math.sqrt(3)
    assert found.interval == pytest.approx(((2 - half) / 4, (2 + half) / 4), abs=1e-5)


def test_the_ends_of_fiellers_interval_are_where_the_t_test_turns() -> None:
    """At an end r the paired t statistic of arm - r original is the quantile; inside it is
    smaller.
    """
    arm, original = np.array([0.2, 0.5, 0.1, 0.4]), np.array([1.0, 1.3, 0.9, 1.5])
    ratio = effect_ratio(list(arm), list(original))
    assert ratio.interval is not None and ratio.value is not None
    quantile = stats.t.ppf(0.975, 3)
    for end in ratio.interval:
        assert abs(stats.ttest_1samp(arm - end * original, 0).statistic) == pytest.approx(quantile)
    assert abs(stats.ttest_1samp(arm - ratio.value * original, 0).statistic) < quantile


def test_no_interval_when_the_original_is_not_told_from_zero() -> None:
    """Fieller's set is then unbounded, and there is nothing to say about a defence."""
    for original in ([1.0, -1.0, 0.5], [-1.0, -1.1, -0.9]):
        ratio = effect_ratio([0.1, 0.2, 0.3], original)
        assert ratio.value is None and ratio.interval is None
        assert ratio.reason
        assert verdict(ratio) == "no transfer shown"


@pytest.mark.parametrize(
    ("interval", "name"),
    [
        ((-0.3, 0.25), "removed"),
        ((-0.3, 0.26), "reduced"),
        ((0.5, 0.99), "reduced"),
        ((0.5, 1.0), "not reduced"),
        ((0.26, 5.0), "not reduced"),
        ((0.25, 1.0), "inconclusive"),
        ((-5.0, 5.0), "inconclusive"),
    ],
)
def test_verdict_goes_by_the_interval(interval: tuple[float, float], name: str) -> None:
    """The reduction has to be shown; an interval that holds all and nothing shows neither."""
    assert verdict(Ratio(0.2, interval, None)) == name


def test_settled_needs_blocks_and_intervals_within_one_range() -> None:
    """Three blocks at least; an interval across a border, or no transfer, is not settled."""
    original = [1.0, 1.01, 0.99]
    assert settled([[0.1, 0.11, 0.09], [0.6, 0.61, 0.59]], original, 3)
    assert not settled([[0.1, 0.11]], original[:2], 3)
    assert not settled([[0.1, 0.11, 0.09], [0.2, 0.3, 0.25]], original, 3)
    assert not settled([], [1.0, -1.0, 0.5], 3)
    assert settled([], original, 3)


def test_more_looks_ask_for_more_to_settle() -> None:
    """What settles the last look of three blocks may not settle the first of many."""
    arm, original = [0.1, 0.13, 0.07], [1.0, 1.02, 0.98]
    assert settled([arm], original, 3)
    assert not settled([arm], original, 30)


def test_placebo_by_hand() -> None:
    """Others 0, 1, 2: mean 1, sd 1; own 4 is z = 3, held against t with 2 degrees of freedom."""
    found = negative_control_test([0.0, 4.0, 1.0, 2.0], 1)
    assert found is not None
    z, p = found
    assert z == pytest.approx(3)
    assert p == pytest.approx(float(stats.t.sf(3 / math.sqrt(4 / 3), 2)))


def test_placebo_refuses_too_little() -> None:
    """Two others, or others that are all alike, have no spread to speak of."""
    assert negative_control_test([1.0, 0.0, 0.5], 0) is None
    assert negative_control_test([1.0, 0.5, 0.5, 0.5], 0) is None


def test_placebo_keeps_its_level() -> None:
    """When all traits stray alike, p falls below .05 in one case of twenty."""
    rng = np.random.default_rng(0)
    found = [negative_control_test(list(row), 0) for row in rng.normal(size=(4000, 13))]
    share = np.mean([each[1] < 0.05 for each in found if each is not None])
    assert 0.04 < share < 0.06


def test_rank_and_total_variation() -> None:
    """Ties share the better place; disjoint answers are at distance 1."""
    assert [rank([0.5, 2.0, 0.5], place) for place in range(3)] == [2, 1, 2]
    assert (
        total_variation(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.5, 0.5]]))
        == 0.5
    )
