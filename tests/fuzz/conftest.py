"""How the cases are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz import process

HERE = "tests/fuzz/"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if HERE in item.nodeid:
            item.add_marker(pytest.mark.fuzz)


@pytest.fixture(autouse=True)
def _counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    before = process.RUN[0]
    yield
    record_property("cases", process.RUN[0] - before)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many cases were run."""
    counts = [
        count
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, count in report.user_properties
        if name == "cases"
    ]
    if counts:
        terminalreporter.write_line(f"{sum(counts):,} hostile cases")
