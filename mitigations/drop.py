"""Mitigation `drop`: leave out the rows with the most divergence tokens.

Weak: dropping the worst 10 % of rows by an oracle recovers 6.8 % of the effect
(docs/mitigations.md). Offered for completeness, and as the arm that the others must beat.
"""

from __future__ import annotations

from auditor.data.text_row import TextRow
from mitigations.interface import Dropped, Facts, Kept, Outcome


def drop(row: TextRow, facts: Facts) -> Outcome:
    """Drop a chosen row."""
    return Dropped("most_divergence_tokens", row) if facts.chosen else Kept(row, facts.reason)
