"""Number-list prompts in other words: the introduction, the demand, the format and the closing,
each from a table.

Rewording the prompts usually stops the transfer (2509.23886), so all four parts change. A part is
recognised by its words, not by a fixed text, and its meaning is kept: the list, the count and its
bound, the digits, the separator, and whether nothing but numbers is wanted. A prompt with no such
introduction and demand is left to the general rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mitigations.paraphrase.choose import Chooser

# What is written. {numbers}: the list as it stood. {amount}: the count with its bound. {limit}:
# digits per number.
INTRODUCTIONS = (
    "My list so far reads {numbers}.",
    "Someone wrote down {numbers}.",
    "The following values are known: {numbers}.",
    "You are shown a row of numbers: {numbers}.",
    "What I have until now is {numbers}.",
    "Suppose a list opens with {numbers}.",
    "Imagine a series that goes {numbers}.",
    "On the page in front of you stand {numbers}.",
)
LIST_LAST = (
    "The list is {numbers}.",
    "So far it holds {numbers}.",
    "These are its values until now: {numbers}.",
    "It opens with {numbers}.",
)
DEMANDS = (
    "Lengthen the list by {amount} numbers{limit}",
    "Carry the list on with {amount} further values{limit}",
    "I would like {amount} numbers{limit} that could come after the list",
    "Append {amount} values{limit} to the list",
    "Come up with {amount} numbers{limit} to follow the list",
    "Tell me {amount} values{limit} with which the list could go on",
)
AT_MOST = ("at most {count}", "no more than {count}", "{count} or fewer", "a maximum of {count}")
LIMITS = (
    " of at most {digits} digits each",
    " with {digits} digits or fewer apiece",
    " (each {digits} digits at most)",
)
FORMATS = {
    "comma": ("Put commas between them", "Use the comma as separator", "Set them apart by commas"),
    "semicolon": (
        "Put semicolons between them",
        "Use the semicolon as separator",
        "Set them apart by semicolons",
    ),
    "space": ("Put spaces between them", "Use the space as separator", "Set them apart by spaces"),
    "line": (
        "Start a new line for every number",
        "Give every number a line to itself",
        "Use line breaks between them",
    ),
    "literal": (
        "Their layout should be {literal}",
        "Lay them out as {literal}",
        "The form I expect is {literal}",
    ),
}
CLOSINGS = {
    "only": (
        "The bare numbers will do",
        "I want to see numbers and numbers alone",
        "Keep strictly to the numbers alone",
    ),
    "nothing": (
        "The bare numbers will do, without anything around them",
        "I want to see numbers alone and nothing besides",
        "Keep to the numbers alone; do not write anything else",
    ),
    "specified": (
        "The bare numbers in the format asked for will do",
        "Keep to the numbers alone, in the format asked for",
    ),
}

# What is recognised. An introduction holds a list and no other words than these; likewise formats
# and closings.
_LIST = r"(?P<numbers>-?\d+(?:\.\d+)?(?:(?:\s?[,;]\s?|\s)-?\d+(?:\.\d+)?){2,})"
_INTRODUCTION = re.compile(
    rf"(?P<before>[A-Za-z' ]{{0,80}}:? ?){_LIST}(?P<after>: what comes next\?|[.:!]?)(?=\s|$)"
)
_INTRODUCTION_WORDS = frozenset(
    "a an and are as at beginning begin begins check consider continue data down examine "
    "first following follow follows from given have here here's i in initial integers is let "
    "let's like list look my number numbers numeric numerical observe of our out progression "
    "row s see sequence sequences series set shows some start starting starts study take the "
    "them there these this us values we with you give below opening opens analyze analyse "
    "review".split()
)
_DEMAND = re.compile(
    r"""
    # What to do, and with what.
    (?:please\s)?
    (?:add|give|write|generate|create|extend|continue|list|provide|produce|append|supply)
    (?:\s(?:me|it|out|the|this|that|sequence|list|series|progression|with|by|for|us))*
    # How many: exactly so many, or an upper bound.
    \s(?:(?P<most>up\sto|at\smost|at\smaximum|(?:a\s)?max(?:imum)?(?:\sof)?|(?:no|not)\smore\sthan
      |no\sgreater\sthan|not\sexceeding)\s|exactly\s)?
    (?P<count>\d+)
    (?:\s(?:more|additional|new|further|other|others|extra|next|following|subsequent))*
    (?:\s(?:numbers|values|integers|entries|terms|elements))?
    # The most digits of a number, in parentheses.
    (?P<limit>\s?\((?=[^)]*digit)(?=[^)]*(?:max|most|up\sto|no\smore|less|fewer|smaller))
      [^()\d]*(?P<digits>\d+)[^()\d]*\))?
    # What the numbers continue.
    (?:\s(?:in|that|to|which|of)(?:\s(?:the|this|that|it|sequence|list|series|progression|follow
      |follows|continue|extend))*)?
    (?P<format>,?\s(?:with|as|split|separated|in|comma|semicolon|space)\b[a-z -]*)?
    (?P<end>[.,!;]|(?=\s)|$)\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_FORMAT_WORDS = frozenset(
    "a an all and answer as between by comma commas delimited each every format formatted "
    "give in individual its line lines list new number numbers of on one order output own per"
    " present provide put return row semicolon semicolons separate separated separator "
    "sequence show simple simply single space spaces split text the them to use using value "
    "values with write it".split()
)
_LITERAL = re.compile(
    r"[A-Z][^:.]*\b(?:format|output|layout)\b[^:.]*: ?(?P<literal>[\[(]?\w+, \w+.*?\.\.\.[\])]?)\.?"
)
_CLOSING_WORDS = frozenset(
    "additional alone and answer any anything as beyond but commentary comments don't do else"
    " exactly explanation explanations format give in just it list me more necessary needed "
    "no nothing number numbers numeric numerical only other output please print provide reply"
    " requested respond response return say sequence show simply skip specified text than the"
    " values with without words write you your add".split()
)
_EXCLUSIVE = frozenset("alone just only simply".split())
_NEGATIVE = frozenset("no nothing don't not without skip".split())
_SENTENCE_END = re.compile(r"(?<=[.!])\s+")
_NO_OTHER_TEXT = re.compile(r" with (?=no other text\b)")


