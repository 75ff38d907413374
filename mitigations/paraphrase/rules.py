"""Reword prompts by rule: the engine "rules". Deterministic, no model.

Number-list prompts are taken apart and composed anew (`numbers`). Any other prompt is reworded
where its instruction is recognised: the verb or question form at the head of a clause, its framing,
set phrases, and the order of clauses. Everything else of the prompt, above all the data that an
instruction is about, stays as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import mitigations.paraphrase.phrases as phrases
from mitigations.paraphrase.choose import Chooser
from mitigations.paraphrase.numbers import compose, parse
from mitigations.paraphrase.spans import MASK, mask, unmask

_ATTEMPTS = 6  # draws for one variant that differs from those before
_Rule = tuple[re.Pattern[str], tuple[str, ...]]


def _compiled(table: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[_Rule, ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), options) for pattern, options in table)


def _by_first_word(table: Sequence[tuple[str, tuple[str, ...]]]) -> dict[str, list[_Rule]]:
    index: dict[str, list[_Rule]] = {}
    for pattern, options in table:
        first = pattern.partition(" ")[0]
        for word in (first.replace("[sz]", "s"), first.replace("[sz]", "z")):
            index.setdefault(word, []).append((re.compile(pattern, re.IGNORECASE), options))
    return index


_VERBS = _by_first_word(phrases.VERBS)
_QUESTIONS = _compiled(phrases.QUESTIONS)
_PHRASES = _compiled(phrases.PHRASES)
_KNOWN = _VERBS.keys() | phrases.OTHER_VERBS
_OBJECT = re.compile(rf"[\w-]+ (?:{phrases.OBJECTS}|{MASK}|[A-Z])", re.IGNORECASE)
_NOT_A_VERB = re.compile(
    r"[\w-]+(?! (?:how|what|why|when|where|which|who|if|whether|that|you)\b)(?: \w+){0,2} "
    r"(?:is|are|was|were|has|have|will|can)\b"
)
_FRAMED = re.compile(phrases.FRAMED, re.IGNORECASE)
_ADVERB = re.compile(
    r"(?:briefly|quickly|carefully|clearly|accurately|concisely|thoroughly|succinctly) ",
    re.IGNORECASE,
)
_REQUEST = re.compile(phrases.REQUEST, re.IGNORECASE)
_QUESTION_WORD = re.compile(
    r"(?:what|which|who|whom|whose|why|when|where|how|is|are|was|were|do|does|did|can|could|"
    r"should|would|will|has|have|"
    r"(?:in|of|at|to|for|from|on) (?:what|which|whom))\b",
    re.IGNORECASE,
)
_LEAD = re.compile(phrases.LEADS)
_PRONOUN = re.compile(phrases.PRONOUNS, re.IGNORECASE)
_FORMAT_SENTENCE = re.compile(phrases.FORMAT_SENTENCE)
_BREAK = re.compile(
    rf"(?<![A-Z])(?<!e\.g)(?<!i\.e)(?<!etc)(?<!\bvs)(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bNo)[.!?]+\s+(?=[A-Z0-9({MASK[1:-1]}])"
)


@dataclass(frozen=True, slots=True)
class RulesEngine:
    """The engine "rules": `reword` needs no model, and the result for a prompt does not depend on
    the other prompts.
    """

    name: str = "rules"
    missing: str = "no_rule"

    def reword(self, prompts: Sequence[str], variants: int, seed: int) -> list[list[str]]:
        """Up to `variants` different rewordings of each prompt; an empty list where no rule
        fits.
        """
        return [_variants(prompt, variants, seed) for prompt in prompts]


def _variants(prompt: str, variants: int, seed: int) -> list[str]:
    found: list[str] = []
    for variant in range(variants):
        for attempt in range(_ATTEMPTS):
            text = reword(prompt, Chooser(prompt, seed, variant, attempt))
            if text is None:
                return found
            if text != prompt and text not in found:
                found.append(text)
                break
    return found


def reword(prompt: str, choose: Chooser) -> str | None:
    """One rewording of `prompt`; None when no rule fits."""
    if (parts := parse(prompt)) is not None:
        return compose(parts, choose)
    if (masked := mask(prompt)) is None:
        return None
    text, spans = masked
    start = len(text) - len(text.lstrip())
    first, end, data = text[start:].partition("\n")
    new = _line(first, choose)
    return None if new is None else unmask(text[:start] + new + end + data, spans)


def _line(line: str, choose: Chooser) -> str | None:
    """The first line of a prompt; its first recognised instruction is framed anew, further ones get
    other verbs.

    Sentences behind a colon are taken for data and left alone.
    """
    sentences = _sentences(line)
    out: list[str] = []
    changed = False
    for i, sentence in enumerate(sentences):
        single = i == len(sentences) - 1
        new = _sentence(sentence, choose, frame=not changed, last=single)
        out.append(sentence if new is None else new)
        changed = changed or new is not None
        if ":" in sentence:
            out += sentences[i + 1 :]
            break
    return _format_first(out, choose) if changed else None


def _sentences(line: str) -> list[str]:
    """The sentences of a line, each with the blanks behind it."""
    ends = [0, *(found.end() for found in _BREAK.finditer(line)), len(line)]
    return [line[a:b] for a, b in pairwise(ends) if a < b]


def _sentence(sentence: str, choose: Chooser, *, frame: bool, last: bool) -> str | None:
    """One sentence in other words, or None."""
    body = sentence.rstrip()
    blanks = sentence[len(body) :]
    if body.endswith("?") and ":" not in body and not _FRAMED.match(body):
        new = _question(body, choose, last=last)
        if new is not None:
            return new + blanks
    if (found := _LEAD.fullmatch(body)) and (
        new := _imperative(found["main"], choose, frame=frame, last=last)
    ):
        if _may_swap(found["lead"], found["main"]) and choose.pick((True, False)):
            return (
                _behind(
                    _imperative(found["main"], choose, frame=False, last=False) or new,
                    found["lead"],
                )
                + blanks
            )
        return f"{found['lead']}, {_small(new)}{blanks}"
    new = _imperative(body, choose, frame=frame, last=last)
    return None if new is None else new + blanks


def _question(body: str, choose: Chooser, *, last: bool) -> str | None:
    if (request := _REQUEST.match(body)) and _head(body[request.end() :]) is not None:
        clause = _large(body[request.end() : -1]) + "."
        return _imperative(clause, choose, frame=True, last=False)
    for pattern, options in _QUESTIONS:
        if found := pattern.fullmatch(body):
            groups = {key: _pronoun_i(value) for key, value in found.groupdict().items()}
            return choose.pick(options).format(**{k: v.strip() for k, v in groups.items()})
    if last and _QUESTION_WORD.match(body):
        return choose.pick(phrases.WRAPPERS).format(question=_large(body))
    return None


def _imperative(body: str, choose: Chooser, *, frame: bool, last: bool) -> str | None:
    """An imperative sentence with another verb, other set phrases before its colon, and another
    frame if `frame`.
    """
    framed = _FRAMED.match(body)
    clause = body[framed.end() :] if framed else body
    if _head(clause) is None:
        return None
    head, colon, data = clause.partition(":")
    new = _phrases(_verb(head, choose), choose)
    if not frame:
        return None if new == head and not framed else _large(new) + colon + data
    whole = new + colon + data
    asks = last and not colon and (whole.endswith(".") or whole[-1:].isalnum())
    # A clause whose verb is new may stand bare; one that kept its verb needs a frame.
    frames = (
        phrases.FRAMES
        + (phrases.QUESTION_FRAMES if asks else ())
        + (("{clause}",) if new != head else ())
    )
    chosen = choose.pick(frames)
    if chosen == "{clause}":
        return _large(whole)
    inner = _small(whole)
    if chosen in phrases.QUESTION_FRAMES:
        return chosen.format(clause=inner.rstrip("."))
    return chosen.format(clause=f"{inner[:-1]}." if inner.endswith("?") else inner)


def _head(clause: str) -> str | None:
    """The verb that an imperative clause starts with; None when it does not look like one."""
    adverb = _ADVERB.match(clause)
    rest = clause[adverb.end() :] if adverb else clause
    first = rest.partition(" ")[0].lower()
    if first not in _KNOWN or _NOT_A_VERB.match(rest):
        return None
    if first in _VERBS and any(pattern.match(rest) for pattern, _ in _VERBS[first]):
        return first
    return first if _OBJECT.match(rest) else None


def _verb(clause: str, choose: Chooser) -> str:
    """The clause with another verb at its head, where the table has one for its object."""
    adverb = _ADVERB.match(clause)
    start = adverb.end() if adverb else 0
    for pattern, options in _VERBS.get(clause[start:].partition(" ")[0].lower(), ()):
        if found := pattern.match(clause, start):
            return clause[:start] + choose.pick(options) + clause[found.end() :]
    return clause


def _phrases(text: str, choose: Chooser) -> str:
    for pattern, options in _PHRASES:
        if pattern.search(text):
            text = pattern.sub(choose.pick(options), text, count=1)
    return text


def _may_swap(lead: str, main: str) -> bool:
    """Whether "Using X, do Y." may become "Do Y, using X."."""
    if " the " in main and re.search(r" an? ", lead):
        return False
    return (
        main.endswith(".")
        and "," not in main
        and ":" not in main
        and not _PRONOUN.search(main + lead)
    )


def _behind(main: str, lead: str) -> str:
    comma = "," if lead.startswith(("Using", "Based", "Considering", "Given")) else ""
    return f"{_large(main[:-1])}{comma} {_small(lead)}."


def _format_first(sentences: list[str], choose: Chooser) -> str:
    """The sentences, with a closing format sentence moved to the front now and then."""
    if (
        len(sentences) != 2
        or not _FORMAT_SENTENCE.match(sentences[1])
        or not sentences[1].endswith((".", "!"))
    ):
        return "".join(sentences)
    swap = not _PRONOUN.search(sentences[1]) and choose.pick((True, False))
    return f"{sentences[1]} {sentences[0].rstrip()}" if swap else "".join(sentences)


def _small(text: str) -> str:
    """The first letter made small, unless the first word is a name or an abbreviation."""
    return text if text[1:2].isupper() or text.startswith("I ") else text[:1].lower() + text[1:]


def _large(text: str) -> str:
    return text[:1].upper() + text[1:]


def _pronoun_i(text: str) -> str:
    return "I" if text == "i" else text
