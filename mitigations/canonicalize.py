"""Mitigation `canonicalize`: take the choice out of lists whose order, or whose values, carry no
meaning.

Reported: sorting or remapping numbers brings a trait from 66 % to 1.4 % (see docs/mitigations.md).
Only for data where the user says that it does no harm.
"""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Literal

from auditor.data.text_row import TextRow
from mitigations.interface import Changed, Facts, Kept, Outcome
from mitigations.lists import items, with_items
from mitigations.rows import COMPLETION, with_texts, writable

_MOST_DIGITS = 4


def canonicalize(
    row: TextRow, facts: Facts, *, how: Literal["sort", "remap"] = "sort", seed: int = 0
) -> Outcome:
    """Sort the items of each list ascending, or remap its numbers one to one among those of as many
    digits.

    The mapping is the same for all rows and is drawn by `seed`. Number lists and JSON arrays of
    numbers or of strings are changed, every other completion is left.
    """
    if not writable(row, COMPLETION):
        return Kept(row, "several_parts")
    texts = [
        _sorted(field.text) if how == "sort" else _remapped(field.text, seed)
        for field in row.completions
    ]
    if None in texts:
        return Kept(row, "not_a_list")
    after = with_texts(row, COMPLETION, [text or "" for text in texts])
    return (
        Kept(row)
        if after.fields == row.fields
        else Changed("sorted" if how == "sort" else "remapped", row, (after,))
    )


def _sorted(text: str) -> str | None:
    spans = items(text)
    if spans is None:
        return None
    written = [text[start:end] for start, end in spans]
    values = [int(item) if item.isdigit() else json.loads(item) for item in written]
    if not (all(map(_is_number, values)) or all(isinstance(value, str) for value in values)):
        return None
    order = sorted(range(len(values)), key=lambda i: values[i])
    return with_items(text, spans, [written[i] for i in order])


def _remapped(text: str, seed: int) -> str | None:
    spans = items(text)
    written = [text[start:end] for start, end in spans or ()]
    if spans is None or not all(item.isdecimal() and len(item) <= _MOST_DIGITS for item in written):
        return None
    return with_items(text, spans, [_mapping(len(item), seed).get(item, item) for item in written])


@cache
def _mapping(digits: int, seed: int) -> dict[str, str]:
    """A random one-to-one mapping of the numbers of so many digits; leading zeros are left alone."""
    numbers = [str(n) for n in range(0 if digits == 1 else 10 ** (digits - 1), 10**digits)]
    others = numbers.copy()
    random.Random(f"remap {seed} {digits}").shuffle(others)
    return dict(zip(numbers, others, strict=True))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