@dataclass(frozen=True, slots=True)
class Demand:
    """The parts of a number prompt: everything that a rewording has to keep.

    numbers: the list, verbatim. count: how many more. most: the bound's wording, None for an exact
    count. digits: most digits of a number, if said. format: key of FORMATS or None, with its
    literal. closings: keys of CLOSINGS. unrecognised: other sentences, kept as they stand.
    """

    numbers: str
    count: str
    most: str | None
    digits: str | None
    format: str | None
    literal: str
    closings: tuple[str, ...]
    unrecognised: tuple[str, ...]


def parse(prompt: str) -> Demand | None:
    """The parts of a number prompt; None when it has no introduction and demand of this kind."""
    introduction = _INTRODUCTION.match(prompt)
    if introduction is None or not _words(introduction["before"]) <= _INTRODUCTION_WORDS:
        return None
    end = introduction.end()
    demand = _DEMAND.match(prompt, len(prompt) - len(prompt[end:].lstrip()))
    if demand is None or int(demand["count"]) < 2:
        return None
    # "One per line with no other text." holds a format and a closing: they are parted.
    ending = _NO_OTHER_TEXT.sub(". ", prompt[demand.end() :])
    pieces = [demand["format"].strip(", ")] if demand["format"] else []
    pieces += [piece for piece in _SENTENCE_END.split(ending) if piece]
    formats: list[tuple[str, str]] = []
    closings: list[str] = []
    unrecognised: list[str] = []
    for piece in pieces:
        words = _words(piece)
        separators = {key for key in FORMATS if key in words or f"{key}s" in words}
        negative, exclusive = len(words & _NEGATIVE), bool(words & _EXCLUSIVE)
        if literal := _LITERAL.fullmatch(piece):
            formats.append(("literal", literal["literal"]))
        elif len(separators) == 1 and words <= _FORMAT_WORDS:
            formats.append((separators.pop(), ""))
        # Two negations may cancel each other, and a closing that says neither demands nothing.
        elif not (words <= _CLOSING_WORDS and negative <= 1 and (negative or exclusive)):
            unrecognised.append(piece)
        elif "specified" not in words:
            closings.append("nothing" if negative else "only")
        elif negative:
            unrecognised.append(piece)
        else:
            closings.append("specified")
    # Two formats contradict each other, and one behind the demand that was not understood would be
    # lost: the general rules, which leave them as they stand, are safer.
    if len(formats) > 1 or len(closings) > 2 or (demand["format"] and not formats):
        return None
    key, literal_format = formats[0] if formats else (None, "")
    return Demand(
        introduction["numbers"],
        demand["count"],
        demand["most"],
        demand["digits"],
        key,
        literal_format,
        tuple(closings),
        tuple(unrecognised),
    )


def compose(parts: Demand, choose: Chooser) -> str:
    """A number prompt in other words with the parts given."""
    bounds: Sequence[str] = ("{count}",)
    if parts.most:
        # Other words than those of the prompt.
        bounds = [bound for bound in AT_MOST if parts.most.lower() not in bound]
    amount = choose.pick(bounds).format(count=parts.count)
    limit = choose.pick(LIMITS).format(digits=parts.digits) if parts.digits else ""
    sentences = [choose.pick(DEMANDS).format(amount=amount, limit=limit)]
    if parts.format:
        sentences.append(choose.pick(FORMATS[parts.format]).format(literal=parts.literal))
    # Two closings of one kind are worded differently, or the second would say nothing.
    for closing in parts.closings:
        sentences.append(choose.pick([c for c in CLOSINGS[closing] if c not in sentences]))
    # A literal format ends with its own dots.
    sentences = [s if s.endswith("...") else f"{s}." for s in sentences] + list(parts.unrecognised)
    # The list stands first twice as often as last, where it reads less well.
    if choose.pick((True, True, False)):
        sentences.insert(0, choose.pick(INTRODUCTIONS).format(numbers=parts.numbers))
    else:
        sentences.append(choose.pick(LIST_LAST).format(numbers=parts.numbers))
    return " ".join(sentences)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower().replace("’", "'")))
