"""Goodness of fit: standard normal on true samples, far off on others, and silent when it has
nothing to say.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from detectors.fit import clustered_excess, fit_z, goodness_of_fit
from detectors.interface import Evidence, Skipped

Array = NDArray[np.float64]


def simulate(
    rows: int, seed: int, *, greedy: bool = False, temperature: float = 1.0
) -> tuple[list[Array], ...]:
    """Surprisal, entropy and variance of rows of 5 to 15 tokens drawn from random distributions
    over 50 words.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 16, rows)
    logits = rng.normal(0, 2, (lengths.sum(), 50))
    logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    p = np.exp(logp)
    entropy = -(p * logp).sum(axis=1)
    variance = (p * logp**2).sum(axis=1) - entropy**2
    noise = 0 if greedy else rng.gumbel(size=logits.shape) * temperature
    token = (logits + noise).argmax(
        axis=1
    )  # the Gumbel-max trick samples from softmax(logits / temperature)
    surprisal = -logp[np.arange(len(token)), token]
    cuts = np.cumsum(lengths)[:-1]
    return tuple(np.split(each, cuts) for each in (surprisal, entropy, variance))


def values(found: Evidence | Skipped) -> dict[str, Any]:
    assert isinstance(found, Evidence)
    return found.values


def test_z_by_hand() -> None:
    """Gaps 1, 2 and -1 with variances 1, 2 and 1: Z = 2 / sqrt 4 = 1."""
    assert (
        fit_z([np.array([1.0, 2.0]), np.array([-1.0])], [np.array([1.0, 2.0]), np.array([1.0])])
        == 1
    )


def test_clustered_excess_by_hand() -> None:
    """Rows of sums 3 and -1 over 2 and 2 tokens: mean 1/2, residuals 2 and -2, error sqrt(2 * 8) /
    4 = 1.
    """
    assert clustered_excess([np.array([1.0, 2.0]), np.array([-1.0, 0.0])]) == (0.5, 1.0)


def test_z_of_true_samples_is_standard_normal() -> None:
    """Over 300 data sets drawn from the teacher, both statistics follow N(0, 1)
    (Kolmogorov-Smirnov, fixed seeds).
    """
    found = [values(goodness_of_fit(*simulate(40, seed))) for seed in range(300)]
    for name in ("z", "z_clustered"):
        z = [each[name] for each in found]
        assert kstest(z, "norm").pvalue > 0.01
        assert 0.9 < np.std(z) < 1.15
    assert sum(each["interval"][0] <= 0 <= each["interval"][1] for each in found) >= 0.92 * 300


def test_greedy_is_far_below_and_hot_sampling_above() -> None:
    """The same teacher read greedily is far too likely, and at temperature 1.5 too unlikely: the
    test is void there.
    """
    assert values(goodness_of_fit(*simulate(40, 0, greedy=True)))["z"] < -8
    assert values(goodness_of_fit(*simulate(40, 0, temperature=1.5)))["z"] > 8


def test_row_order_and_empty_rows_change_nothing() -> None:
    """Reversed rows and rows without tokens leave every value as it was."""
    arrays = simulate(30, 0)
    expected = values(goodness_of_fit(*arrays))
    changed = values(goodness_of_fit(*([*reversed(each), np.array([])] for each in arrays)))
    assert changed.keys() == expected.keys()
    assert all(changed[name] == pytest.approx(expected[name]) for name in expected)


def test_clustering_widens_the_error_when_rows_agree_within_themselves() -> None:
    """Tokens that share their row's luck count as one: 10 equal tokens a row make the error sqrt 10
    times larger.
    """
    rng = np.random.default_rng(0)
    single = [rng.normal(size=1) for _ in range(50)]
    repeated = [np.repeat(each, 10) for each in single]
    alone, together = clustered_excess(single), clustered_excess(repeated)
    assert together == pytest.approx(alone)
    spread_out = clustered_excess([np.array([x]) for row in repeated for x in row])
    assert together is not None
    assert spread_out is not None
    assert together[1] / spread_out[1] == pytest.approx(math.sqrt(10), rel=0.02)


def test_summary_and_values_can_be_written() -> None:
    """One sentence, and values that strict JSON takes."""
    found = goodness_of_fit(*simulate(30, 0))
    assert isinstance(found, Evidence)
    assert found.summary.endswith(".")
    assert ". " not in found.summary
    json.dumps(found.values, allow_nan=False)


def test_too_little_or_certain_is_skipped() -> None:
    """Few rows, and a teacher that is certain of each token, are reasons and not numbers."""
    assert isinstance(goodness_of_fit(*simulate(19, 0)), Skipped)
    zero = [np.zeros(3)] * 30
    assert isinstance(goodness_of_fit(zero, zero, zero), Skipped)


def test_unequal_shapes_are_an_error() -> None:
    """Arrays that do not belong together are refused, also where NumPy would broadcast them."""
    rows = [np.ones(3)] * 30
    with pytest.raises(ValueError, match="differ"):
        goodness_of_fit(rows, [np.ones(1)] * 30, rows)
    with pytest.raises(ValueError, match="differ"):
        goodness_of_fit(rows, rows, rows[1:])
