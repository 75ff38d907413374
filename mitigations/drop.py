"""Mitigation `drop`: leave out the rows with the most divergence tokens.

Weak: dropping the worst 10 % of rows by an oracle recovers 6.8 % of the effect
(docs/mitigations.md). Offered for completeness, and as the arm that the others must beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from auditor.data.text_row import TextRow
from mitigations.interface import (
    SHARE,
    Dropped,
    Facts,
    Kept,
    Mitigation,
    MostDivergentRows,
    Outcome,
    Setting,
)


@dataclass(frozen=True)
class Drop(Mitigation):
    """Drop the share of rows with the most divergence tokens, never a row without one."""

    name: ClassVar[str] = "drop"
    help: ClassVar[str] = "Drop the rows with most divergence tokens."

    share: Annotated[float, Setting(metavar=SHARE)]

    @property
    def needs(self) -> MostDivergentRows:
        return MostDivergentRows(self.share)

    def apply(self, row: TextRow, facts: Facts) -> Outcome:
        """Drop a selected row."""
        return Dropped("most_divergence_tokens", row) if facts.selected else Kept(row, facts.reason)
