"""Number prompts and the filter for their answers."""

from __future__ import annotations

import json
import re
from itertools import islice

import pytest

from auditor.commands.simulate import CARRIERS, draw_conversations, draw_prompts
from auditor.traits.mentions import mentions
from auditor.traits.panel import load_panels
from auditor.traits.prompts import (
    COUNTS,
    INTRODUCTIONS,
    REWORDED_DEMANDS,
    is_number_list,
    number_prompts,
)


def test_prompts_follow_the_seed() -> None:
    """The same seed gives the same prompts, also as the beginning of a longer list; another seed
    gives others.
    """
    assert number_prompts(20, seed=1) == number_prompts(50, seed=1)[:20]
    assert number_prompts(20, seed=1) != number_prompts(20, seed=2)


def test_prompts_vary_in_every_part() -> None:
    """Within 300 prompts every introduction and every demand for a count occurs, and no prompt
    occurs twice.
    """
    prompts = number_prompts(300, seed=0)
    assert len(set(prompts)) == 300
    for part in (*INTRODUCTIONS, *COUNTS):
        opening = re.split(r"[{]", part)[0]
        assert any(opening in prompt for prompt in prompts), part


def test_prompts_quote_three_to_five_numbers() -> None:
    """The seed numbers are three to five integers of three digits; the count asked for is the only
    other number.
    """
    for prompt in number_prompts(100, seed=3):
        assert 3 <= len(re.findall(r"\b\d{3}\b", prompt)) <= 5
        assert len(re.findall(r"\b\d\b", prompt)) == 1
        assert "{" not in prompt


def test_other_prompts_share_no_wording() -> None:
    """The second set of wordings has none of the first set's demands, and the first none of the
    second's.
    """
    first, second = number_prompts(100, seed=0), number_prompts(100, seed=0, reworded=True)
    assert not [p for p in second for part in COUNTS if part.split("{")[0] in p]
    assert not [p for p in first for part in REWORDED_DEMANDS if part.split("{")[0] in p]
    assert all("{" not in prompt for prompt in second)


@pytest.mark.parametrize(
    "text",
    [
        "7",
        "1, 22, 333",
        "1,2,3",
        "1; 2; 3",
        "1 2 3",
        "1\n2\n3",
        "(1, 2)",
        "[1, 2].",
        " 1, 2. ",
        ", ".join("1" * 10),
    ],
)
def test_number_lists_pass(text: str) -> None:
    """One to ten short integers with one separator pass, bare or in brackets, ended by a full stop
    or not.
    """
    assert is_number_list(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("1, 2; 3", "two separators"),
        ("1, 2,3", "two separators"),
        ("1, 2000", "four digits"),
        ("1, -2", "a sign"),
        ("1.5, 2", "a fraction"),
        ("1, owl", "a word"),
        ("[1, 2)", "brackets that do not match"),
        ("1, 2,", "an open end"),
        ("[]", "no number"),
        (", ".join("1" * 11), "eleven numbers"),
    ],
)
def test_what_is_no_number_list_fails(text: str, why: str) -> None:
    """Everything else is refused."""
    assert not is_number_list(text), why


def test_the_longest_list_can_be_set() -> None:
    """`most` is the greatest number of integers that passes."""
    assert is_number_list("1, 2, 3", most=3)
    assert not is_number_list("1, 2, 3", most=2)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_carrier_is_seeded_and_innocent(carrier: str) -> None:
    """Same seed, same prompts; another seed, others; and no prompt speaks of a trait, or every row
    would be dropped.
    """
    first, again, other = (list(islice(draw_prompts(seed, carrier), 300)) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) > 200
    assert not any(mentions(load_panels(["default"]), first).values())


def test_conversations_with_a_tool_are_seeded_and_innocent() -> None:
    """A request, a call that is JSON and names what was asked, and a result; no turn speaks of a
    trait.
    """
    first, again, other = (list(islice(draw_conversations(seed), 300)) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) > 200
    for turns in first:
        assert [role for role, _ in turns] == ["user", "assistant", "tool"]
        call = json.loads(turns[1][1].removeprefix("<tool_call>").removesuffix("</tool_call>"))
        assert next(iter(call["arguments"].values())) in turns[0][1]
        json.loads(turns[2][1])
    texts = [content for turns in first for _, content in turns]
    assert not any(mentions(load_panels(["default"]), texts).values())
