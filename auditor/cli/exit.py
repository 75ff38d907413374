"""The exit code of an outcome."""

from __future__ import annotations

from auditor.release.decision import FailOn
from auditor.scanning.scan_report import OUTCOME_CODES, OutcomeName


def exit_code(outcome: OutcomeName, fail_on: FailOn = "inconclusive") -> int:
    """0 passed, 1 failed, 3 inconclusive; 0 as well for what `fail_on` does not count as an
    error.
    """
    if fail_on == "never" or (fail_on == "risk" and outcome == "inconclusive"):
        return 0
    return OUTCOME_CODES[outcome]
