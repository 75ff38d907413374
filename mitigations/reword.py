"""Mitigation `paraphrase`: other words for the prompts, completions untouched.

Source: 2509.23886, section 6: usually suppresses transfer. The rewording itself is in
`mitigations.paraphrase`; here it is put into the row. A paraphraser that writes completions would
bring its own traits along (2603.09517).
"""

from __future__ import annotations

from auditor.data.text_row import TextRow
from mitigations.interface import Changed, Facts, Kept, Outcome
from mitigations.rows import PROMPT, with_texts, writable


def reword(row: TextRow, facts: Facts) -> Outcome:
    """Replace the texts of all user turns by each of `facts.texts`; more than one makes further
    rows.
    """
    if not any(field.role in PROMPT for field in row.fields):
        return Kept(row, "no_prompt")
    if not writable(row, PROMPT):
        return Kept(row, "several_parts")
    if not facts.texts:
        return Kept(row, facts.reason or "no_rewording")
    return Changed("reworded", row, tuple(with_texts(row, PROMPT, texts) for texts in facts.texts))
