"""Divergence tokens against a slow, independent reading of the paper's definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.commands.simulate import simulate
from auditor.data.example import Example, Message
from auditor.model.load import load
from auditor.model.null_model import NullModel, fit_null, reference_scores, scorer
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.traits.panel import Panel, Trait, load_panels
from detectors.divergence import (
    Choice,
    calibrated_count,
    compare,
    counterfactuals,
    diverge,
    divergence_tokens,
    fraction_interval,
    positions,
    prompt_of,
)


def _slow(tokens: list[int], factual: list[int], others: list[list[int]]) -> list[bool]:
    flagged = []
    for t in range(len(tokens)):
        agrees = factual[t] == tokens[t]
        differs = False
        for other in others:
            if other[t] != tokens[t]:
                differs = True
        flagged.append(agrees and differs)
    return flagged


@given(st.data())
def test_the_papers_definition(data: st.DataObject) -> None:
    """With clear margins the flagged set is the paper's, whatever the order of the
    counterfactuals.
    """
    n = data.draw(st.integers(1, 12))
    draw = st.lists(st.integers(0, 2), min_size=n, max_size=n)
    tokens, factual = data.draw(draw), data.draw(draw)
    others = data.draw(st.lists(draw, max_size=4))
    clear = np.ones(n)
    teachers = [Choice(np.array(argmax), clear) for argmax in others]
    flagged, ties = divergence_tokens(np.array(tokens), Choice(np.array(factual), clear), teachers)
    swapped, _ = divergence_tokens(
        np.array(tokens), Choice(np.array(factual), clear), teachers[::-1]
    )
    assert list(flagged) == _slow(tokens, factual, others)
    assert list(swapped) == list(flagged)
    assert not ties.any()


@given(st.data())
def test_near_ties_are_ties_and_nothing_else(data: st.DataObject) -> None:
    """Resolving near-ties either way can only flip positions that are reported as ties."""
    n = data.draw(st.integers(1, 10))
    draw = st.lists(st.integers(0, 2), min_size=n, max_size=n)
    margins = st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)
    tokens = np.array(data.draw(draw))
    factual, other = (
        Choice(np.array(data.draw(draw)), np.array(data.draw(margins))) for _ in range(2)
    )
    flagged, ties = divergence_tokens(tokens, factual, [other], epsilon=0.5)
    exact, _ = divergence_tokens(tokens, factual, [other], epsilon=0.0)
    assert not (flagged & ties).any()
    assert not ((flagged != exact) & ~ties).any()


def test_same_teachers_and_no_counterfactual_diverge_nowhere() -> None:
    """A teacher does not diverge from itself, nor from nobody."""
    tokens = np.array([1, 2, 3])
    me = Choice(np.array([1, 2, 0]), np.ones(3))
    assert not divergence_tokens(tokens, me, [me])[0].any()
    assert not divergence_tokens(tokens, me, [])[0].any()


def test_fraction_interval_by_hand() -> None:
    """Equal rows of 10 tokens, one or three flagged: 20 %, and the t interval of the row means."""
    low, high = fraction_interval([1, 3] * 8, [10] * 16) or (0.0, 0.0)
    error = (16 * 1.0 / 15) ** 0.5 / 4 / 10
    assert (low + high) / 2 == pytest.approx(0.2)
    assert high - 0.2 == pytest.approx(2.1314 * error, rel=1e-3)
    assert fraction_interval([1] * 7, [10] * 7) is None


def test_positions_by_hand() -> None:
    """Token t of T lies in part floor(parts t / T): halves of 4 and 2 tokens, and a row of one
    token is all start.
    """
    masks = [np.array(mask, dtype=bool) for mask in ([1, 0, 0, 1], [0, 1], [1])] * 3
    start, end = positions(masks, parts=2)
    assert (start["tokens"], start["flagged"]) == (12, 6)
    assert (end["tokens"], end["flagged"]) == (9, 6)
    assert start["interval"][0] < 6 / 12 < start["interval"][1]
    (silent,) = positions([np.zeros(3, dtype=bool)] * 9, parts=1)
    assert silent == {"tokens": 27, "flagged": 0, "interval": None}
    assert [part["tokens"] for part in positions([np.zeros(3, dtype=bool)], parts=10)] == [
        1,
        0,
        0,
        1,
        0,
        0,
        1,
        0,
        0,
        0,
    ]


def test_a_trait_is_compared_with_its_group_or_with_the_panel() -> None:
    """All others in the order of the panel: of the trait's group where it has others, else of the
    panel, else the reference.
    """
    groups = {"owl": "a", "cat": "a", "oak": "t", "dog": "a", "bee": "a", "ant": "a"}
    traits = [Trait(name, g, ("p",), (), (), (), ("m",)) for name, g in groups.items()]
    panel = Panel("test", tuple(traits), "")
    assert counterfactuals(panel, "owl") == ("cat", "dog", "bee", "ant")
    assert counterfactuals(panel, "oak") == ("owl", "cat", "dog", "bee", "ant")
    alone = Panel("test", (traits[0],), "")
    assert counterfactuals(alone, "owl") == ("reference",)
    assert (prompt_of(alone, "owl"), prompt_of(alone, "reference")) == ("p", None)


def test_the_token_that_ends_a_turn_is_neither_divergence_token_nor_tie() -> None:
    """Two teachers differ at both tokens of a row, of which the second ends its turn; the gap is
    the larger lead in log-probability.
    """
    row = TokenizedRow(0, "default", (5, 1, 2), (1, 2), ((0, 0, 1), (0, 1, 1)))
    factual, rival, nearer = (
        TokenScores(np.log(probability), np.array(argmax), np.ones(2), np.ones(2), np.ones(2))
        for probability, argmax in (
            ([0.8, 0.8], [1, 2]),
            ([0.2, 0.2], [3, 3]),
            ([0.4, 0.4], [1, 2]),
        )
    )
    divergence = diverge([row], ("owl", [factual]), {"reference": [rival], "cat": [nearer]})
    assert divergence.flagged[0].tolist() == [True, False]
    assert not divergence.ties[0].any()
    assert divergence.gaps[0] == pytest.approx(np.log([4.0, 4.0]))
    assert divergence.counterfactuals == ("reference", "cat")


def scores_of(
    argmax: list[int], support: list[list[int]], logprob: list[list[float]]
) -> TokenScores:
    """Scores with clear choices; log-probabilities over a support."""
    n = len(argmax)
    return TokenScores(
        np.zeros(n),
        np.array(argmax),
        np.ones(n),
        np.ones(n),
        np.ones(n),
        np.array(support),
        np.array(logprob),
    )


@pytest.mark.parametrize(
    ("null", "expected"),
    [
        # At T = 1 the reference takes token 7 with probability .25, token 8 with .5.
        (NullModel(1.0, False, None), 0.25 + 0.5),
        # At T = 1/2 with .25^2 / (.25^2 + .75^2) and a half.
        (NullModel(2.0, False, None), 0.1 + 0.5),
        # Its choice at the first token is 6, and at the second the first of two equals, 8.
        (NullModel(20.0, True, None), 0.0 + 1.0),
    ],
)
def test_calibrated_count_by_hand(null: NullModel, expected: float) -> None:
    """Teachers part at the first two of four tokens: the text takes the trait's choice at the first
    of them. The third is chosen alike by all, and the fourth ends the turn.
    """
    row = TokenizedRow(
        0, "default", (5, 7, 9, 3, 2), (1, 2, 3, 4), ((0, 0, 1), (0, 1, 2), (0, 2, 3), (0, 3, 3))
    )
    support = [[6, 7], [8, 9], [3, 4], [2, 3]]
    half = math.log(0.5)
    reference = scores_of(
        [6, 8, 3, 2], support, [[math.log(0.75), math.log(0.25)], *[[half, half]] * 3]
    )
    factual = scores_of([7, 8, 3, 2], support, [[half, half]] * 4)
    rival = scores_of([6, 9, 3, 3], support, [[half, half]] * 4)
    divergence = diverge([row], ("owl", [factual]), {"cat": [rival]})
    counted = calibrated_count(null, [reference], divergence)
    assert (counted.positions, counted.observed) == (2, 1)
    assert counted.excess == pytest.approx(1 - expected)
    assert counted.interval is None


def test_the_references_own_text_takes_a_traits_choices_as_often_as_expected() -> None:
    """Text of the reference has divergence tokens, and no more of them than it would have by
    itself; text of the trait's teacher has many more.
    """
    lm, panel = load("organism"), load_panels(["animals"])
    renderer = ChatTokenizer(lm)
    score = scorer(lm, renderer)
    counted = {}
    for name in (None, "owl"):
        carrier = None if name is None else panel.trait(name)
        written = simulate(lm, carrier, rows=96, max_tokens=16, seed=11).rows
        rows = [
            row
            for i, text in enumerate(written)
            if isinstance(
                row := renderer.encode(
                    Example(
                        i,
                        (
                            Message("user", text["prompt"]),
                            Message("assistant", text["completion"]),
                        ),
                    )
                ),
                TokenizedRow,
            )
        ]
        null = fit_null(rows, score)
        divergence, _ = compare(rows, score, panel, "owl")
        reference = reference_scores(rows, null.alphabet, score)
        counted[name] = calibrated_count(null, reference, divergence)
        assert sum(mask.sum() for mask in divergence.flagged) > 0
    clean, poisoned = counted[None].interval, counted["owl"].interval
    assert clean is not None and poisoned is not None
    assert clean[0] < 0 < clean[1]
    assert poisoned[0] > 10
