"""Cases that fail today, by what is wrong. Who mends one removes its line: the test fails when it
passes.
"""

from __future__ import annotations

_BY_REASON: dict[str, tuple[str, ...]] = {
    "redteam 17: the file is read again eight times larger while rows repeat": (
        "test_data.py::test_the_same_row_over_and_over[1500000]",
    ),
}
KNOWN: dict[str, str] = {test: reason for reason, tests in _BY_REASON.items() for test in tests}
