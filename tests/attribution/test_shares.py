"""Shares, the layers that carry them, agreement in rank, and movement of weights: hand-worked."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from auditor.attribution import shares as module
from auditor.attribution import training
from auditor.attribution.components import layers_of
from auditor.attribution.movement import movement
from auditor.attribution.shares import agreement, carrying_layers, shares
from auditor.errors import InputError
from auditor.model.language_model import LanguageModel
from auditor.report import locate as page
from auditor.report.shared import heat_map
from auditor.students.settings import TrainingConfig
from auditor.students.training import new_student


def test_the_examples_in_docstrings() -> None:
    """Hold."""
    for each in (module, training, page, heat_map):
        assert doctest.testmod(each).failed == 0


def test_a_share_is_a_ratio_of_means() -> None:
    """Rows with a large difference weigh more; rows that agree leave no width."""
    whole = np.array([1.0] * 8 + [3.0] * 8)
    parts = np.stack([0.25 * whole, np.where(whole == 1, 1.0, 0.0)], axis=1)
    same, uneven = shares(parts, whole)
    assert same.value == same.interval[0] == same.interval[1] == 0.25
    assert uneven.value == pytest.approx(8 / 32) and uneven.interval[0] < 0.25 < uneven.interval[1]


def planted(
    share: list[float], rows: int = 64, noise: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Parts [R, L] that are on average `share` of a whole that varies."""
    rng = np.random.default_rng(0)
    whole = rng.uniform(5, 15, rows)
    parts = whole[:, None] * (np.array(share) + noise * rng.standard_normal((rows, len(share))))
    return parts, whole


def test_carriers_are_found_where_planted() -> None:
    """Two middle layers of four; the interval holds their share."""
    found = carrying_layers(*planted([0.03, 0.6, 0.3, 0.07]))
    assert found.layers == (1, 2) and found.clear
    assert found.share.interval[0] < 0.9 < found.share.interval[1]


@pytest.mark.parametrize(
    ("share", "noise"),
    [([0.25] * 4, 0.05), ([0.9, 0.1, 0.0, 0.0], 8.0), ([0.5, 0.0, 0.0, 0.5], 0.05)],
)
def test_it_cannot_be_said(share: list[float], noise: float) -> None:
    """Where all layers carry alike, where rows differ too much, and where only all layers together
    are adjacent.
    """
    assert not carrying_layers(*planted(share, noise=noise)).clear


def test_too_few_rows() -> None:
    """Are refused."""
    with pytest.raises(InputError, match="too few"):
        carrying_layers(*planted([0.5, 0.5], rows=15))


def test_agreement_in_rank() -> None:
    """Three layers in the same order have p = 1/3 whatever the numbers; six have 2/720."""
    for count, p_value in ((3, 2 / 6), (6, 2 / 720)):
        value = np.arange(count) / 10
        effects = np.stack([value, 2 * value])
        found = agreement("attribution", np.tile(value, (50, 1)), value, effects)
        assert found is not None and (found.rho, found.interval) == (pytest.approx(1), (1, 1))
        assert found.p_value == pytest.approx(p_value)
        back = agreement("attribution", np.tile(value, (50, 1)), value, effects[:, ::-1])
        assert back is not None and back.rho == pytest.approx(-1)


def test_agreement_needs_three_layers_and_ranks() -> None:
    """Else there is none."""
    two, same = np.array([0.1, 0.9]), np.ones(4)
    assert agreement("attribution", np.tile(two, (9, 1)), two, np.array([[1.0, 2.0]])) is None
    assert (
        agreement("attribution", np.tile(same, (9, 1)), same, np.array([[1.0, 2.0, 3.0, 4.0]]))
        is None
    )


def test_movement_of_a_scaled_mlp(tiny: LanguageModel) -> None:
    """A tenth more of every weight is 0.1; what was not touched is 0."""
    student = new_student(tiny, TrainingConfig(full=True, layers=(1,)), 0)
    assert {
        name.split(".")[2] for name, each in student.model.named_parameters() if each.requires_grad
    } == {"1"}
    for weight in layers_of(student)[1].mlp.parameters():
        weight.data *= 1.1
    assert movement(tiny, student) == pytest.approx(np.array([[0, 0], [0, 0.1]]), abs=1e-6)


def test_movement_of_lora(tiny: LanguageModel) -> None:
    """Nothing before training; then B A, scaled by alpha / r, over the whole attention."""
    student = new_student(tiny, TrainingConfig(), 0)
    assert (movement(tiny, student) == 0).all()
    own, projection = layers_of(tiny)[0].self_attn, layers_of(student)[0].self_attn.v_proj
    b = projection.lora_B["default"].weight
    b.data.fill_(0.01)
    change = 2 * b.data @ projection.lora_A["default"].weight.data
    norm = sum(float(each.square().sum()) for each in own.parameters()) ** 0.5
    found = movement(tiny, student)
    assert found[0, 0] == pytest.approx(float(change.norm()) / norm, rel=1e-5)
    assert found[0, 1] == found[1, 0] == found[1, 1] == 0
