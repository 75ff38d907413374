"""The scores of every row and token as tables, for mitigation and for a researcher's own plots
(docs/report-schema.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from auditor.data.example import Example
from auditor.runs.run_directory import RunDir
from detectors.interface import Divergence, ScoredRows


def write_tables(
    run: RunDir,
    scored: ScoredRows,
    divergence: Divergence | None,
    examples: Mapping[int, Example],
) -> None:
    """Write rows.parquet, one line a scored row, and tokens.parquet, one line a completion token.

    Counts and flags of divergence tokens are null in rows that were not compared. Without a scored
    row nothing is written.
    """
    if not scored.rows:
        return
    masks = {}
    if divergence is not None:
        triples = zip(divergence.rows, divergence.flagged, divergence.ties, strict=True)
        masks = {row.index: (flagged, ties) for row, flagged, ties in triples}
    rows, scores = scored.rows, scored.reference
    counts: list[tuple[int | None, int | None]] = [(None, None)] * len(rows)
    for i, row in enumerate(rows):
        if row.index in masks:
            flagged, ties = masks[row.index]
            counts[i] = int(flagged.sum()), int(ties.sum())
    run.write_table(
        "rows.parquet",
        pa.table(
            {
                "row": pa.array([row.index for row in rows], pa.int64()),
                "prompt": pa.array([examples[row.index].prompt for row in rows], pa.large_string()),
                "completion": pa.array(
                    [examples[row.index].completion for row in rows], pa.large_string()
                ),
                "tokens": pa.array([len(row.positions) for row in rows], pa.int32()),
                "surprisal": pa.array([float(-s.logprob.mean()) for s in scores], pa.float32()),
                "entropy": pa.array([float(s.entropy.mean()) for s in scores], pa.float32()),
                "divergence": pa.array([flagged for flagged, _ in counts], pa.int32()),
                "ties": pa.array([ties for _, ties in counts], pa.int32()),
            }
        ),
    )
    lengths = [len(row.positions) for row in rows]
    # Character spans in the assistant's turn: turn, start, end.
    turns = np.array([span for row in rows for span in row.spans], dtype=np.int32).reshape(-1, 3)
    flags = [masks.get(row.index, [np.full(len(row.positions), None)] * 2) for row in rows]
    columns = {
        name: np.concatenate([getattr(row_scores, name) for row_scores in scores])
        for name in ("logprob", "argmax", "margin", "entropy")
    }
    run.write_table(
        "tokens.parquet",
        pa.table(
            {
                "row": pa.array(np.repeat([row.index for row in rows], lengths), pa.int64()),
                "position": pa.array(np.concatenate([np.arange(n) for n in lengths]), pa.int32()),
                "turn": turns[:, 0],
                "start": turns[:, 1],
                "end": turns[:, 2],
                "token": pa.array(np.concatenate([row.targets for row in rows]), pa.int32()),
                **columns,
                "divergence": pa.array([f for mask, _ in flags for f in mask.tolist()], pa.bool_()),
                "tie": pa.array([t for _, ties in flags for t in ties.tolist()], pa.bool_()),
            }
        ),
    )
