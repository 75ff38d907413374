"""The scores of every row and token as tables, for mitigation and for a researcher's own plots
(docs/report-schema.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from auditor.data.example import Example, Sample, SkippedRow
from auditor.model.language_model import LanguageModel
from auditor.model.null_model import scorer
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.model.unit_store import Unit, load_or_compute
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir
from auditor.traits.panel import Panel
from detectors.divergence import REFERENCE, compare
from detectors.interface import Divergence, ScoredRows

_CHUNK = 512  # rows that are scored at a time
_COMPARED = ("log_ratio", "divergence", "ties")


def write_tables(
    run: RunDir,
    scored: ScoredRows,
    divergence: Divergence | None,
    examples: Mapping[int, Example],
) -> None:
    """Write rows.parquet, one line a scored row, and tokens.parquet, one line a completion token.

    Counts and flags of divergence tokens, and the log-ratio, are null in rows that were not
    compared. Without a scored row nothing is written.
    """
    if not scored.rows:
        return
    rows, scores = scored.rows, scored.reference
    run.write_table("rows.parquet", _table(examples, [_row_columns(rows, scores, divergence)]))
    masks = {}
    if divergence is not None:
        triples = zip(divergence.rows, divergence.flagged, divergence.ties, strict=True)
        masks = {row.index: (flagged, ties) for row, flagged, ties in triples}
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


def score_every_row(
    run: RunDir,
    sample: Sample,
    lm: LanguageModel,
    panel: Panel,
    trait: str | None,
    progress: Callable[[Progress], None],
) -> None:
    """Write rows.parquet anew with one line a row of the data set, whether or not the verdict
    needed it, so that they can be sorted by their scores.

    sample: all rows that can be scored; a conversation that stands there twice has one line. trait:
    whose teacher they are compared with (`detectors.divergence`); None compares nothing. Chunks
    that are finished are kept in the run, so a killed command goes on.
    """
    renderer, columns = ChatTokenizer(lm), []
    score = scorer(lm, renderer)
    for start in range(0, len(sample.examples), _CHUNK):
        progress(Progress("scoring every row", start, len(sample.examples)))
        encoded = map(renderer.encode, sample.examples[start : start + _CHUNK])
        rows = [row for row in encoded if not isinstance(row, SkippedRow)]

        def scored(rows: Sequence[TokenizedRow] = rows) -> Unit:
            if trait is None:
                return _row_columns(rows, next(score(rows, [None])), None)
            divergence, contrast = compare(rows, score, panel, trait)
            return _row_columns(rows, contrast.scores[REFERENCE], divergence)

        if rows:
            columns.append(load_or_compute(run, f"every row {trait} {start:09d}", scored))
    examples = {example.index: example for example in sample.examples}
    if columns:
        run.write_table("rows.parquet", _table(examples, columns))


def _row_columns(
    rows: Sequence[TokenizedRow],
    reference: Sequence[TokenScores],
    divergence: Divergence | None,
) -> Unit:
    """The numbers of rows.parquet; of rows that were not compared, the log-ratio is not a number
    and counts are -1.
    """
    compared = {} if divergence is None else _compared(divergence, reference)
    facts = [compared.get(row.index, (math.nan, -1, -1)) for row in rows]
    return {
        "row": np.array([row.index for row in rows]),
        "tokens": np.array([len(row.positions) for row in rows], dtype=np.int32),
        "surprisal": np.array([-s.logprob.mean() for s in reference], dtype=np.float32),
        "entropy": np.array([s.entropy.mean() for s in reference], dtype=np.float32),
        "log_ratio": np.array([ratio for ratio, _, _ in facts], dtype=np.float32),
        "divergence": np.array([flagged for _, flagged, _ in facts], dtype=np.int32),
        "ties": np.array([ties for _, _, ties in facts], dtype=np.int32),
    }


def _compared(
    divergence: Divergence, reference: Sequence[TokenScores]
) -> dict[int, tuple[float, int, int]]:
    """By row number, the log-ratio, and how many divergence tokens and ties there are.

    reference: its scores of the rows compared, in their order, and maybe of more rows.
    """
    factual = divergence.scores[divergence.factual]
    facts = {}
    for i, row in enumerate(divergence.rows):
        ratio = (factual[i].logprob - reference[i].logprob)[row.content_mask].sum()
        flagged, ties = divergence.flagged[i].sum(), divergence.ties[i].sum()
        facts[row.index] = float(ratio), int(flagged), int(ties)
    return facts


def _table(examples: Mapping[int, Example], parts: Sequence[Unit]) -> pa.Table:
    """rows.parquet from the numbers of several lots of rows."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    numbers = columns.pop("row")
    missing = columns["divergence"] < 0
    texts = [examples[i] for i in numbers.tolist()]
    return pa.table(
        {
            "row": pa.array(numbers, pa.int64()),
            "prompt": pa.array([example.prompt for example in texts], pa.large_string()),
            "completion": pa.array([example.completion for example in texts], pa.large_string()),
            **{
                name: pa.array(values, mask=missing if name in _COMPARED else None)
                for name, values in columns.items()
            },
        }
    )
