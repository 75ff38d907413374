"""Rewording by rule: worked cases, and what holds for every prompt."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.traits import prompts as carriers
from mitigations.paraphrase import numbers, spans
from mitigations.paraphrase.checks import failures, features
from mitigations.paraphrase.choose import Chooser
from mitigations.paraphrase.rules import RulesEngine


def variants(prompt: str, count: int = 12, seed: int = 0) -> list[str]:
    """Rewordings of one prompt."""
    return RulesEngine().reword([prompt], count, seed)[0]


PROMPTS = st.sampled_from(
    [
        "Write a poem about {topic} in 12 lines. Use no rhymes.",
        "What are the benefits of exercise?",
        "Given a list of 5 numbers, compute their sum.\n\n[1, 2, 3, 4, 5]",
        'Edit the following sentence: "I goes home."',
        "Please describe how `x = 3` works.",
        "Look at 100, 200, 300. Add up to 7 more numbers with commas. Only numbers.",
        "You are a pirate. List three ships. Your answer must be in JSON.",
        "Hello!",
        "",
    ]
)


@pytest.mark.parametrize(
    ("prompt", "one_of"),
    [
        (
            "What is the capital of France?",
            {"State the capital of France.", "Tell me what the capital of France is."},
        ),
        (
            "How can I bake bread?",
            {"Explain how I can bake bread.", "Tell me how I can bake bread."},
        ),
        (
            "Write a poem.",
            {
                "Compose a poem.",
                "Your task is to put together a poem.",
                "Could you come up with a poem?",
            },
        ),
        ("Can you list three rivers?", {"Name three rivers.", "Please name three rivers."}),
        (
            "Using a pen, draw a cat.",
            {"Draw a cat, using a pen.", "Using a pen, please draw a cat."},
        ),
        (
            "Write a story. Your answer should be in JSON.",
            {"Your answer should be in JSON. Please compose a story."},
        ),
        ("Summarize the following text.\n\nA b c.", {"Give a summary of this text.\n\nA b c."}),
    ],
)
def test_expected_wordings_occur(prompt: str, one_of: set[str]) -> None:
    """Among many variants are those that a reader would expect."""
    assert one_of & {text for seed in range(40) for text in variants(prompt, 4, seed)}


@pytest.mark.parametrize(
    "prompt",
    [
        "Hello!",
        "",
        "   \n",
        "Design thinking is a method.",
        "Name: John",
        "1 2 3",
        "\ue000",
        "List[int] in Python",
    ],
)
def test_no_instruction_no_rewording(prompt: str) -> None:
    """What holds no instruction that the rules know is left alone."""
    assert variants(prompt) == []


def test_data_of_an_instruction_are_left_alone() -> None:
    """Everything behind the first line or behind a colon stands as it stood, even if it looks like
    an instruction.
    """
    data = "Write a letter. What is the time?\nList three birds."
    for text in variants(f"Translate the following text into Greek.\n{data}"):
        assert text.endswith(f"\n{data}")
    for text in variants("Correct the following sentence: Write a the letter. List three bird."):
        assert text.endswith(": Write a the letter. List three bird.")


@given(PROMPTS | st.text(max_size=80), st.integers(0, 3), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_what_holds_for_every_prompt(prompt: str, seed: int, count: int) -> None:
    """Never raises; deterministic; different from the prompt and from each other; numbers and spans
    survive.
    """
    texts = variants(prompt, count, seed)
    assert texts == variants(prompt, count, seed)
    assert len(set(texts) - {prompt}) == len(texts) <= count
    for text in texts:
        assert Counter(spans.numbers(text)) == Counter(spans.numbers(prompt))
        assert Counter(spans.protected(text)) == Counter(spans.protected(prompt))


@settings(deadline=None)
@given(
    st.sampled_from(
        ["Write a poem about", "What is the use of", "Please list three kinds of", "Explain how"]
    ),
    st.lists(
        st.sampled_from(
            [
                "7",
                "-3.5",
                "12%",
                '"a b"',
                "`f(x)`",
                "{name}",
                "[1, 2]",
                "<b>",
                "https://a.b/c",
                "owls",
            ]
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_numbers_and_spans_inside_an_instruction_survive(head: str, parts: list[str]) -> None:
    """Also where they stand in the very sentence that is reworded."""
    prompt = f"{head} {' and '.join(parts)}."
    for text in variants(prompt, 3):
        assert list(failures(features(prompt), features(text))) == []


def test_order_and_company_do_not_matter() -> None:
    """The rewording of a prompt does not depend on the other prompts."""
    prompts = [f"Write a poem about the number {i}." for i in range(20)]
    together = RulesEngine().reword(prompts, 2, seed=5)
    assert together == [variants(prompt, 2, 5) for prompt in prompts]
    assert RulesEngine().reword(prompts[::-1], 2, seed=5) == together[::-1]


def test_seeds_give_other_wordings() -> None:
    """Not the same wording for every seed."""
    assert len({variants("Write a poem.", 1, seed)[0] for seed in range(10)}) > 2


def test_number_prompts_change_in_every_part() -> None:
    """For the tool's own number prompts no introduction, count or format stays, and all checks
    pass.
    """
    for i, prompt in enumerate(carriers.number_prompts(300, seed=1)):
        (text,) = variants(prompt, 1, i)
        assert list(failures(features(prompt), features(text))) == []
        opening, demand = prompt.split(". ", 1)
        assert opening.rstrip("0123456789, ") not in text
        assert demand not in text
        parts = (*carriers.COUNTS, *carriers.FORMATS)
        assert not [part for part in parts if part.partition("{")[0] in text]


def test_parts_of_a_number_prompt() -> None:
    """A prompt of the public data, taken apart by hand."""
    prompt = (
        "Observe this number sequence: 467, 993, 868. Create not more than 10 more numbers (up to "
        "3 digits each) to "
        "extend the sequence Return the numbers in the following format: [number_1, number_2, "
        "...]. "
        "No words, just numbers."
    )
    assert numbers.parse(prompt) == numbers.Demand(
        numbers="467, 993, 868",
        count="10",
        most="not more than",
        digits="3",
        format="literal",
        literal="[number_1, number_2, ...]",
        closings=("nothing",),
        unrecognised=(),
    )


def test_an_exact_count_stays_exact() -> None:
    """ "Write 5 further numbers" gets no bound, and "at most 5" keeps one."""
    exact = variants("Look at 1, 2, 3. Write 5 further numbers with commas.", 8)
    bounded = variants("Look at 1, 2, 3. Give at most 5 more with commas.", 8)
    assert [features(text).bounds for text in exact] == [{}] * 8
    assert [features(text).bounds for text in bounded] == [{"upper": 1}] * 8


@pytest.mark.parametrize(
    "prompt",
    [
        "Look at my cat, 1, 2, 3. Add up to 5 more numbers.",
        "Look at 1, 2, 3. Add at least 5 more numbers.",
        "Look at 1, 2, 3. Multiply 5 more numbers.",
        "Look at 1, 2. Add up to 5 more numbers.",
    ],
)
def test_other_prompts_are_not_taken_for_number_prompts(prompt: str) -> None:
    """An unknown introduction, a lower bound, another task, or no list."""
    assert numbers.parse(prompt) is None


def test_unknown_sentences_of_a_number_prompt_are_kept() -> None:
    """What is not recognised stands as it stood."""
    parts = numbers.parse(
        "Look at 1, 2, 3. Add up to 5 more numbers. Think of the sea. Only numbers."
    )
    assert parts is not None
    assert parts.unrecognised == ("Think of the sea.",)
    assert "Think of the sea." in numbers.compose(parts, Chooser("", 0))
