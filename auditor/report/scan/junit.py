"""JUnit XML, for the test views of CI systems: a test case for the verdict, for each trait and for
each detector.

risk is a failure, inconclusive an error: the audit did not come to an answer. Traits other than the
one found are skipped with risk, and all of them with inconclusive, since none is cleared then.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Literal

from auditor.errors import import_optional
from auditor.inference.trait_evidence import TraitEvidence
from auditor.report.shared.words import MEANING, headline, p_text, power, safe
from auditor.scanning.scan_report import ScanReport
from detectors.interface import Evidence, Skipped

if TYPE_CHECKING:  # it is optional
    from junitparser import TestCase


Outcome = Literal["passed", "failure", "error", "skipped"]
DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


def junitparser() -> ModuleType:
    """The package that writes the XML. Raises AuditError where it is not installed."""
    return import_optional("junitparser", extra="junit", purpose="A JUnit report")


def render(report: ScanReport) -> str:
    """The report as one test suite. Every character that XML forbids is written as an escape."""
    suite = junitparser().TestSuite("subliminal-audit")
    for name, value in _properties(report).items():
        suite.add_property(safe(name), safe(value))
    verdict = _verdict(report)
    verdict.time = round(
        report.timing.get("total_seconds", 0.0), 3
    )  # not told apart by trait or detector
    suite.add_testcases([verdict, *(_trait(report, trait) for trait in report.traits)])
    suite.add_testcases([_detector(name, outcome) for name, outcome in report.detectors.items()])
    document = junitparser().JUnitXml("subliminal-audit")
    document.add_testsuite(suite)
    text: bytes = document.tostring()
    return f"{DECLARATION}{text.decode()}\n"


def _properties(report: ScanReport) -> dict[str, str]:
    return {
        "dataset": report.dataset.name,
        "dataset_sha256": report.dataset.sha256,
        "reference": str(report.reference.get("name", "unknown")),
        "verdict": report.verdict.name,
        "risk": f"{report.verdict.risk:.6g}",
        "rows_total": str(report.dataset.total),
        "rows_scanned": str(report.rows_scanned),
        **{f"rows_skipped.{reason}": str(count) for reason, count in report.rows_skipped.items()},
    }


def _verdict(report: ScanReport) -> TestCase:
    verdict = report.verdict
    text = f"{headline(verdict)}: {safe(verdict.reason)}"
    detail = MEANING[verdict.name]
    if verdict.name == "risk":
        return _case("verdict", "verdict", detail, "failure", text, "risk")
    if verdict.name == "inconclusive":
        return _case("verdict", "verdict", detail, "error", text, "inconclusive")
    return _case("verdict", "verdict", f"{text}\n{power(verdict.min_effect)} {detail}")


def _trait(report: ScanReport, trait: TraitEvidence) -> TestCase:
    low, high = trait.interval
    found = (
        f"dose {trait.effect:.2f} [{low:.2f}, {high:.2f}], corrected p {p_text(trait.p_adjusted)}"
    )
    name, group = safe(trait.name), f"trait.{safe(trait.group)}"
    if trait.name == report.verdict.trait:
        return _case(name, group, found, "failure", found, "risk")
    if report.verdict.name == "no_risk":
        return _case(name, group, found)
    return _case(
        name,
        group,
        found,
        "skipped",
        f"not cleared: the verdict is {report.verdict.name}",
        "not cleared",
    )


def _detector(name: str, found: Evidence | Skipped) -> TestCase:
    if isinstance(found, Skipped):
        return _case(safe(name), "detector", "", "skipped", safe(found.reason), "not measured")
    return _case(safe(name), "detector", safe(found.summary))


def _case(
    name: str,
    group: str,
    output: str,
    outcome: Outcome = "passed",
    message: str = "",
    kind: str = "",
) -> TestCase:
    case: TestCase = junitparser().TestCase(name, group)
    if outcome != "passed":
        case.result = [getattr(junitparser(), outcome.capitalize())(message, kind)]
    if output:
        case.system_out = output
    return case
