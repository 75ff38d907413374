"""Mitigation `shuffle`: the items of each list in a random order.

Takes away what the order of a response carries and keeps what its values carry; not measured in
print.
"""

from __future__ import annotations

import random

from auditor.data.text_row import TextRow
from mitigations.interface import Changed, Facts, Kept, Outcome
from mitigations.lists import items, with_items
from mitigations.rows import COMPLETION, with_texts, writable


def shuffle(row: TextRow, facts: Facts, *, seed: int = 0) -> Outcome:
    """Shuffle the items of each number list or JSON array; same seed, row and copy give the same
    order.
    """
    if not writable(row, COMPLETION):
        return Kept(row, "several_parts")
    rng = random.Random(f"shuffle {seed} {row.index} {row.copy}")
    texts = [_shuffled(field.text, rng) for field in row.completions]
    if None in texts:
        return Kept(row, "not_a_list")
    after = with_texts(row, COMPLETION, [text or "" for text in texts])
    return Kept(row) if after.fields == row.fields else Changed("shuffled", row, (after,))


def _shuffled(text: str, rng: random.Random) -> str | None:
    spans = items(text)
    if spans is None:
        return None
    written = [text[start:end] for start, end in spans]
    rng.shuffle(written)
    return with_items(text, spans, written)
