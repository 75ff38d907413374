"""A detector and a mitigation as another package may offer them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from auditor.data.text_row import TextRow
from auditor.model.scoring import TokenScores
from detectors.interface import Evidence, Skipped
from mitigations.interface import Changed, Facts, Kept, Outcome

MIN_ROWS = 20


def surprise(*, scores: Sequence[TokenScores], **_: Any) -> Evidence | Skipped:
    """How unlikely the completions are under the reference: nats a token, the mean over rows with
    its 95 % interval.
    """
    means = [float(-each.logprob.mean()) for each in scores if each.logprob.size]
    if len(means) < MIN_ROWS:
        return Skipped(f"{len(means)} rows; surprise needs at least {MIN_ROWS}")
    mean, half = fmean(means), 1.96 * stdev(means) / len(means) ** 0.5
    summary = f"{mean:.2f} nats a token [{mean - half:.2f}, {mean + half:.2f}] under the reference"
    return Evidence(
        "surprise",
        summary,
        {"nats": mean, "interval": [mean - half, mean + half], "rows": len(means)},
    )


def squeeze(row: TextRow, facts: Facts, *, seed: int = 0) -> Outcome:
    """Write runs of spaces in completions as one space: they could carry a trait, and mean
    nothing.
    """
    fields = tuple(
        dataclasses.replace(field, text=re.sub(" {2,}", " ", field.text))
        if field in row.completions
        else field
        for field in row.fields
    )
    if fields == row.fields:
        return Kept(row)
    if row.masked or not all(field.path for field in row.completions):
        return Kept(row, "cannot_be_written")
    return Changed("squeezed", row, (dataclasses.replace(row, fields=fields),))
