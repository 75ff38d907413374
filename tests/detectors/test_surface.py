"""The surface detector: statistics worked by hand, and a classifier that is neither blind nor
over-confident.
"""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pytest

from detectors.interface import Evidence, Skipped
from detectors.surface import (
    INFLATION,
    auroc,
    auroc_interval,
    auroc_p_value,
    auroc_variance,
    cross_validated_auroc,
    describe,
    digit_histogram,
    ngram_diversity,
    row_features,
    surface,
)


def number_lists(count: int, seed: int, low: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [", ".join(map(str, rng.integers(low, 1000, rng.integers(4, 9)))) for _ in range(count)]


def classifier(found: Evidence | Skipped) -> dict[str, Any]:
    assert isinstance(found, Evidence)
    values: dict[str, Any] = found.values["classifier"]
    return values


def test_description_by_hand() -> None:
    """Three short rows whose statistics can be counted on paper."""
    found = describe(["1, 23", "1, 23", "4;5\n6"])
    assert found["rows"] == 3
    assert found["characters"] == 5
    assert found["words"] == 2  # "1," "23"; the same; "4;5" "6"
    assert found["lines"] == pytest.approx(4 / 3)
    assert found["numbers"] == pytest.approx(7 / 3)
    assert found["mean_number"] == pytest.approx((1 + 23 + 1 + 23 + 4 + 5 + 6) / 7)
    assert found["digit_share"] == pytest.approx(9 / 15)
    assert found["digits"] == pytest.approx([0, 2 / 9, 2 / 9, 2 / 9, 1 / 9, 1 / 9, 1 / 9, 0, 0, 0])
    assert found["separators"] == {", ": 0.5, ";": 0.25, "\n": 0.25}
    assert found["duplicate_share"] == pytest.approx(1 / 3)
    assert found["ngrams"]["3"] == {"distinct": 6, "distinct_share": pytest.approx(6 / 9)}


def test_statistics_of_nothing_are_none_never_zero() -> None:
    """Rows without digits, or without characters, have no digit share to report."""
    assert digit_histogram("no digits") is None
    assert describe(["words only"])["mean_number"] is None
    assert describe([""])["digit_share"] is None
    assert ngram_diversity(["ab"], 3) == {"distinct": 0, "distinct_share": None}


def test_row_features_are_finite_for_odd_rows() -> None:
    """Empty rows, other scripts and absurdly long numbers give numbers that a classifier
    can take.
    """
    assert np.isfinite(row_features(["", "９９, ٣", "9" * 5000, "\x00\ud800"])).all()


def test_auroc_by_hand_and_against_all_pairs() -> None:
    """Ties count half; the sorted computation equals the comparison of every pair."""
    assert auroc(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == (1 + 1 + 0.5 + 1) / 4
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 5, 30).astype(float), rng.integers(0, 5, 20).astype(float)
    pairs = [(p > n) + (p == n) / 2 for p, n in product(positive, negative)]
    assert auroc(positive, negative) == pytest.approx(np.mean(pairs))
    assert auroc(negative, positive) == pytest.approx(1 - auroc(positive, negative))


def test_variance_at_one_half_is_the_mann_whitney_variance() -> None:
    """At 0.5 the formula gives (m + n + 1) / (12 m n), by hand 51 / 7200 for 20 and 30 rows."""
    assert auroc_variance(0.5, 20, 30) == pytest.approx(51 / 7200)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_interval_holds_its_value_and_solves_its_equation(value: float) -> None:
    """Each limit lies z standard errors from the value, within [0, 1], and the width is
    never zero.
    """
    low, high = auroc_interval(value, 40, 60)
    assert 0 <= low <= value <= high <= 1
    assert high - low > 0.01
    for limit in {low, high} - {0.0, 1.0, value}:
        assert (value - limit) ** 2 == pytest.approx(
            1.959964**2 * auroc_variance(limit, 40, 60), rel=1e-4
        )


def test_interval_covers_the_true_auroc() -> None:
    """Normal scores one standard deviation apart have AUROC Phi(1 / sqrt 2) = 0.7602; 95 % of
    intervals cover it.
    """
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        low, high = auroc_interval(auroc(rng.normal(1, 1, 40), rng.normal(0, 1, 60)), 40, 60)
        covered += low <= 0.7602 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_p_value_is_one_sided_and_agrees_with_the_interval() -> None:
    """0.5 at no difference, small above, large below; positive far out, where a rounded tail would
    be 0.
    """
    assert auroc_p_value(0.5, 50, 50) == pytest.approx(0.5)
    assert auroc_p_value(0.3, 50, 50) > 0.99
    edge = 0.5 + 1.959964 * auroc_variance(0.5, 50, 50) ** 0.5
    assert auroc_p_value(edge, 50, 50) == pytest.approx(0.025, rel=1e-4)
    assert auroc_interval(edge, 50, 50)[0] == pytest.approx(0.5, abs=1e-4)
    assert 0 < auroc_p_value(0.8, 2000, 2000) < 1e-100


def test_same_distribution_is_not_told_apart() -> None:
    """Over 40 pairs of number lists of one source the AUROC is 0.5 on average, and it spreads as
    the inflated variance says (standard deviation of z between 0.7 and 1.25; without the inflation
    it would be 1.5)."""
    labels, groups = np.repeat([1, 0], 25), np.tile(np.arange(25), 2)
    values = [
        cross_validated_auroc(number_lists(50, seed), labels, groups, seed) for seed in range(40)
    ]
    z = (np.array(values) - 0.5) / (INFLATION * auroc_variance(0.5, 25, 25)) ** 0.5
    assert abs(z.mean()) < 3 / 40**0.5
    assert 0.7 < z.std() < 1.25


def test_evidence_on_the_same_distribution_is_unremarkable() -> None:
    """One such pair, end to end: the interval holds 0.5 and the p-value is ordinary."""
    found = classifier(surface(number_lists(60, 0), number_lists(60, 1), seed=0))
    assert found["interval"][0] < 0.5 < found["interval"][1]
    assert 0.05 < found["p_value"] < 0.95


def test_shifted_distribution_is_found_and_named() -> None:
    """Larger numbers are told from smaller ones, and the mean number is among the features that say
    so.
    """
    found = classifier(surface(number_lists(200, 0, low=300), number_lists(200, 1), seed=0))
    assert found["interval"][0] > 0.6
    assert found["p_value"] < 1e-6
    assert {"name": "mean number", "points_to": "suspect"} in found["features"]


def test_a_separator_that_differs_is_found_whatever_the_length() -> None:
    """A changed separator alone separates completely, and the interval still has a width."""
    rows = number_lists(60, 0)
    found = classifier(
        surface([row.replace(", ", "; ") for row in rows], number_lists(60, 1), seed=0)
    )
    assert found["auroc"] == 1
    assert 0.9 < found["interval"][0] < 1
    assert any(";" in each["name"] for each in found["features"])


def test_answers_to_one_prompt_do_not_mislead_the_classifier() -> None:
    """Two answers that repeat their prompt share a fold. Held out apart, each would be scored by
    its twin of the other set, and two sets of one distribution would get an AUROC far below 0.5."""
    topics = ["".join(chr(97 + int(d)) for d in f"{i * 7919 % 1000:03}") * 4 for i in range(100)]
    rng = np.random.default_rng(0)
    first, second = ([f"{topic} {rng.integers(10)}" for topic in topics] for _ in range(2))
    assert 0.4 < classifier(surface(first, second, seed=0))["auroc"] < 0.6


def test_same_seed_same_values_and_they_are_plain_json() -> None:
    """The evidence is replayable and can be written as strict JSON."""
    first, second = (surface(number_lists(30, 0), number_lists(30, 1), seed=3) for _ in range(2))
    assert first == second
    assert isinstance(first, Evidence)
    json.dumps(first.values, allow_nan=False)
    assert ". " not in first.summary
    assert first.summary.endswith(".")


def test_too_little_is_skipped_with_a_reason() -> None:
    """Few rows skip the detector; few distinct or no reference rows skip the classifier and keep
    the statistics.
    """
    assert isinstance(surface(["1, 2"] * 19, None, seed=0), Skipped)
    rows = number_lists(30, 0)
    for suspect, written, reason in [
        (rows, None, "no completions"),
        (rows, rows[:5], "30 and 5 distinct"),
        (["1, 2"] * 30, rows, "1 and 30 distinct"),
    ]:
        assert reason in str(classifier(surface(suspect, written, seed=0))["skipped"])
