"""Mitigation `shuffle`: the items of each list in a random order.

Takes away what the order of a response carries and keeps what its values carry; not measured in
print.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from auditor.data.text_row import TextRow
from mitigations.interface import Facts, Mitigation, Outcome
from mitigations.lists import change_lists


@dataclass(frozen=True)
class Shuffle(Mitigation):
    """Shuffle the items of each number list or JSON array."""

    name: ClassVar[str] = "shuffle"
    help: ClassVar[str] = "Shuffle the items of lists."
    moves_tokens: ClassVar[bool] = True

    def apply(self, row: TextRow, facts: Facts) -> Outcome:
        """Shuffle; the same seed, row and copy give the same order."""
        rng = random.Random(f"shuffle {facts.seed} {row.index} {row.copy}")

        def shuffled(items: list[str]) -> list[str]:
            rng.shuffle(items)
            return items

        return change_lists(row, shuffled, "shuffled")
