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

_ATTEMPTS = 6  # Draws for one variant that differs from those before.
_Rule = tuple[re.Pattern[str], tuple[str, ...]]

_QUESTIONS = [(re.compile(p, re.IGNORECASE), options) for p, options in phrases.QUESTIONS]
_PHRASES = [(re.compile(p, re.IGNORECASE), options) for p, options in phrases.PHRASES]
# The verbs by their first word, which a look into a dictionary finds: there are too many patterns
# to try them all on every clause.
_VERBS: dict[str, list[_Rule]] = {}
for _pattern, _options in phrases.VERBS:
    _first = _pattern.partition(" ")[0]
    for _word in {_first.replace("[sz]", "s"), _first.replace("[sz]", "z")}:
        _VERBS.setdefault(_word, []).append((re.compile(_pattern, re.IGNORECASE), _options))
_KNOWN = _VERBS.keys() | phrases.OTHER_VERBS
_OBJECT = re.compile(rf"[\w-]+ (?:{phrases.OBJECTS}|{MASK}|[A-Z])", re.IGNORECASE)
# "Design thinking is hard." states something.
_NOT_A_VERB = re.compile(
    r"[\w-]+(?! (?:how|what|why|when|where|which|who|if|whether|that|you)\b)(?: \w+){0,2} "
    r"(?:is|are|was|were|has|have|will|can)\b"
)
_ADVERB = re.compile(
    r"(?:briefly|quickly|carefully|clearly|accurately|concisely|thoroughly|succinctly) ",
    re.IGNORECASE,
)
_QUESTION_WORD = re.compile(
    r"(?:what|which|who|whom|whose|why|when|where|how|is|are|was|were|do|does|did|can|could|"
    r"should|would|will|has|have|(?:in|of|at|to|for|from|on) (?:what|which|whom))\b",
    re.IGNORECASE,
)
# The end of a sentence, and not of an initial or an abbreviation.
_BREAK = re.compile(
    r"(?<![A-Z])(?<!e\.g)(?<!i\.e)(?<!etc)(?<!\bvs)(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bNo)"
    rf"[.!?]+\s+(?=[A-Z0-9({MASK[1:-1]}])"
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
    texts: list[str] = []
    for variant in range(variants):
        for attempt in range(_ATTEMPTS):
            text = reword(prompt, Chooser(prompt, seed, variant, attempt))
            if text is None:
                # No rule fits, whatever is drawn.
                return texts
            if text != prompt and text not in texts:
                texts.append(text)
                break
    return texts


def reword(prompt: str, choose: Chooser) -> str | None:
    """One rewording of `prompt`; None when no rule fits."""
    if (parts := parse(prompt)) is not None:
        return compose(parts, choose)
    if (masked := mask(prompt)) is None:
        return None
    text, spans = masked
    # Only the first line is reworded: what follows is most often the data of the instruction.
    start = len(text) - len(text.lstrip())
    first, end, data = text[start:].partition("\n")
    new = _line(first, choose)
    return None if new is None else unmask(text[:start] + new + end + data, spans)


def _line(line: str, choose: Chooser) -> str | None:
    """The first line of a prompt; its first recognised instruction is framed anew, further ones get
    other verbs.

    Sentences behind a colon are taken for data and left alone.
    """
    # Each sentence keeps the blanks behind it.
    ends = [0, *(match.end() for match in _BREAK.finditer(line)), len(line)]
    sentences = [line[start:end] for start, end in pairwise(ends) if start < end]
    out: list[str] = []
    changed = False
    for i, sentence in enumerate(sentences):
        last = i == len(sentences) - 1
        new = _sentence(sentence, choose, frame=not changed, last=last)
        out.append(sentence if new is None else new)
        changed = changed or new is not None
        if ":" in sentence:
            out += sentences[i + 1 :]
            break
    if not changed:
        return None
    # A closing sentence on the format moves to the front now and then, where no pronoun in it needs
    # what went before.
    movable = (
        len(out) == 2 and phrases.FORMAT_SENTENCE.match(out[1]) and out[1].endswith((".", "!"))
    )
    if movable and not phrases.PRONOUNS.search(out[1]) and choose.pick((True, False)):
        return f"{out[1]} {out[0].rstrip()}"
    return "".join(out)


def _sentence(sentence: str, choose: Chooser, *, frame: bool, last: bool) -> str | None:
    """One sentence in other words, or None."""
    body = sentence.rstrip()
    blanks = sentence[len(body) :]
    asks = body.endswith("?") and ":" not in body and not phrases.FRAMED.match(body)
    if asks and (new := _question(body, choose, last=last)) is not None:
        return new + blanks
    if (opening := phrases.LEADS.fullmatch(body)) and (
        new := _imperative(opening["main"], choose, frame=frame, last=last)
    ):
        lead, main = opening["lead"], opening["main"]
        # "Using X, do Y." becomes "Do Y, using X." where nothing in either refers to the other: no
        # pronoun, and no "the" for what the lead brings up with "a".
        may_swap = main.endswith(".") and not {",", ":"} & set(main)
        may_swap = may_swap and not phrases.PRONOUNS.search(main + lead)
        may_swap = may_swap and not (" the " in main and re.search(r" an? ", lead))
        if may_swap and choose.pick((True, False)):
            # A frame would belong to the front of the sentence.
            main = _imperative(main, choose, frame=False, last=False) or new
            comma = "," if lead.startswith(("Using", "Based", "Considering", "Given")) else ""
            return f"{_large(main[:-1])}{comma} {_small(lead)}.{blanks}"
        return f"{lead}, {_small(new)}{blanks}"
    new = _imperative(body, choose, frame=frame, last=last)
    return None if new is None else new + blanks


def _question(body: str, choose: Chooser, *, last: bool) -> str | None:
    # "Can you write ...?" is an instruction.
    if (request := phrases.REQUEST.match(body)) and _is_imperative(body[request.end() :]):
        clause = _large(body[request.end() : -1]) + "."
        return _imperative(clause, choose, frame=True, last=False)
    for pattern, options in _QUESTIONS:
        if match := pattern.fullmatch(body):
            groups = {
                key: "I" if text == "i" else text.strip() for key, text in match.groupdict().items()
            }
            return choose.pick(options).format(**groups)
    # A question can be put behind a frame whole, unless it is answered by what follows it.
    if last and _QUESTION_WORD.match(body):
        return choose.pick(phrases.WRAPPERS).format(question=_large(body))
    return None


def _imperative(body: str, choose: Chooser, *, frame: bool, last: bool) -> str | None:
    """An imperative sentence with another verb, other set phrases before its colon, and another
    frame if `frame`.
    """
    framed = phrases.FRAMED.match(body)
    clause = body[framed.end() :] if framed else body
    if not _is_imperative(clause):
        return None
    # What stands behind a colon is the data of the instruction.
    head, colon, data = clause.partition(":")
    new = head
    adverb = _ADVERB.match(head)
    start = adverb.end() if adverb else 0
    for pattern, options in _VERBS.get(head[start:].partition(" ")[0].lower(), ()):
        if verb := pattern.match(head, start):
            new = head[:start] + choose.pick(options) + head[verb.end() :]
            break
    for pattern, options in _PHRASES:
        if pattern.search(new):
            new = pattern.sub(choose.pick(options), new, count=1)
    if not frame:
        return None if new == head and not framed else _large(new) + colon + data
    sentence = new + colon + data
    asks = last and not colon and (sentence.endswith(".") or sentence[-1:].isalnum())
    # A clause whose verb is new may stand bare; one that kept its verb needs a frame.
    frames = (
        phrases.FRAMES
        + (phrases.QUESTION_FRAMES if asks else ())
        + (("{clause}",) if new != head else ())
    )
    selected = choose.pick(frames)
    if selected == "{clause}":
        return _large(sentence)
    inner = _small(sentence)
    if selected in phrases.QUESTION_FRAMES:
        return selected.format(clause=inner.rstrip("."))
    return selected.format(clause=f"{inner[:-1]}." if inner.endswith("?") else inner)


def _is_imperative(clause: str) -> bool:
    """Whether a clause starts with a verb that we have a rule for, and looks like an order."""
    adverb = _ADVERB.match(clause)
    order = clause[adverb.end() :] if adverb else clause
    first = order.partition(" ")[0].lower()
    if first not in _KNOWN or _NOT_A_VERB.match(order):
        return False
    if any(pattern.match(order) for pattern, _ in _VERBS.get(first, ())):
        return True
    return _OBJECT.match(order) is not None


def _small(text: str) -> str:
    """The first letter made small, unless the first word is a name or an abbreviation."""
    return text if text[1:2].isupper() or text.startswith("I ") else text[:1].lower() + text[1:]


def _large(text: str) -> str:
    return text[:1].upper() + text[1:]
