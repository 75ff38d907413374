"""What is kept is not computed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from auditor.model.unit_store import Unit, load_or_compute
from auditor.runs.run_directory import RunDir, Section


def test_a_unit_is_computed_once_for_a_store(tmp_path: Path) -> None:
    """The second time it is loaded; another section of the run, and no store, have none of it."""
    computed = 0

    def compute() -> Unit:
        nonlocal computed
        computed += 1
        return {"count": np.array(computed)}

    with RunDir.open(tmp_path, {"verb": "test"}) as run:
        for store, expected in (
            (run, 1),
            (run, 1),
            (Section(run, "other"), 2),
            (None, 3),
            (None, 4),
        ):
            assert int(load_or_compute(store, "unit", compute)["count"]) == expected
