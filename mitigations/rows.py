"""Rows with new texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from auditor.data.text_row import TextRow

PROMPT = ("user",)
COMPLETION = ("assistant", "text")


def with_texts(row: TextRow, roles: Sequence[str], texts: Sequence[str]) -> TextRow:
    """`row` with new texts, one for each of its fields of these roles, in order; new completions
    are not masked.
    """
    new = iter(texts)
    fields = [dataclasses.replace(f, text=next(new)) if f.role in roles else f for f in row.fields]
    # Spans are characters of the completions as they were.
    masked = row.masked if roles == PROMPT else ()
    return TextRow(row.index, tuple(fields), row.copy, masked)


def writable(row: TextRow, roles: Sequence[str]) -> bool:
    """Whether every text of these roles stands in one place of the data set and is all of its
    turn: to another completion the reasoning and the tool calls of the old one do not belong.
    """
    return all(field.path and field.turn is None for field in row.fields if field.role in roles)
