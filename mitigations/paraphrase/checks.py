"""What a rewording must keep: checks that compare what was counted in a prompt with what was
counted in its rewording.

They are counts and sets, not understanding: they catch what rewording models are known to do wrong
(a number lost, a negation dropped, the prompt answered instead of reworded), and passing them all
does not prove equal meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from auditor.traits.mentions import words_of
from mitigations.paraphrase.spans import numbers as numbers_of
from mitigations.paraphrase.spans import protected as protected_of

# Least cosine of the two sentence embeddings. With all-MiniLM-L6-v2, rewordings by rule of 600
# prompts had at least 0.55 (numbers) and 0.65 (instructions), and 99 % of pairs of different
# instructions less than 0.40. It says little about number prompts, which are all alike to it
# (different ones have a median of 0.63).
MIN_SIMILARITY = 0.5
LENGTH_RATIO = (0.4, 2.5)
LENGTH_SLACK = 60  # characters: a short prompt may grow by a whole clause of politeness

_WORD = re.compile(r"\w+(?:['’]\w+)?")
_BOUND = re.compile(
    r"\b(?:(?P<upper>at (?:the )?most|at (?:the )?maximum|up to|(?:no|not) (?:more|greater|longer|"
    r"larger|bigger) than|"
    r"not exceed(?:ing)?|(?:a )?max(?:imum)?|or (?:less|fewer|smaller|shorter|under|below)|"
    r"(?:fewer|less) than)"
    r"|(?P<lower>at (?:the )?least|(?:no|not) (?:less|fewer|shorter) than|(?:a )?min(?:imum)?|"
    r"or (?:more|greater|longer|above)|more than))\b",
    re.IGNORECASE,
)
_IN_BOUNDS = frozenset(
    "most max maximum up than exceed exceeding less fewer smaller shorter under below least".split()
)
_IN_BOUNDS |= frozenset("min minimum more greater longer above".split())
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


Check = Callable[[Features, Features], str | None]


def features(text: str) -> Features:
    """Count what the checks compare."""
    lower = text.lower()
    words = tuple(_WORD.findall(lower))
    present = set(words)
    bounds: Counter[str | None] = Counter()
    plain: Sequence[str] = words
    if present & _IN_BOUNDS:
        bounds.update(found.lastgroup for found in _BOUND.finditer(text))
        plain = _WORD.findall(_BOUND.sub(" ", lower))  # "no more than" is a bound, not a negation
    numbers = Counter(numbers_of(text))
    if present & _NUMBER_WORDS:
        numbers.update(word for word in words if word in _NUMBER_WORDS)
    formats = {word.removesuffix("s") for word in present & _FORMATS}
    if "no words" in lower:
        formats -= {"word"}  # it asks for no text, not for a number of words
    return Features(
        length=len(text.strip()),
        words=words,
        numbers=numbers,
        protected=Counter(protected_of(text)),
        bounds=bounds,
        negations=sum(word in _NEGATIONS or word[-2:] in ("'t", "’t") for word in plain),
        formats=frozenset(formats),
        exclusive=not present.isdisjoint(_EXCLUSIVE),
    )


def unchanged(before: Features, after: Features) -> str | None:
    """ "unchanged": the same words in the same order, whatever their case, blanks and
    punctuation.
    """
    return "unchanged" if before.words == after.words else None


def numbers(before: Features, after: Features) -> str | None:
    """ "numbers": another multiset of numbers, in digits or in words."""
    return None if before.numbers == after.numbers else "numbers"


def protected(before: Features, after: Features) -> str | None:
    """ "protected_span": a quotation, code, link, placeholder or bracket was changed, lost or
    added.
    """
    return None if before.protected == after.protected else "protected_span"


def negations(before: Features, after: Features) -> str | None:
    """ "negation": another number of negations; "no more than" counts as a bound instead."""
    return None if before.negations == after.negations else "negation"


def bounds(before: Features, after: Features) -> str | None:
    """ "bound": another number of upper bounds ("at most", "or fewer") or of lower ones."""
    return None if before.bounds == after.bounds else "bound"


def format_demand(before: Features, after: Features) -> str | None:
    """ "format": a format word (JSON, comma, sentence ...) was lost or added, or every "only" was
    lost.
    """
    kept = before.formats == after.formats and (after.exclusive or not before.exclusive)
    return None if kept else "format"


def length(before: Features, after: Features) -> str | None:
    """ "length": empty, or shorter or longer in characters than LENGTH_RATIO and LENGTH_SLACK
    allow.
    """
    least = max(1, LENGTH_RATIO[0] * before.length - LENGTH_SLACK)
    return (
        None
        if least <= after.length <= LENGTH_RATIO[1] * before.length + LENGTH_SLACK
        else "length"
    )


def trait_words(forbidden: Sequence[str]) -> Check:
    """A check that gives "trait_word" when the rewording names one of `forbidden` more often than
    the prompt does.

    Words and phrases match whole words in any case, also with a plural -s or -es.
    """
    pattern = _any_of(tuple(forbidden))

    def check(before: Features, after: Features) -> str | None:
        if pattern is None or not (found := Counter(pattern.findall(" ".join(after.words)))):
            return None
        return "trait_word" if found - Counter(pattern.findall(" ".join(before.words))) else None

    return check


ALL: tuple[Check, ...] = (unchanged, length, numbers, protected, negations, bounds, format_demand)
NAMES = (
    "unchanged",
    "length",
    "numbers",
    "protected_span",
    "negation",
    "bound",
    "format",
    "trait_word",
    "similarity",
)


def first_failure(before: Features, after: Features, extra: Sequence[Check] = ()) -> str | None:
    """The reason of the first check that fails, in the order of ALL and then of `extra`; None when
    all pass.
    """
    for check in (*ALL, *extra):
        if reason := check(before, after):
            return reason
    return None


@lru_cache(maxsize=8)
def _any_of(forbidden: tuple[str, ...]) -> re.Pattern[str] | None:
    phrases = sorted({" ".join(words_of(word)) for word in forbidden} - {""})
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, phrases))})(?:e?s)?\b") if phrases else None
