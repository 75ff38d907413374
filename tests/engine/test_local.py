"""The engine of one machine, and errors that a worker sends to another process."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from pathlib import Path

import pytest

from auditor.data.batches import OversizedError
from auditor.engine.interface import Tally
from auditor.engine.local import LocalEngine
from auditor.errors import AuditError, InputError, PluginError


def test_items_are_done_in_order_and_told_of() -> None:
    """Rows of finished items and of the one at work add up."""
    tallies: list[Tally] = []

    def work(worker: str, item: int, tell: object) -> str:
        assert callable(tell)
        tell(1)
        tell(item)
        return f"{worker} {item}"

    with LocalEngine().pool(
        lambda: nullcontext("did"), most=2, on_device=False, logs=Path()
    ) as pool:
        assert list(pool.map(work, [3, 4], tallies.append)) == [(0, "did 3"), (1, "did 4")]
    assert [(tally.rows, tally.items, tally.unit) for tally in tallies] == [
        (1, 0, "rows"),
        (3, 0, "rows"),
        (4, 1, "rows"),
        (7, 1, "rows"),
    ]


@pytest.mark.parametrize(
    "error",
    [
        InputError("no rows", "give some"),
        OversizedError("it is large", "make it small", "d.csv"),
        PluginError("no module", "install it", exit_code=3),
    ],
)
def test_an_error_comes_over_whole(error: AuditError) -> None:
    """Type, words, next step and exit code."""
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.__dict__) == (type(error), str(error), error.__dict__)
