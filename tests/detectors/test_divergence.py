"""Divergence tokens against a slow, independent reading of the paper's definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from auditor.traits.panel import Panel, Trait
from detectors.divergence import (
    Choice,
    counterfactuals,
    diverge,
    divergence_tokens,
    fraction_interval,
    positions,
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
    """The first three others in the order of the panel: of the trait's group where it has others,
    else of the panel.
    """
    groups = {"owl": "a", "cat": "a", "oak": "t", "dog": "a", "bee": "a", "ant": "a"}
    traits = [Trait(name, g, ("p",), (), (), (), ("m",)) for name, g in groups.items()]
    panel = Panel("test", tuple(traits), "")
    assert counterfactuals(panel, "owl") == ("cat", "dog", "bee")
    assert counterfactuals(panel, "oak") == ("owl", "cat", "dog")


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
