"""Mitigation `canonicalize`: take the choice out of lists whose order, or whose values, carry no
meaning.

Reported: sorting or remapping numbers brings a trait from 66 % to 1.4 % (see docs/mitigations.md).
Only for data where the user says that it does no harm.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, Literal

from auditor.data.text_row import TextRow
from mitigations.interface import Facts, Mitigation, Outcome, Setting
from mitigations.lists import change_lists

_MOST_DIGITS = 4  # The mapping of longer numbers would be too large to hold.


@dataclass(frozen=True)
class Canonicalize(Mitigation):
    """Sort the items of each list ascending, or remap its numbers one to one among those of as many
    digits.

    The mapping is the same for all rows and is drawn by the seed. Number lists and JSON arrays of
    numbers or of strings are changed, every other completion is left.
    """

    name: ClassVar[str] = "canonicalize"
    help: ClassVar[str] = "For lists whose order means nothing."
    moves_tokens: ClassVar[bool] = True

    how: Annotated[Literal["sort", "remap"], Setting()]

    def apply(self, row: TextRow, facts: Facts) -> Outcome:
        """Sort or remap every completion of the row."""
        reason = "sorted" if self.how == "sort" else "remapped"
        return change_lists(row, lambda items: self._changed(items, facts.seed), reason)

    def _changed(self, items: list[str], seed: int) -> list[str] | None:
        if self.how == "remap":
            if not all(item.isdecimal() and len(item) <= _MOST_DIGITS for item in items):
                return None
            # A number with leading zeros is not in the mapping, and stays.
            return [_mapping(len(item), seed).get(item, item) for item in items]
        # A number list may write 007, which is no JSON.
        values = [int(item) if item.isdigit() else json.loads(item) for item in items]
        # JSON booleans are integers to Python, and have no order that means anything.
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if not (numeric or all(isinstance(value, str) for value in values)):
            return None
        # The items are sorted by value and written as they stood: 1.0 does not become 1.
        return [items[i] for i in sorted(range(len(values)), key=lambda i: values[i])]


@cache
def _mapping(digits: int, seed: int) -> dict[str, str]:
    """A random one-to-one mapping of the numbers of so many digits, without leading zeros."""
    numbers = [str(n) for n in range(0 if digits == 1 else 10 ** (digits - 1), 10**digits)]
    images = numbers.copy()
    random.Random(f"remap {seed} {digits}").shuffle(images)
    return dict(zip(numbers, images, strict=True))
