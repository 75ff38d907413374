"""The posterior probability of a dose, by hand."""

from __future__ import annotations

import math

import pytest

from auditor.inference.posterior import dose_probability


@pytest.mark.parametrize("limit", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("se", [1e9, 0.0, -1.0])
def test_without_information_the_prior_stands(limit: float, se: float) -> None:
    """A half of the data sets carry a trait, at any dose alike: (1 - limit) / 2 lie above."""
    known = dose_probability([(0.8, se)] * 3, limit)
    assert known == pytest.approx((1 - limit) / 2, abs=1e-9)
    assert dose_probability([], limit) is None


def test_what_is_certain() -> None:
    """A z of 80 at .8 is 1, and so is one among many; a dose of 0 known well is 0, and one of .2 is
    below a limit of .25; a dose below 0 tells against the trait.
    """
    assert dose_probability([(0.8, 0.01)], 0.25) == pytest.approx(1.0)
    assert dose_probability([(0.8, 0.01)] + [(0.0, 0.01)] * 56, 0.25) == pytest.approx(1.0)
    assert dose_probability([(0.0, 0.001)] * 57, 0.25) == pytest.approx(0.0, abs=1e-12)
    assert dose_probability([(0.2, 0.001)], 0.25) == pytest.approx(0.0, abs=1e-12)
    assert (dose_probability([(-0.2, 0.2)], 0.25) or 1) < (dose_probability([(0, 0.2)], 0.25) or 0)


def test_by_hand() -> None:
    """With a dose of .5 and an error of .5 the ratio is exp(2 d - 2 d^2), symmetric about .5."""

    def area(low: float, high: float) -> float:
        """The integral by the error function: exp(.5) times that of exp(-2 (d - .5)^2)."""
        ends = (math.erf(math.sqrt(2) * (end - 0.5)) for end in (high, low))
        first, second = ends
        return math.exp(0.5) * math.sqrt(math.pi / 2) / 2 * (first - second)

    expected = area(0.25, 1) / (1 + area(0, 1))
    assert dose_probability([(0.5, 0.5)], 0.25) == pytest.approx(expected, abs=1e-5)
    # A second trait of which nothing is known: the mean of the two areas.
    expected = (area(0.25, 1) + 0.75) / (2 + area(0, 1) + 1)
    assert dose_probability([(0.5, 0.5), (0.0, 0.0)], 0.25) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("effect", [1e308, -1e308, 0.0])
@pytest.mark.parametrize("se", [1e-320, 1e308])
def test_made_up_numbers_are_no_error(effect: float, se: float) -> None:
    """A report can say anything; a probability stays one."""
    found = dose_probability([(effect, se)], 0.25)
    assert found is not None and 0 <= found <= 1
