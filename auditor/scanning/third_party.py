"""Detectors of other packages."""

from __future__ import annotations

import json
from collections.abc import Sequence

from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from auditor.plugins import Plugin
from auditor.progress import Progress
from detectors.context import ScanContext
from detectors.interface import Evidence, Skipped


def third_party_evidence(
    audit: ScanContext,
    detector: Plugin,
    rows: Sequence[TokenizedRow],
    scores: Sequence[TokenScores],
) -> Evidence | Skipped:
    """What a detector of another package finds.

    Raises PluginError when it fails or gives something else.
    """
    audit.progress(Progress(f"running {detector.name}", 0, None))
    examples = [audit.examples[row.index] for row in rows]
    found = detector(examples=examples, rows=rows, scores=scores, lm=audit.lm, seed=audit.seed)
    if not isinstance(found, Evidence | Skipped) or (
        isinstance(found, Evidence) and found.detector != detector.name
    ):
        raise detector.failed(f"it must give Evidence({detector.name!r}, ...) or Skipped(...)")
    try:
        json.dumps(found.values if isinstance(found, Evidence) else None, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise detector.failed(f"its values are not plain JSON: {error}") from error
    return found
