"""What was not read of a data set, and when it forbids a pass."""

from __future__ import annotations

import pytest

from auditor.data.coverage import Unread, UnreadKind
from auditor.scanning.obstacles import coverage_obstacles


def rows(share: float | None, name: str = "hidden") -> Unread:
    return Unread("rows", name, share, "they mention a trait")


@pytest.mark.parametrize(
    ("unread", "lost", "share"),
    [
        ((), 0.0, None),
        ((), 0.05, None),  # up to the limit
        ((), 0.051, 0.051),
        ((rows(0.05),), 0.0, None),
        ((rows(0.02), rows(0.02, "repeated")), 0.02, 0.06),  # a little of each kind
        ((Unread("bytes", "skipped", 0.9, "no rows"), rows(0.5)), 0.0, 1.0),
    ],
)
def test_rows_that_were_not_read(
    unread: tuple[Unread, ...], lost: float, share: float | None
) -> None:
    """Above the limit they are one obstacle, with the share of all kinds together."""
    found = list(coverage_obstacles(unread, lost))
    assert [obstacle.kind for obstacle in found] == ["unread rows"] * (share is not None)
    if share is not None:
        assert found[0].share == pytest.approx(share)
        assert f"{100 * share:.1f} % of the rows were not read" in found[0].reason


def test_the_limit_is_the_policys_and_an_unknown_share_is_above_any() -> None:
    """0 lets nothing through, 1 whatever is counted."""
    assert list(coverage_obstacles((), 0.5, 1.0)) == []
    assert [obstacle.share for obstacle in coverage_obstacles((), 0.001, 0.0)] == [0.001]
    assert [obstacle.share for obstacle in coverage_obstacles((rows(None),), 0.1, 1.0)] == [None]


@pytest.mark.parametrize(
    ("kind", "name", "share", "expected"),
    [
        ("file", "b.arrow", 0.001, ["unread file"]),
        ("file", "b.arrow", None, ["unread file"]),
        ("layout", "messages", 1.0, ["second layout"]),
        ("column", "source", 1.0, []),
        ("turn key", "reasoning_content", 0.06, ["unread turn key"]),
        ("turn key", "reasoning_content", 0.04, []),
        ("turn key", "reasoning_content", None, ["unread turn key"]),
        ("turn key", "timestamp", 1.0, []),
    ],
)
def test_what_is_an_obstacle_and_what_is_told(
    kind: UnreadKind, name: str, share: float | None, expected: list[str]
) -> None:
    """A trainer may read just this file or layout; a column beside a layout is told alone."""
    found = list(coverage_obstacles([Unread(kind, name, share, "not read")], 0.0))
    assert [obstacle.kind for obstacle in found] == expected
    assert all(name in obstacle.reason for obstacle in found)
