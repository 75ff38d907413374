"""How the cases are counted and seeded, and which of them are known to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz import process
from tests.fuzz.drawing import AS_EVER
from tests.fuzz.known_failures import KNOWN

HERE = "tests/fuzz/"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and those that are known to fail, which then must."""
    names = set()
    for item in items:
        if HERE not in item.nodeid:
            continue
        name = item.nodeid.split(HERE)[1]
        names.add(name)
        item.add_marker(pytest.mark.fuzz)
        if name in KNOWN:
            # AssertionError alone: a mistake in a test is no failure that is known.
            # In another series a test may not draw what it fails at.
            mark = pytest.mark.xfail(strict=AS_EVER, reason=KNOWN[name], raises=AssertionError)
            item.add_marker(mark)
    files = {name.split("::")[0] for name in names}
    gone = [name for name in KNOWN if name.split("::")[0] in files and name not in names]
    if gone and len(files) > 1:
        raise pytest.UsageError(f"Known failures that are no tests: {', '.join(gone)}")


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
