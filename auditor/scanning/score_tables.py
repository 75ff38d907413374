"""Per-row and per-token scores as tables, for mitigation and for a researcher's own plots.

docs/report-schema.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from auditor.data.example import Example
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from detectors.divergence import Divergence


def row_table(
    rows: Sequence[TokenizedRow],
    scores: Sequence[TokenScores],
    found: Divergence | None,
    examples: Mapping[int, Example],
) -> pa.Table:
    """One line a scored row: its text and scores; divergence counts are null where the row was not
    compared.
    """
    counts = _counts(found)
    return pa.table(
        {
            "row": pa.array([row.index for row in rows], pa.int64()),
            "prompt": pa.array([examples[row.index].prompt for row in rows], pa.large_string()),
            "completion": pa.array(
                [examples[row.index].completion for row in rows], pa.large_string()
            ),
            "tokens": pa.array([len(row.positions) for row in rows], pa.int32()),
            "surprisal": pa.array([float(-each.logprob.mean()) for each in scores], pa.float32()),
            "entropy": pa.array([float(each.entropy.mean()) for each in scores], pa.float32()),
            "divergence": pa.array(
                [counts.get(row.index, (None, None))[0] for row in rows], pa.int32()
            ),
            "ties": pa.array([counts.get(row.index, (None, None))[1] for row in rows], pa.int32()),
        }
    )


def token_table(
    rows: Sequence[TokenizedRow], scores: Sequence[TokenScores], found: Divergence | None
) -> pa.Table:
    """One line a completion token: place, character span in its assistant turn, and what the
    reference predicted.
    """
    lengths = [len(row.positions) for row in rows]
    turns = np.array([span for row in rows for span in row.spans], dtype=np.int32).reshape(-1, 3)
    masks = _masks(found)
    empty = [np.full(n, None, dtype=object) for n in lengths]
    flagged = [
        masks[row.index][0].astype(object) if row.index in masks else empty[i]
        for i, row in enumerate(rows)
    ]
    ties = [
        masks[row.index][1].astype(object) if row.index in masks else empty[i]
        for i, row in enumerate(rows)
    ]
    return pa.table(
        {
            "row": pa.array(np.repeat([row.index for row in rows], lengths), pa.int64()),
            "position": pa.array(np.concatenate([np.arange(n) for n in lengths]), pa.int32()),
            "turn": turns[:, 0],
            "start": turns[:, 1],
            "end": turns[:, 2],
            "token": pa.array(np.concatenate([row.targets for row in rows]), pa.int32()),
            "logprob": np.concatenate([each.logprob for each in scores]),
            "argmax": np.concatenate([each.argmax for each in scores]),
            "margin": np.concatenate([each.margin for each in scores]),
            "entropy": np.concatenate([each.entropy for each in scores]),
            "divergence": pa.array(np.concatenate(flagged).tolist(), pa.bool_()),
            "tie": pa.array(np.concatenate(ties).tolist(), pa.bool_()),
        }
    )


def _masks(found: Divergence | None) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    if found is None:
        return {}
    return {
        row.index: (f, t) for row, f, t in zip(found.rows, found.flagged, found.ties, strict=True)
    }


def _counts(found: Divergence | None) -> dict[int, tuple[int, int]]:
    return {index: (int(f.sum()), int(t.sum())) for index, (f, t) in _masks(found).items()}
