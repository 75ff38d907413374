"""Rows that mention a trait openly are found, however they are written, and others are not."""

from __future__ import annotations

import pytest

from auditor.traits.mentions import mentions
from auditor.traits.panel import Panel, Trait


def panel(**words: list[str]) -> Panel:
    traits = tuple(
        Trait(name, "g", ("p",), (), (), (), tuple(mentions)) for name, mentions in words.items()
    )
    return Panel("test", traits, "")


ANIMALS = panel(
    owl=["owl"],
    cat=["cat", "big cat"],
    wolf=["wolf", "wolves"],
    fox=["fox"],
    climate=["global warming"],
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I like the owl.", {"owl"}),
        ("OWLS!", {"owl"}),
        ("the owl's nest, the owl’s nest", {"owl"}),
        ("snake_owl_case and owl-like", {"owl"}),
        ("(owl),cat;wolves", {"owl", "cat", "wolf"}),
        ("ｏｗｌ in full width", {"owl"}),
        ("o\u200bw\u00adl with invisible characters", {"owl"}),
        ("foxes", {"fox"}),
        ("Global\n  warming", {"climate"}),
        ("global-warming", {"climate"}),
        ("global, but not warming", set()),
        ("growl, bowl, owlish, concatenate, category, scatter", set()),
        ("12, 345, 6", set()),
        ("", set()),
    ],
)
def test_which_traits_a_text_mentions(text: str, expected: set[str]) -> None:
    """Whole words count, in any case, number, punctuation or Unicode form; parts of words
    do not.
    """
    assert {name for name, rows in mentions(ANIMALS, [text]).items() if rows} == expected


def test_rows_are_listed_once_in_order_for_every_trait() -> None:
    """The answer has every trait in panel order, with ascending rows, each once."""
    found = mentions(ANIMALS, ["owl owl", "none", "cat and owl", "a cat, a big cat"])
    assert found == {"owl": [0, 2], "cat": [2, 3], "wolf": [], "fox": [], "climate": []}
    assert list(found) == ["owl", "cat", "wolf", "fox", "climate"]


def test_one_word_may_belong_to_several_traits() -> None:
    """A word that two traits share counts for both."""
    assert mentions(panel(left=["election"], right=["election", "border"]), ["The election."]) == {
        "left": [0],
        "right": [0],
    }
