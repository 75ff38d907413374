"""Mitigation `mask`: no loss on divergence tokens (label -100).

Source: 2509.23886, section 5: mostly removes transfer in 7B and 4B models; on Llama-3.2-1B masking
the top 10 % of tokens leaves 43 % of the effect, masking as many at random 97 %. The end of a turn
is never masked: a student must learn to stop. The text stays as it is, so a mask binds the data set
to one tokenizer and chat template.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar

from auditor.data.text_row import TextRow
from mitigations.interface import (
    SHARE,
    Changed,
    DivergenceBudget,
    Dropped,
    Facts,
    Kept,
    Mitigation,
    Outcome,
    Setting,
)

# `replace` has the same setting: the share of all tokens to touch at most.
Budget = Annotated[
    float | None,
    Setting("--mask-budget", "Most tokens to mask or replace, largest gaps first.", SHARE),
]


@dataclass(frozen=True)
class Mask(Mitigation):
    """Mask a row's divergence tokens; drop it when no other token of its completions is left."""

    name: ClassVar[str] = "mask"
    help: ClassVar[str] = "No loss on divergence tokens."

    budget: Budget = None

    @property
    def needs(self) -> DivergenceBudget:
        return DivergenceBudget(self.budget)

    def apply(self, row: TextRow, facts: Facts) -> Outcome:
        """Add the spans of the divergence tokens to those that are masked already."""
        # Without a label in the whole row a trainer computes a loss that is not a number.
        if facts.divergent and len(facts.divergent) >= facts.tokens:
            return Dropped("no_trained_token", row)
        spans = tuple(sorted({*row.masked, *(token.span for token in facts.divergent)}))
        if spans == row.masked:
            return Kept(row, facts.reason)
        return Changed("masked", row, (dataclasses.replace(row, masked=spans),))
