"""Divergence tokens for mitigation are those of the detector, with their gaps and the reference's
choices.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.data.example import Example, Message
from auditor.mitigating.divergence_tokens import (
    DivergenceTokenFinder,
    DivergenceTokens,
    divergent,
    least_gap,
)
from auditor.model.language_model import LanguageModel
from auditor.model.scoring import score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.runs.run_directory import RunDir
from auditor.traits.panel import Panel, Trait
from detectors.divergence import counterfactuals, diverge


def trait(name: str, group: str = "animal") -> Trait:
    return Trait(
        name, group, (f"You love {name}s. " * 3,), ("Which?",), ("I like the",), (name,), (name,)
    )


PANEL = Panel(
    "p",
    (trait("owl"), trait("cat"), trait("oak", "tree"), trait("dog"), trait("bee"), trait("ant")),
    "0",
)


@pytest.fixture
def rows(tiny: LanguageModel) -> list[TokenizedRow]:
    """Long random completions, so that some of their tokens are somebody's choice."""
    rng = np.random.default_rng(0)
    letters = list("bcdfgijkmpqrsuvxyz03456789")
    renderer = ChatTokenizer(tiny)
    texts = ["".join(rng.choice(letters, 400)) for _ in range(6)]
    examples = [
        Example(i, (Message("user", f"q{i}"), Message("assistant", text)))
        for i, text in enumerate(texts)
    ]
    return [row for each in examples if isinstance(row := renderer.encode(each), TokenizedRow)]


def flagger(lm: LanguageModel, tmp_path: Path, *traits: str) -> DivergenceTokenFinder:
    run = RunDir.open(tmp_path, {"traits": traits})
    score = partial(score_under, lm, ChatTokenizer(lm))
    return DivergenceTokenFinder(score, PANEL, traits, 1e-3, run)


def test_flags_are_the_detectors(
    tiny: LanguageModel, rows: list[TokenizedRow], tmp_path: Path
) -> None:
    """Against the others of the trait's group, the end of the turn apart."""
    found = flagger(tiny, tmp_path, "owl")(rows)
    rivals = counterfactuals(PANEL, "owl")
    renderer = ChatTokenizer(tiny)
    scores = {
        name: score_under(tiny, renderer, rows, PANEL.trait(name).prompts[0] if name else None)
        for name in ("", "owl", *rivals)
    }
    others = {name: scores[name] for name in rivals}
    expected = diverge(rows, ("owl", scores["owl"]), others).flagged
    assert sum(int(mask.sum()) for mask in expected) >= 3
    for i, row in enumerate(rows):
        ends = np.array([start == end for _, start, end in row.spans])
        assert ends.sum() == 1
        np.testing.assert_array_equal(found[i].flagged, expected[i] & ~ends)
        np.testing.assert_array_equal(found[i].choice, scores[""][i].argmax)
        lead = np.max(
            [scores["owl"][i].logprob - each[i].logprob for each in others.values()], axis=0
        )
        np.testing.assert_allclose(
            found[i].gap[found[i].flagged], lead[found[i].flagged], atol=1e-4
        )


def test_several_traits_flag_what_any_of_them_flags(
    tiny: LanguageModel, rows: list[TokenizedRow], tmp_path: Path
) -> None:
    """With the greatest gap."""
    both = flagger(tiny, tmp_path, "owl", "oak")(rows)
    alone = [flagger(tiny, tmp_path, name)(rows) for name in ("owl", "oak")]
    for i, flags in enumerate(both):
        np.testing.assert_array_equal(flags.flagged, alone[0][i].flagged | alone[1][i].flagged)
        np.testing.assert_allclose(
            flags.gap[flags.flagged],
            np.maximum(alone[0][i].gap, alone[1][i].gap)[flags.flagged],
            atol=1e-6,
        )


def test_a_finished_block_is_not_scored_again(
    tiny: LanguageModel, rows: list[TokenizedRow], tmp_path: Path
) -> None:
    """What is kept in the run comes back the same, without a model."""
    find = flagger(tiny, tmp_path, "owl")
    once = find(rows)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("scored again")

    find = replace(find, score=fail)
    again = find(rows)
    assert all(
        np.array_equal(a.flagged, b.flagged) and np.array_equal(a.gap, b.gap)
        for a, b in zip(once, again, strict=True)
    )
    with pytest.raises(AssertionError, match="scored again"):
        find(rows[:2])


def test_a_trait_without_relatives_is_compared_with_the_panel() -> None:
    """An only child of its group."""
    names = tuple(trait.name for trait in PANEL.traits)
    assert counterfactuals(PANEL, "oak") == tuple(name for name in names if name != "oak")


@pytest.mark.parametrize(
    ("gaps", "most", "kept"),
    [
        ([3.0, 1.0, 2.0], 5, 3),
        ([3.0, 1.0, 2.0], 2, 2),
        ([3.0, 1.0, 2.0], 0, 0),
        ([2.0, 2.0, 2.0, 5.0], 2, 1),
    ],
)
def test_a_budget_takes_the_largest_gaps(gaps: list[float], most: int, kept: int) -> None:
    """Never more than it allows: equal gaps at the edge stay out together."""
    array = np.array(gaps, dtype=np.float32)
    assert int((array >= least_gap(array, most)).sum()) == kept


def test_choices_are_the_text_they_would_be(tiny: LanguageModel) -> None:
    """A choice is decoded in its place; special tokens, and the parts of a character, are
    no text.
    """
    ids = tiny.tokenizer.convert_tokens_to_ids
    row = ChatTokenizer(tiny).encode(
        Example(0, (Message("user", "q"), Message("assistant", "a thé")))
    )
    assert isinstance(row, TokenizedRow)
    spans = [span for span in row.spans if span[1] < span[2]]
    choice = [ids("12"), ids("Ġthe"), ids("b"), ids("<|im_end|>"), ids("z"), ids("z"), ids("z")][
        : len(row.positions)
    ]
    count = len(row.positions)
    flags = DivergenceTokens(
        np.ones(count, bool), np.ones(count, np.float32), np.array((choice * 2)[:count], np.int32)
    )
    found = divergent(tiny, row, flags, 0.0)
    assert [each.span for each in found][: len(spans)] == spans
    texts = {each.span: each.choice for each in found}
    assert texts[(0, 0, 1)] == "12"
    assert texts[(0, 1, 2)] == " the"
    assert {each.choice for each in found if each.span == (0, 4, 5)} == {None}  # the two bytes of é
