"""The rows that a report shows, with their divergence tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auditor.model.scoring import TokenScores
from auditor.scanning.scan_report import ExampleRow, TokenChoice, TokenSpan
from detectors.interface import Divergence, ScanContext

SHOWN_RIVALS = 3  # counterfactual teachers at a token
SHOWN_TOKENS = 10_000  # of the rows in a report, which would grow with long rows


def example_rows(context: ScanContext, divergence: Divergence) -> tuple[ExampleRow, ...]:
    """The rows to show to a reader, those with the most divergence tokens first; at least one."""
    order = sorted(
        range(len(divergence.rows)),
        key=lambda i: (-int(divergence.flagged[i].sum()), divergence.rows[i].index),
    )
    tokens = np.cumsum([len(divergence.flagged[i]) for i in order])
    count = max(1, int(np.searchsorted(tokens, SHOWN_TOKENS, side="right")))
    return tuple(_example_row(context, divergence, i) for i in order[:count])


def _example_row(context: ScanContext, divergence: Divergence, i: int) -> ExampleRow:
    """Row i, and for each of its flagged tokens what some teachers would choose in its place."""
    row = divergence.rows[i]
    spans = []
    for t, token in enumerate(row.targets):
        flagged, tie = divergence.flagged[i][t], divergence.ties[i][t]
        choices = []
        for model, scores in _teachers_shown(divergence, i, t) if flagged or tie else ():
            most_likely = scores[i].support_logprob
            if most_likely is None:
                raise ValueError("scores were taken without the most likely token")
            logprobs = np.array([most_likely[t, 0], scores[i].logprob[t]])
            probability, own = np.minimum(np.exp(logprobs), 1.0).tolist()
            text = _text(context, scores[i].argmax[t])
            choices.append(TokenChoice(model, text, probability, own))
        flag = "divergence" if flagged else "tie" if tie else ""
        spans.append(TokenSpan(_text(context, token), flag, tuple(choices)))
    return ExampleRow(row.index, context.examples[row.index].prompt, tuple(spans))


def _teachers_shown(
    divergence: Divergence, i: int, t: int
) -> list[tuple[str, Sequence[TokenScores]]]:
    """The factual teacher, and the SHOWN_RIVALS counterfactual ones that choose otherwise at token
    t of row i and find it least likely.
    """
    factual, *rivals = divergence.scores.items()
    token = divergence.rows[i].targets[t]
    rivals.sort(key=lambda rival: (rival[1][i].argmax[t] == token, rival[1][i].logprob[t]))
    return [factual, *rivals[:SHOWN_RIVALS]]


def _text(context: ScanContext, token: int) -> str:
    return str(context.lm.tokenizer.decode([int(token)]))
