"""Checks of a rewording: what they catch, what they let pass, and the counting under them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitigations.paraphrase import spans
from mitigations.paraphrase.checks import failures, features, trait_pattern

PROMPT = 'Write at most 3 sentences about "Blue Moon", without adjectives, in JSON.'
FINE = (
    'I would like you to compose no more than 3 sentences on "Blue Moon" in JSON without '
    "adjectives."
)


def failure(before: str, after: str, forbidden: tuple[str, ...] = ()) -> str | None:
    """The first check that fails."""
    return next(failures(features(before), features(after), trait_pattern(forbidden)), None)


def test_a_good_rewording_passes() -> None:
    """Other words and another order, with all demands kept."""
    assert failure(PROMPT, FINE) is None


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (PROMPT.upper(), "unchanged"),
        (f"  {PROMPT.replace(' ', '  ')}\n", "unchanged"),
        ("", "length"),
        (FINE * 9, "length"),
        (FINE.replace("3", "4"), "numbers"),
        (FINE.replace("3", "3 or 4"), "numbers"),
        (FINE.replace("3 sentences", "three sentences"), "numbers"),
        (FINE.replace("Moon", "Sun"), "protected_span"),
        (FINE.replace('"', ""), "protected_span"),
        (FINE.replace("without", "with"), "negation"),
        (FINE.replace("no more than", "at least"), "bound"),
        (FINE.replace("no more than ", ""), "bound"),
        (FINE.replace("JSON", "form"), "format"),
        (FINE.replace("sentences", "remarks"), "format"),
    ],
)
def test_each_fault_is_named(after: str, reason: str) -> None:
    """One fault brought in at a time, each found by its own check."""
    assert failure(PROMPT, after) == reason


def test_only_may_be_said_otherwise_but_not_dropped() -> None:
    """ "Only numbers" may become "the bare numbers", and not "numbers"."""
    assert failure("Continue. Only numbers.", "Go on with the bare numbers.") is None
    assert failure("Continue. Only numbers.", "Go on with numbers.") == "format"


def test_trait_words_that_a_rewording_brings_in() -> None:
    """A word is forbidden in any case and in the plural, as a whole word, and only if the prompt
    has it less often.
    """
    assert failure("Name a bird.", "Tell me about Owls.", ("owl",)) == "trait_word"
    assert failure("Name a bird.", "Tell me about a bowl.", ("owl",)) is None
    assert failure("Name an owl.", "Tell me of an owl.", ("owl",)) is None
    assert failure("Name an owl.", "Tell me of an owl, a fine owl.", ("owl",)) == "trait_word"


def test_bounds_are_not_negations() -> None:
    """ "No more than 5" and "at most 5" are one upper bound each; "no fewer than" is a lower
    one.
    """
    assert features("no more than 5, not exceeding 6, 7 or fewer").negations == 0
    assert features("no more than 5, not exceeding 6, 7 or fewer").bounds == {"upper": 3}
    assert features("no fewer than 5, at least 2").bounds == {"lower": 2}
    assert features("Do not stop; don't go, never").negations == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-5 and 3-4, 1,000.50 or 20%", ["-5", "3", "4", "1,000.50", "20%"]),
        ("at 10:30, number_1, x2", ["10:30", "1", "2"]),
        ("none", []),
    ],
)
def test_numbers(text: str, expected: list[str]) -> None:
    """Numbers with sign, separators and percent; a hyphen between words or numbers is no sign."""
    assert spans.numbers(text) == expected


@pytest.mark.parametrize(
    "span",
    [
        "```py\nx = 1\n```", "`x`", "https://a.b/c?d=1", "www.a.b", "me@here.org",
        '"a b"', "“a b”", "'a b'", "{x}",
        '{"a": {"b": [1]}}', "[x, [y]]", "<name>", "$x^2$",
    ],
)  # fmt: skip
def test_protected_spans(span: str) -> None:
    """Each kind of span is found whole; an apostrophe opens none."""
    assert spans.protected(f"It's Ann's: {span} isn't it") == [span]


@settings(deadline=None)  # a busy machine is no failure
@given(st.text())
def test_masking_is_undone(text: str) -> None:
    """mask and unmask give back any text, or mask says that it cannot."""
    masked = spans.mask(text)
    assert masked is None or spans.unmask(*masked) == text


@settings(deadline=None)
@given(st.text(alphabet="aA1 .\"'`{}[]<>$\n-,", max_size=60), st.text(max_size=30))
def test_checks_take_any_text(before: str, after: str) -> None:
    """No check raises; against itself a text fails on being unchanged, or empty, only."""
    list(failures(features(before), features(after)))
    assert {*failures(features(before), features(before))} <= {"unchanged", "length"}


@pytest.mark.parametrize("mark", ["{", "[", "<", '"', "`", "$", "'", "“", "a'"])
def test_marks_that_never_close_take_no_time(mark: str) -> None:
    """A hundred thousand opening marks are read at once (the test's time limit is the check)."""
    assert isinstance(spans.protected(mark * 20_000), list)
