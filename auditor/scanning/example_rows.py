"""The rows that a report shows, with their divergence tokens."""

from __future__ import annotations

import numpy as np

from auditor.scanning.scan_report import ExampleRow, TokenChoice, TokenSpan
from detectors.context import ScanContext
from detectors.divergence import Divergence

SHOWN_TOKENS = 10_000  # of the rows kept for reports, which would grow with long rows


def example_rows(audit: ScanContext, found: Divergence) -> tuple[ExampleRow, ...]:
    """The rows to show to a reader, those with the most divergence tokens first; at least one."""
    order = sorted(
        range(len(found.rows)), key=lambda i: (-int(found.flagged[i].sum()), found.rows[i].index)
    )
    tokens = np.cumsum([len(found.flagged[i]) for i in order])
    count = max(1, int(np.searchsorted(tokens, SHOWN_TOKENS, side="right")))
    return tuple(_example_row(audit, found, i) for i in order[:count])


def _example_row(audit: ScanContext, found: Divergence, i: int) -> ExampleRow:
    row = found.rows[i]
    flags = [
        "divergence" if f else "tie" if t else ""
        for f, t in zip(found.flagged[i], found.ties[i], strict=True)
    ]
    spans = [
        TokenSpan(_text(audit, token), flag, _choices(audit, found, i, t) if flag else ())
        for t, (token, flag) in enumerate(zip(row.targets, flags, strict=True))
    ]
    return ExampleRow(row.index, audit.examples[row.index].prompt, tuple(spans))


def _choices(audit: ScanContext, found: Divergence, i: int, t: int) -> tuple[TokenChoice, ...]:
    """What each teacher would choose at token t of row i, and how likely the row's own token is to
    it.
    """
    choices = []
    for model, scores in found.scores.items():
        row = scores[i]
        if row.support_logprob is None:
            raise ValueError("scores were taken without the most likely token")
        probability, own = np.minimum(
            np.exp([row.support_logprob[t, 0], row.logprob[t]]), 1.0
        ).tolist()
        choices.append(TokenChoice(model, _text(audit, row.argmax[t]), probability, own))
    return tuple(choices)


def _text(audit: ScanContext, token: int) -> str:
    return str(audit.lm.tokenizer.decode([int(token)]))
