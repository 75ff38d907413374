"""Mitigation `mask`: no loss on divergence tokens (label -100).

Source: 2509.23886, section 5: mostly removes transfer in 7B and 4B models; on Llama-3.2-1B masking
the top 10 % of tokens leaves 43 % of the effect, masking as many at random 97 %. The end of a turn
is never masked: a student must learn to stop. The text stays as it is, so a mask binds the data set
to one tokenizer and chat template.
"""

from __future__ import annotations

import dataclasses

from auditor.data.text_row import TextRow
from mitigations.interface import Changed, Dropped, Facts, Kept, Outcome


def mask(row: TextRow, facts: Facts) -> Outcome:
    """Mask the row's divergence tokens; drop it when no other token of its completions is left."""
    spans = sorted({*row.masked, *(token.span for token in facts.divergent)})
    if len(facts.divergent) and len(facts.divergent) >= facts.tokens:
        return Dropped("no_trained_token", row)
    if tuple(spans) == row.masked:
        return Kept(row, facts.reason)
    return Changed("masked", row, (dataclasses.replace(row, masked=tuple(spans)),))
