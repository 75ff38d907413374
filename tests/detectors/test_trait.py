"""The trait statistic: identities, simulated teachers with a known dose, and calibration under the
null.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from auditor.inference.estimates import Estimate
from auditor.inference.random_effects import add_random_effect, between_trait_variance, inflated
from auditor.inference.score_test import TraitColumns, estimate
from auditor.inference.tempering import (
    MAX_INVERSE_TEMPERATURE,
    Moments,
    choices,
    inverse_temperature,
    is_greedy,
    locate,
    moments,
    restrict_and_renormalize,
    temper,
)

V, T, K = 12, 10, 5


def _softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def _rows(
    rng: np.random.Generator, count: int, dose: float = 0.0, trait: int = 0, b: float = 1.0
) -> tuple[list[Moments], list[TraitColumns]]:
    """Rows tilted by `dose` towards condition `trait`, at inverse temperature b."""
    found = []
    for _ in range(count):
        logp = _softmax(rng.standard_normal((T, V)))
        common = rng.standard_normal((T, V)) * 0.4
        conditions = _softmax(logp + common + rng.standard_normal((K, T, V)) * 0.3)
        true = np.exp(temper(logp + dose * (conditions[trait] - logp), b))
        chosen = np.array([rng.choice(V, p=p / p.sum()) for p in true])
        found.append(moments(logp, chosen, conditions, b))
    return [_stack(found)], [TraitColumns(trait, (tuple(k for k in range(K) if k != trait),))]


def _stack(rows: list[Moments]) -> Moments:
    return Moments(
        np.stack([row.score for row in rows]),
        np.stack([row.covariance for row in rows]),
        np.stack([row.signal for row in rows]),
    )


def test_close_conditions_on_the_support() -> None:
    """What is left of the support is a distribution in the old proportions, and the removed entry
    has nothing.
    """
    logp = np.log(np.array([[0.5, 0.2, 0.1]]))
    found = np.exp(restrict_and_renormalize(logp, np.array([[False, False, True]])))
    assert found[0] == pytest.approx([5 / 7, 2 / 7, 0.0])


def test_locate_finds_the_token_or_nothing() -> None:
    """A token outside its support is -1."""
    support = np.array([[5, 7], [5, 7], [1, 2]])
    assert list(locate(np.array([7, 9, 1]), support)) == [1, -1, 0]


def test_same_teacher_has_no_score() -> None:
    """A condition equal to the reference carries no information and no score."""
    rng = np.random.default_rng(1)
    logp = _softmax(rng.standard_normal((T, V)))
    found = moments(logp, np.zeros(T, dtype=np.int64), logp[None], 1.0)
    assert found.score[1] == pytest.approx(0.0)
    assert found.covariance[1, 1] == pytest.approx(0.0)


def test_moments_by_hand() -> None:
    """Two tokens of probability 1/2, l = (a, -a): score of the first is a, variance a squared. The
    condition gives the first a probability of e^a / (e^a + e^-a), so the score a mean of a tanh a.
    """
    a = 0.2
    logp = np.log(np.full((1, 2), 0.5))
    condition = logp + np.array([[[a, -a]]])
    found = moments(logp, np.array([0]), condition, 1.0)
    assert found.signal[:, 0] == pytest.approx([0.0, a * np.tanh(a)])
    assert found.score[1] == pytest.approx(a)
    assert found.covariance[1, 1] == pytest.approx(a**2)
    assert found.covariance[0, 0] == pytest.approx(0.0)


def share_of(rng: np.random.Generator, share: float, strength: float) -> Estimate:
    """The dose of 3,000 rows, a share of which was written wholly under condition 0; `strength`
    scales how far the conditions lie from the reference.
    """
    rows = []
    for i in range(3000):
        logp = _softmax(rng.standard_normal((T, V)))
        conditions = _softmax(logp + strength * rng.standard_normal((K, T, V)))
        writer = np.exp(conditions[0] if i < share * 3000 else logp)
        index = np.array([rng.choice(V, p=p / p.sum()) for p in writer])
        rows.append(moments(logp, index, conditions, 1.0))
    found = estimate([_stack(rows)], [TraitColumns(0, (tuple(range(1, K)),))])
    assert found is not None
    return found


@pytest.mark.parametrize("strength", [0.3, 1.5])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_dose_is_the_share_of_the_rows(share: float, strength: float) -> None:
    """Whether a prompt does little or much: a one-step estimate would be right for little only."""
    found = share_of(np.random.default_rng(7), share, strength)
    assert abs(found.effect - share) < 3 * found.se
    assert found.se < 0.1


@pytest.mark.parametrize("b", [0.7, 1.0, 2.0])
def test_dose_is_recovered(b: float) -> None:
    """Tokens tilted by a dose of 0.5 towards a trait are estimated as such, and another trait as
    less.
    """
    rows, places = _rows(np.random.default_rng(2), 400, dose=0.5, b=b)
    found = estimate(rows, places)
    other = estimate(rows, [TraitColumns(1, ((2, 3, 4),))])
    assert found is not None
    assert other is not None
    assert (
        abs(found.effect - 0.5) < 4 * found.se + 0.05
    )  # one step: a little short of the true dose
    assert found.z > 6
    assert other.z < found.z / 2


def test_null_is_standard_normal() -> None:
    """Without a trait, z over 300 data sets has mean 0 and standard deviation 1."""
    rng = np.random.default_rng(3)
    z = [found.z for _ in range(300) if (found := estimate(*_rows(rng, 20)))]
    assert len(z) == 300
    assert abs(np.mean(z)) < 4 / 300**0.5
    assert abs(np.std(z) - 1) < 0.2


def test_common_direction_is_taken_out() -> None:
    """Text that follows what all conditions share, and no one of them, is no evidence for any."""
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(300):
        logp = _softmax(rng.standard_normal((T, V)))
        common = rng.standard_normal((T, V)) * 0.5
        conditions = _softmax(logp + common + rng.standard_normal((K, T, V)) * 0.3)
        true = np.exp(_softmax(logp + common))
        rows.append(
            moments(logp, np.array([rng.choice(V, p=p / p.sum()) for p in true]), conditions, 1.0)
        )
    centred = estimate([_stack(rows)], [TraitColumns(0, ((1, 2, 3, 4),))])
    raw = estimate([_stack(rows)], [TraitColumns(0, ())])
    assert centred is not None
    assert raw is not None
    assert raw.z > 10
    assert abs(centred.z) < 4


@pytest.mark.parametrize("b", [0.5, 1.0, 3.0])
def test_inverse_temperature_is_recovered(b: float) -> None:
    """Samples at a temperature give its inverse back; the argmax at every position gives the
    largest value.
    """
    rng = np.random.default_rng(5)
    logp = _softmax(rng.standard_normal((4000, V)))
    chosen = np.array([rng.choice(V, p=p / p.sum()) for p in np.exp(temper(logp, b))])
    assert inverse_temperature([logp], [chosen]) == pytest.approx(b, rel=0.1)
    assert inverse_temperature([logp], [logp.argmax(-1)]) == pytest.approx(
        MAX_INVERSE_TEMPERATURE, rel=0.05
    )


def test_too_few_rows_or_nothing_left_is_none() -> None:
    """Three rows are no estimate; nor is a trait that equals what it is centred on."""
    rows, places = _rows(np.random.default_rng(6), 3)
    assert estimate(rows, places) is None
    assert estimate([], []) is None
    rng = np.random.default_rng(7)
    logp = _softmax(rng.standard_normal((T, V)))
    one = _softmax(logp + rng.standard_normal((1, T, V)))
    twins = [moments(logp, np.zeros(T, dtype=np.int64), np.concatenate([one, one]), 1.0)] * 20
    assert estimate([_stack(twins)], [TraitColumns(0, ((1,),))]) is None


def test_a_centre_for_each_family() -> None:
    """Text that follows what another family shares moves a trait that shares it too, unless that is
    taken out.
    """
    rng = np.random.default_rng(9)
    rows = []
    for _ in range(300):
        logp = _softmax(rng.standard_normal((T, V)))
        love = rng.standard_normal((T, V)) * 0.5
        own = rng.standard_normal((4, T, V)) * 0.3
        conditions = _softmax(
            logp + own + np.array([1, 0, 1, 1])[:, None, None] * love
        )  # 0 and 1 are one family
        true = np.exp(_softmax(logp + love))
        rows.append(
            moments(logp, np.array([rng.choice(V, p=p / p.sum()) for p in true]), conditions, 1.0)
        )
    within = estimate([_stack(rows)], [TraitColumns(0, ((1,),))])
    across = estimate([_stack(rows)], [TraitColumns(0, ((1,), (2, 3)))])
    assert within is not None
    assert across is not None
    assert within.z > 10
    assert across.z < within.z / 3


def test_an_inflated_estimate_is_as_wide_as_its_controls() -> None:
    """Controls of a mean square of 9 triple the error, with their own degrees of freedom where they
    make up most of it; controls as quiet as chance, or quieter, change nothing.
    """
    plain = Estimate(1.0, 0.1, 1000)
    wide = inflated(plain, [3.0, -3.0] * 5)
    assert (wide.effect, wide.se) == (1.0, pytest.approx(0.3))
    assert wide.df == pytest.approx(0.09**2 / (0.08**2 / 10 + 0.01**2 / 1000))
    assert inflated(plain, [1.0, -1.0, 0.5]) == plain


def strangers(stray: float, count: int, seed: int = 11) -> list[Estimate]:
    """Traits seen on few rows and on many, whose doses have the standard deviation `stray` beyond
    their errors.
    """
    rng = np.random.default_rng(seed)
    errors = np.where(np.arange(count) % 2, 0.05, 0.3)
    doses = rng.standard_normal(count) * np.sqrt(errors**2 + stray**2)
    return [
        Estimate(float(dose), float(error), 31) for dose, error in zip(doses, errors, strict=True)
    ]


@pytest.mark.parametrize("stray", [0.05, 0.15, 0.4, 2.0])
def test_stray_variance_is_found_whatever_the_errors_are(stray: float) -> None:
    assert between_trait_variance(strangers(stray, 2000)) == pytest.approx(stray**2, rel=0.1)


def test_stray_variance_of_traits_that_do_not_stray() -> None:
    """Next to nothing where many say so; more where few do, since they cannot know; 0 where they
    are too few to ask.
    """
    many, few = (between_trait_variance([Estimate(0.0, 0.1, 31)] * count) for count in (1000, 8))
    assert many < 1e-4
    assert 10 * many < few < 0.1**2
    assert between_trait_variance([Estimate(9.0, 0.1, 31)] * 7) == 0.0


def test_stray_variance_has_the_units_of_a_squared_dose() -> None:
    small, large = (
        between_trait_variance(
            [Estimate(scale * each.effect, scale * each.se, 31) for each in strangers(0.1, 40)]
        )
        for scale in (1, 4)
    )
    assert large == pytest.approx(16 * small, rel=0.02)


def test_errors_allow_for_strangers_and_not_for_relatives() -> None:
    """A large error hardly grows and a small one does, by the same variance; two strangers are too
    few.
    """
    strays = {k: Estimate(0.3 * (-1) ** k, 0.05, 31) for k in range(2, 14)}
    placebos = {k: frozenset(range(2, 14) if k < 2 else (0, 1)) for k in range(14)}
    found = add_random_effect(
        {0: Estimate(1.0, 0.1, 31), 1: Estimate(1.0, 3.0, 223), **strays}, placebos
    )
    variance = between_trait_variance(list(strays.values()))
    assert 0.3**2 - 0.05**2 < variance < 2 * 0.3**2
    assert found[0] == Estimate(1.0, (0.1**2 + variance) ** 0.5, 31)
    assert found[1].se == pytest.approx(3.0, rel=0.02)
    assert found[2] == strays[2]


def test_choices_by_hand() -> None:
    """Trait 0 differs from the reference at two positions and the row follows it at one; trait 1
    differs nowhere.
    """
    tokens, reference = np.array([5, 2, 3]), np.array([1, 2, 3])
    found = choices(tokens, reference, np.array([[5, 9, 3], [1, 2, 3]]))
    assert list(found.score) == [0, 1, 0]
    assert found.covariance[1, 1] == 2
    assert found.covariance[1, 2] == found.covariance[2, 2] == 0


def test_a_dose_of_choices_by_hand() -> None:
    """Sixteen rows with a choice of the trait's each. All follow it: nothing is left of the scores,
    and the error is that of sixteen choices of which a third follow. Half follow it: what is left
    is a half each.
    """
    trait = TraitColumns(0, ())
    for following, error in ((16, sqrt(16 * 2 / 9) / 16), (8, sqrt(16 / 4) / 16)):
        tokens = np.arange(16) < following
        rows = [choices(np.array([x]), np.array([0]), np.array([[1]])) for x in tokens.astype(int)]
        dose = estimate([_stack(rows)], [trait], null=1 / 3)
        assert dose is not None
        assert dose.effect == following / 16
        assert dose.se == pytest.approx(error)
        assert dose.p_value == pytest.approx(stats.t.sf((dose.effect - 1 / 3) / error, 15))


def test_a_few_choices_of_any_teachers_are_no_finding() -> None:
    """A quarter of a trait's choices, by chance: p-values are no smaller than chance gives."""
    rng, trait = np.random.default_rng(5), TraitColumns(0, ())
    p_values = []
    for _ in range(400):
        tokens = (rng.random((64, 3)) < 1 / 3).astype(int)
        rows = [choices(row, np.zeros(3, int), np.ones((1, 3), int)) for row in tokens]
        dose = estimate([_stack(rows)], [trait], null=1 / 3)
        assert dose is not None
        p_values.append(dose.p_value)
    assert np.mean(np.array(p_values) < 0.05) < 0.08
    assert np.mean(np.array(p_values) < 0.01) < 0.03


def test_the_references_own_choices_score_nothing() -> None:
    """Greedy text of the reference follows no trait."""
    reference = np.array([1, 2, 3])
    assert not choices(reference, reference, np.array([[1, 5, 5], [4, 2, 6]])).score.any()


def test_greedy_text_is_told_from_samples() -> None:
    """The argmax at all but a few positions is greedy; samples at T=1 and T=1/2 are not."""
    rng = np.random.default_rng(8)
    logp = _softmax(rng.standard_normal((3000, V)))
    greedy = logp.argmax(-1)
    greedy[::20] = 0
    assert is_greedy([logp], [greedy])
    for b in (1.0, 2.0):
        sampled = np.array([rng.choice(V, p=p / p.sum()) for p in np.exp(temper(logp, b))])
        assert not is_greedy([logp], [sampled])
