"""JUnit XML, for the test views of CI systems: a test case for the verdict, for each trait and for
each detector.

risk is a failure, inconclusive an error: the audit did not come to an answer. Traits other than the
one found are skipped with risk, and all of them with inconclusive, since none is cleared then.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Literal

from auditor.errors import import_optional
from auditor.report.scan.interface import Format
from auditor.report.shared.words import (
    MEANING,
    estimate,
    headline,
    p_text,
    power,
    safe,
    unread_lines,
)
from auditor.scanning.scan_report import ScanReport
from detectors.interface import Skipped

if TYPE_CHECKING:  # it is optional
    from junitparser import TestCase

Result = Literal["Failure", "Error", "Skipped"]  # classes of junitparser
DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


def render(report: ScanReport) -> str:
    """The suite. Every character that XML forbids is written as an escape."""
    verdict = report.verdict
    properties = {
        "dataset": report.dataset.name,
        "dataset_sha256": report.dataset.sha256,
        "reference": str(report.reference.get("name", "unknown")),
        "verdict": verdict.name,
        "probability": "" if verdict.probability is None else f"{verdict.probability:.6g}",
        "rows_total": str(report.dataset.total),
        "rows_scanned": str(report.rows_scanned),
        "not_read": str(len(report.dataset.unread)),
    } | {f"rows_skipped.{why}": str(count) for why, count in report.rows_skipped.items()}
    suite = _junitparser().TestSuite("subliminal-audit")
    if report.created:
        suite.timestamp = safe(report.created)
    for name, value in properties.items():
        suite.add_property(safe(name), safe(value))
    reasons = "; ".join([*unread_lines(report.dataset), safe(verdict.reason)])
    text = f"{headline(verdict)}: {reasons}"
    detail = MEANING[verdict.name]
    if verdict.name == "no_risk":
        detail = f"{text}\n{power(verdict)} {detail}"
        case = _case("verdict", "verdict", detail)
    else:
        result: Result = "Failure" if verdict.name == "risk" else "Error"
        case = _case("verdict", "verdict", detail, result, text, verdict.name)
    # The time is not measured by trait or detector, so that all of it is the verdict's.
    case.time = round(report.timing.get("total_seconds", 0.0), 3)
    # A trait that is not found passes only with a pass of the whole: none is cleared otherwise.
    cases = [case]
    for trait in report.traits:
        dose = f"dose {estimate(trait.effect, trait.interval, '.2f')}"
        dose += f", corrected p {p_text(trait.p_adjusted)}"
        about = safe(trait.name), f"trait.{safe(trait.group)}", dose
        if trait.name == verdict.trait:
            cases.append(_case(*about, "Failure", dose, "risk"))
        elif verdict.name == "no_risk":
            cases.append(_case(*about))
        else:
            reason = f"not cleared: the verdict is {verdict.name}"
            cases.append(_case(*about, "Skipped", reason, "not cleared"))
    for name, outcome in report.detectors.items():
        if isinstance(outcome, Skipped):
            reason = safe(outcome.reason)
            cases.append(_case(safe(name), "detector", "", "Skipped", reason, "not measured"))
        else:
            cases.append(_case(safe(name), "detector", safe(outcome.summary)))
    # All at once, since the suite then counts its cases by result.
    suite.add_testcases(cases)
    document = _junitparser().JUnitXml("subliminal-audit")
    document.add_testsuite(suite)
    content: bytes = document.tostring()
    return f"{DECLARATION}{content.decode()}\n"


def _junitparser() -> ModuleType:
    """The package that writes the XML. Raises AuditError where it is not installed."""
    return import_optional("junitparser", extra="junit", purpose="A JUnit report")


def _case(
    name: str, group: str, output: str, result: Result | None = None, *reason: str
) -> TestCase:
    """A test case; passed without a `result`, whose `reason` is its message and its type."""
    case: TestCase = _junitparser().TestCase(name, group)
    if result is not None:
        case.result = [getattr(_junitparser(), result)(*reason)]
    if output:
        case.system_out = output
    return case


FORMAT = Format(render, check=lambda _: _junitparser())
