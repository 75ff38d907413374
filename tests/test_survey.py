"""When a survey looks, what it costs at most, and which traits it keeps."""

from __future__ import annotations

import pytest

from auditor.schedule import block_starts, looks, planned_passes
from auditor.stats import Estimate
from auditor.survey import is_open


def test_looks_end_with_the_last_row() -> None:
    """The set numbers of rows, then every 400."""
    assert looks(50) == [32, 50]
    assert looks(1000) == [32, 64, 128, 224, 320, 400, 800, 1000]


def test_blocks_never_cross_a_look() -> None:
    """32 rows, and fewer before a look that comes earlier."""
    assert list(block_starts([32, 50, 90])) == [0, 32, 50, 82]


def test_planned_passes_by_hand() -> None:
    """30 traits on 32 rows; then 24 and the controls on 32, 12 on 64, 6 on 12. Controls: 4, and 2 a further family."""
    assert planned_passes(140, 30, 1) == 32 * 30 + 32 * 28 + 64 * 16 + 12 * 10
    assert planned_passes(140, 30, 3) == 32 * 30 + 32 * 32 + 64 * 20 + 12 * 14


@pytest.mark.parametrize(
    ("effect", "se", "tested", "needs_more"),
    [
        (0.0, 0.05, 13, False),  # nothing there, and sure of it
        (0.5, 0.3, 13, True),  # a large dose may be there
        (0.2, 0.05, 13, True),  # a small dose seems to be: z = 4
        (0.1, 0.05, 13, False),  # z = 2 is nothing among 13 ...
        (0.1, 0.05, 1, True),  # ... but something for one
        (-0.5, 0.05, 13, False),
    ],
)
def test_a_trait_stays_while_a_dose_may_be_there(effect: float, se: float, tested: int, needs_more: bool) -> None:
    """Either bound keeps it: a large dose that cannot be excluded, or evidence for a small one."""
    assert is_open(Estimate(effect, se, 127), tested) == needs_more
    assert is_open(None, tested)
