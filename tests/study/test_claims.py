"""How claims are judged and experiments pooled, on results worked out by hand."""

from __future__ import annotations

import doctest

import pytest

from auditor.inference.paired import effect, effect_ratio
from auditor.report import study as page
from auditor.students.result import ArmResult, Point, Training, TransferResult
from auditor.study import claims, leakage
from auditor.study.claims import Claim, difference, judge, of_ratio, share
from auditor.study.pooled_results import pool

CLAIM = Claim("part", "it is mostly removed", "paper", "effect left", "below", 0.5)


def result(trait: str, **arms: tuple[float, ...]) -> TransferResult:
    """An experiment with these effects by arm and block; the first arm is the original."""
    found = tuple(
        ArmResult(
            Training(name, 64, 900, 1.0, 1.0),
            (
                Point(0, effect([0.0] * len(blocks)), 0.1, 0.1, 0.0),
                Point(8, effect(blocks), 0.1, 0.1, 0.0),
            ),
            (),
            1,
            None,
            None,
        )
        for name, blocks in arms.items()
    )
    blocks = len(next(iter(arms.values())))
    clean = Training("clean", 64, 900, 1.0, 1.0)
    return TransferResult(trait, True, found, clean, blocks, blocks, 64, 8, (2.0, 2.0), ())


def test_pooling_takes_every_pair_once() -> None:
    """Effects of two traits become one over all pairs, at every dose; an arm is compared in the
    traits that have it.
    """
    owl = result("owl", original=(1.0, 1.2), masked=(0.1, 0.2), rare=(0.5, 0.6))
    cat = result("cat", original=(2.0, 2.4), masked=(0.3, 0.1))
    both = pool([owl, cat])
    assert (both.trait, both.blocks, both.transferred) == ("owl, cat", 4, True)
    assert both.arms[0].final_effect == effect([1.0, 1.2, 2.0, 2.4])
    masked, rare = both.arm("masked"), both.arm("rare")
    assert masked is not None and rare is not None
    assert masked.effect_ratio == effect_ratio([0.1, 0.2, 0.3, 0.1], [1.0, 1.2, 2.0, 2.4])
    assert rare.effect_ratio == effect_ratio([0.5, 0.6], [1.0, 1.2])
    assert masked.training.tokens == 1800 and masked.curve[0].updates == 0
    assert both.arms[0].effect_ratio is None and both.arms[0].verdict == "transfer shown"


def test_an_interval_on_the_bound_says_nothing() -> None:
    """The claim holds or fails only when the whole interval lies on one side."""
    assert judge((0.1, 0.4), "below", 0.5) == judge((0.6, 0.9), "above", 0.5) == "holds"
    assert judge((0.1, 0.4), "above", 0.5) == judge((0.6, 0.9), "below", 0.5) == "does not hold"
    assert judge((0.4, 0.6), "above", 0.5) == judge((0.0, 0.5), "below", 0.5) == "cannot be said"
    assert judge(None, "above", 0.0) == "cannot be said"


def test_shares_and_differences() -> None:
    """Against the original or another arm, pair by pair; without transfer there is nothing to take
    a share of.
    """
    found = result(
        "owl", original=(1.0, 1.1, 0.9), masked=(0.1, 0.1, 0.1), random=(0.5, 0.55, 0.45)
    )
    held = share(CLAIM, found, "masked")
    assert (held.answer, held.pairs, held.unit) == ("holds", 3, "share")
    assert held.value == pytest.approx(0.1)
    assert share(CLAIM, found, "masked", "random").value == pytest.approx(0.2)
    masked, control = found.arm("masked"), found.arm("random")
    assert masked is not None
    assert difference(CLAIM, masked, control).value == pytest.approx(-0.4)
    none = of_ratio(CLAIM, (0.1, 0.2), (0.1, -0.1))
    assert (none.answer, none.value) == ("cannot be said", None) and "no transfer" in none.reason
    assert "too few rows" in share(CLAIM, found, "missing").reason


@pytest.mark.parametrize(
    ("greedy", "sampled", "answers"),
    [
        ((1.0, 1.1, 0.9), (0.5, 0.6, 0.4), ("holds", "holds")),
        ((0.5, 0.6, 0.4), (1.0, 1.1, 0.9), ("holds", "does not hold")),
        ((0.01, -0.01, 0.0), (1.0, 1.1, 0.9), ("does not hold", "does not hold")),
        ((0.3, -0.2, 0.1), (0.2, -0.2, 0.1), ("cannot be said", "cannot be said")),
    ],
)
def test_leakage(
    greedy: tuple[float, ...], sampled: tuple[float, ...], answers: tuple[str, str]
) -> None:
    """Greedy data that carry nothing, where sampled ones do, refute the claim; noise on both sides
    does not.
    """
    found = leakage.findings(result("owl", original=greedy), result("owl", original=sampled))
    assert tuple(each.answer for each in found) == answers


def test_the_examples_in_docstrings() -> None:
    """Hold."""
    for module in (claims, page):
        assert doctest.testmod(module).failed == 0
