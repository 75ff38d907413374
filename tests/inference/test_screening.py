"""Which prompts stand in for all others: hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.inference.screening import choose_screens
from auditor.inference.tempering import Moments


def pilot(gain: list[list[float]], variance: list[float], temperature: float = 0.0) -> Moments:
    """One row: `gain` [K, K] of each screen (line) under each prompt (column), `variance` [K], and
    the covariance of every prompt with the temperature.
    """
    count = len(variance)
    covariance = np.diag([1.0, *variance])
    covariance[0, 1:] = covariance[1:, 0] = temperature
    signal = np.concatenate([np.zeros((1, count)), np.array(gain)])
    return Moments(np.full((1, 1 + count), 99.0), covariance[None], signal[None])


def test_one_prompt_stands_in_for_those_like_it() -> None:
    """The second sees all three at 2 standard deviations a row or more: at a limit of 0.25 that
    takes (3.5 / (0.25 x 2))^2 = 49 rows. The third prompt shows at 5/4 of its own strength.
    """
    found = choose_screens(pilot([[4, 1, 1], [4, 4, 5], [1, 1, 4]], [4.0, 4.0, 4.0]), 0.25)
    assert found is not None
    assert found.prompts == (1,)
    assert found.by_trait == (0, 0, 0)
    assert found.visible == pytest.approx([1.0, 1.0, 1.25])
    assert found.rows == 49


def test_unrelated_prompts_each_screen_themselves() -> None:
    """No prompt sees another, so all are screens, and each is wholly visible to itself."""
    found = choose_screens(pilot(np.eye(3).tolist(), [1.0, 1.0, 1.0]), 0.5)
    assert found is not None
    assert sorted(found.prompts) == [0, 1, 2]
    assert [found.prompts[c] for c in found.by_trait] == [0, 1, 2]
    assert found.visible == pytest.approx([1.0, 1.0, 1.0])
    assert found.rows == 49


def test_a_second_screen_is_taken_where_it_saves_passes() -> None:
    """The first alone sees the second at half a standard deviation, 784 rows; both need 49 each."""
    found = choose_screens(pilot([[2, 0.5], [0, 2]], [1.0, 1.0]), 0.25)
    assert found is not None
    assert len(found.prompts) == 2
    assert found.rows == 49


def test_what_the_temperature_explains_is_no_sight() -> None:
    """Half of the variance is the temperature's; the signal that goes with it is taken out too."""
    rows = pilot([[4.0]], [4.0], temperature=2**0.5)
    rows.signal[0, 0, 0] = 1.0
    found = choose_screens(rows, 0.5)
    assert found is not None
    assert found.rows == int(np.ceil((3.5 * 2**0.5 / (0.5 * (4 - 2**0.5))) ** 2))


def test_a_prompt_that_moves_nothing_cannot_be_excluded() -> None:
    """No number of rows tells its text from the reference's."""
    assert choose_screens(pilot([[1, 0], [0, 0]], [1.0, 0.0]), 0.25) is None
    assert choose_screens(pilot([[1, 0], [0, -1]], [1.0, 1.0]), 0.25) is None
