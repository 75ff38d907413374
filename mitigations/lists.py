"""Completions that are lists: where their items stand, and whether a text keeps the form of
another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from auditor.data.text_row import TextRow
from auditor.traits.prompts import is_number_list
from mitigations.interface import Changed, Kept, Outcome
from mitigations.rows import COMPLETION, with_texts, writable

_NUMBER = re.compile(r"\d+")
# The white space of JSON, which is less than what `\s` matches.
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def items(text: str) -> list[tuple[int, int]] | None:
    """[start, end) of each item of a number list (2509.23886) or of a JSON array; None for any
    other text.
    """
    if is_number_list(text, most=len(text)):
        return [match.span() for match in _NUMBER.finditer(text)]
    if not isinstance(parsed(text), list):
        return None
    spans = []
    # The whole text is valid JSON, so the scan below meets only items, commas and the last bracket.
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        end = _DECODER.raw_decode(text, at)[1]
        spans.append((at, end))
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return spans


def with_items(text: str, spans: list[tuple[int, int]], new: list[str]) -> str:
    """`text` with the items at `spans` replaced, everything between them untouched."""
    parts, last = [], 0
    for (start, end), item in zip(spans, new, strict=True):
        parts += [text[last:start], item]
        last = end
    return "".join([*parts, text[last:]])


def change_lists(
    row: TextRow, change: Callable[[list[str]], list[str] | None], reason: str
) -> Outcome:
    """The row with `change` done to the items of each of its completions, and the reason that
    reports count by.

    It is kept as it is unless all completions are lists for which `change` gives new items; None
    says that it does not change items of this kind.
    """
    if not writable(row, COMPLETION):
        return Kept(row, "several_parts")
    texts = []
    for field in row.completions:
        spans = items(field.text)
        new = None if spans is None else change([field.text[start:end] for start, end in spans])
        if spans is None or new is None:
            return Kept(row, "not_a_list")
        texts.append(with_items(field.text, spans, new))
    after = with_texts(row, COMPLETION, texts)
    return Kept(row) if after.fields == row.fields else Changed(reason, row, (after,))


def parsed(text: str) -> object:
    """The value of a JSON object or array; None for any other text."""
    # Numbers and strings alone are valid JSON, too, and any prose may happen to be one of them.
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def keeps_form(original: str, new: str) -> bool:
    """Whether `new` is a number list or a JSON object or array if `original` is one; else, whether
    it is not blank.
    """
    # Number lists first: "1, 2" is no JSON, and "[1, 2]" is both.
    if is_number_list(original):
        return is_number_list(new)
    value = parsed(original)
    return bool(new.strip()) if value is None else type(parsed(new)) is type(value)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
