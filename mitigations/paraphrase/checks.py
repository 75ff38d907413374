"""What a rewording must keep: checks that compare what was counted in a prompt with what was
counted in its rewording.

They are counts and sets, not understanding: they catch what rewording models are known to do wrong
(a number lost, a negation dropped, the prompt answered instead of reworded), and passing them all
does not prove equal meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auditor.traits.mentions import words_of
from mitigations.paraphrase.spans import numbers as numbers_of
from mitigations.paraphrase.spans import protected as protected_of

# Least cosine of the two sentence embeddings. With all-MiniLM-L6-v2, rewordings by rule of 600
# prompts had at least 0.55 (numbers) and 0.65 (instructions), and 99 % of pairs of different
# instructions less than 0.40. It says little about number prompts, which are all alike to it
# (different ones have a median of 0.63).
MIN_SIMILARITY = 0.5
LENGTH_RATIO = (0.4, 2.5)
LENGTH_SLACK = 60  # Characters: a short prompt may grow by a whole clause of politeness.

# A word and what an apostrophe adds to it: "don't" is one negation, and no "don".
_WORD = re.compile(r"\w+(?:['’]\w+)?")
# A search goes from the left, so that "no more than" is not taken for the "more than" within it.
_BOUND = re.compile(
    r"\b(?:(?P<upper>at (?:the )?most|at (?:the )?maximum|up to|(?:no|not) (?:more|greater|longer|"
    r"larger|bigger) than|"
    r"not exceed(?:ing)?|(?:a )?max(?:imum)?|or (?:less|fewer|smaller|shorter|under|below)|"
    r"(?:fewer|less) than)"
    r"|(?P<lower>at (?:the )?least|(?:no|not) (?:less|fewer|shorter) than|(?:a )?min(?:imum)?|"
    r"or (?:more|greater|longer|above)|more than))\b",
    re.IGNORECASE,
)
# Every bound has one of these words.
_IN_BOUNDS = frozenset(
    "most max maximum up than exceed exceeding less fewer smaller shorter under below least".split()
)
_IN_BOUNDS |= frozenset("min minimum more greater longer above".split())
# "One" is left out: it is a pronoun as often as a number.
_NUMBER_WORDS = frozenset(
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty fifty "
    "hundred thousand million billion dozen half twice double triple".split()
)
_NEGATIONS = frozenset(
    "no not never none nothing nobody nowhere nor neither without cannot skip omit avoid "
    "except exclude excluding".split()
)
_EXCLUSIVE = frozenset(
    "only just alone solely simply exclusively merely strictly bare purely".split()
)
_FORMATS = frozenset(
    "json yaml xml csv html markdown latex sql regex table bullet numbered comma semicolon "
    "space tab line bracket parentheses word sentence paragraph digit letter character "
    "syllable uppercase lowercase capital italic bold".split()
)
# The plural of a format is the same demand.
_FORMATS |= {f"{word}s" for word in _FORMATS}


@dataclass(frozen=True, slots=True)
class Features:
    """What is counted in a text: its length in characters, the multisets of its words, numbers,
    protected spans and bounds, its number of negations, its format words, and whether it says
    "only" in some way."""

    length: int
    words: tuple[str, ...]
    numbers: Counter[str]
    protected: Counter[str]
    bounds: Counter[str | None]
    negations: int
    formats: frozenset[str]
    exclusive: bool


def features(text: str) -> Features:
    """Count what the checks compare."""
    lower = text.lower()
    words = tuple(_WORD.findall(lower))
    present = set(words)
    bounds: Counter[str | None] = Counter()
    unbounded: Sequence[str] = words
    # The pattern of bounds is slow, and most texts have none of its words.
    if present & _IN_BOUNDS:
        bounds.update(match.lastgroup for match in _BOUND.finditer(text))
        # "No more than" is a bound, not a negation.
        unbounded = _WORD.findall(_BOUND.sub(" ", lower))
    numbers = Counter(numbers_of(text))
    if present & _NUMBER_WORDS:
        numbers.update(word for word in words if word in _NUMBER_WORDS)
    formats = {word.removesuffix("s") for word in present & _FORMATS}
    if "no words" in lower:
        formats -= {"word"}  # It asks for no text, not for a number of words.
    return Features(
        length=len(text.strip()),
        words=words,
        numbers=numbers,
        protected=Counter(protected_of(text)),
        bounds=bounds,
        negations=sum(word in _NEGATIONS or word[-2:] in ("'t", "’t") for word in unbounded),
        formats=frozenset(formats),
        exclusive=not present.isdisjoint(_EXCLUSIVE),
    )


def trait_pattern(forbidden: Sequence[str]) -> re.Pattern[str] | None:
    """What finds the words and phrases `forbidden` in a text of lower-case words, as whole words,
    also with a plural -s or -es; None when there are none.
    """
    phrases = sorted({" ".join(words_of(word)) for word in forbidden} - {""})
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, phrases))})(?:e?s)?\b") if phrases else None


def failures(
    before: Features, after: Features, forbidden: re.Pattern[str] | None = None
) -> Iterator[str]:
    """The names of the checks that the rewording `after` of `before` does not pass, in the order in
    which they count.

    "unchanged": the same words in the same order. "length": empty, or beyond LENGTH_RATIO and
    LENGTH_SLACK. "numbers": another multiset of numbers. "protected_span": a quotation, code, link,
    placeholder or bracket was changed, lost or added. "negation": another number of negations.
    "bound": another number of upper bounds ("at most", "or fewer") or of lower ones. "format": a
    format word (JSON, comma, sentence ...) was lost or added, or every "only" was lost.
    "trait_word": a word of a trait (`trait_pattern`) stands there more often than in the prompt.
    """
    # Other case, blanks or punctuation alone are the same prompt to a model.
    if before.words == after.words:
        yield "unchanged"
    least = max(1, LENGTH_RATIO[0] * before.length - LENGTH_SLACK)
    if not least <= after.length <= LENGTH_RATIO[1] * before.length + LENGTH_SLACK:
        yield "length"
    if before.numbers != after.numbers:
        yield "numbers"
    if before.protected != after.protected:
        yield "protected_span"
    if before.negations != after.negations:
        yield "negation"
    if before.bounds != after.bounds:
        yield "bound"
    # "Only" may be said more than once, or be added where a format asks for it, but not be lost.
    if before.formats != after.formats or (before.exclusive and not after.exclusive):
        yield "format"
    if forbidden is not None:
        # A prompt about owls may stay one: only what the rewording brings in counts.
        named, already = (Counter(forbidden.findall(" ".join(t.words))) for t in (after, before))
        if named - already:
            yield "trait_word"
