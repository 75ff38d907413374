"""Mitigation `mix`: a share of the rows gets completions of a clean teacher.

Source: 2509.23886, section 6: at a fixed total, 10 % of rows from an unbiased teacher weaken
transfer, 25 % nearly remove it (7B models). Whether the share or the number of rows matters is not
known.
"""

from __future__ import annotations

from auditor.data.text_row import TextRow
from mitigations.interface import Changed, Facts, Kept, Outcome
from mitigations.rows import COMPLETION, with_texts, writable


def mix(row: TextRow, facts: Facts, *, add: bool = False) -> Outcome:
    """Give a chosen row the clean completions `facts.texts[0]`; `add` keeps it and adds the clean
    one after it.
    """
    if not facts.chosen:
        return Kept(row)
    if not writable(row, COMPLETION):
        return Kept(row, "several_parts")
    if not facts.texts:
        return Kept(row, facts.reason or "no_clean_completion")
    clean = with_texts(row, COMPLETION, facts.texts[0])
    return (
        Changed("clean_row_added", row, (row, clean))
        if add
        else Changed("clean_completion", row, (clean,))
    )
