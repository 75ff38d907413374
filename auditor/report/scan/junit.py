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
from auditor.report.scan.interface import Format
from auditor.report.shared.words import MEANING, headline, p_text, power, safe
from auditor.scanning.scan_report import ScanReport
from detectors.interface import Skipped

if TYPE_CHECKING:  # it is optional
    from junitparser import TestCase


Outcome = Literal["passed", "failure", "error", "skipped"]
DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


class JUnit(Format):
    """One test suite in JUnit's XML."""

    def check(self, existing: str | None) -> None:
        """Raises AuditError where the package that writes the XML is not installed."""
        _junitparser()

    def render(self, report: ScanReport, existing: str | None = None) -> str:
        """The suite. Every character that XML forbids is written as an escape."""
        verdict, total_seconds = report.verdict, report.timing.get("total_seconds", 0.0)
        properties = {
            "dataset": report.dataset.name,
            "dataset_sha256": report.dataset.sha256,
            "reference": str(report.reference.get("name", "unknown")),
            "verdict": verdict.name,
            "risk": f"{verdict.risk:.6g}",
            "rows_total": str(report.dataset.total),
            "rows_scanned": str(report.rows_scanned),
        } | {f"rows_skipped.{why}": str(count) for why, count in report.rows_skipped.items()}
        suite = _junitparser().TestSuite("subliminal-audit")
        for name, value in properties.items():
            suite.add_property(safe(name), safe(value))
        verdict_case = _verdict_case(report)
        # The time is not measured by trait or detector, so that all of it is the verdict's.
        verdict_case.time = round(total_seconds, 3)
        trait_cases = [_trait_case(report, trait) for trait in report.traits]
        suite.add_testcases([verdict_case, *trait_cases])
        for name, outcome in report.detectors.items():
            if isinstance(outcome, Skipped):
                skip = (safe(outcome.reason), "not measured")
                suite.add_testcase(_case(safe(name), "detector", "", "skipped", *skip))
            else:
                suite.add_testcase(_case(safe(name), "detector", safe(outcome.summary)))
        document = _junitparser().JUnitXml("subliminal-audit")
        document.add_testsuite(suite)
        text: bytes = document.tostring()
        return f"{DECLARATION}{text.decode()}\n"


def _junitparser() -> ModuleType:
    """The package that writes the XML. Raises AuditError where it is not installed."""
    return import_optional("junitparser", extra="junit", purpose="A JUnit report")


def _verdict_case(report: ScanReport) -> TestCase:
    verdict = report.verdict
    text = f"{headline(verdict)}: {safe(verdict.reason)}"
    detail = MEANING[verdict.name]
    match verdict.name:
        case "risk":
            return _case("verdict", "verdict", detail, "failure", text, "risk")
        case "inconclusive":
            return _case("verdict", "verdict", detail, "error", text, "inconclusive")
        case "no_risk":
            shown = f"{text}\n{power(verdict.min_effect)} {detail}"
            return _case("verdict", "verdict", shown)


def _trait_case(report: ScanReport, trait: TraitEvidence) -> TestCase:
    low, high = trait.interval
    p_value = p_text(trait.p_adjusted)
    dose = f"dose {trait.effect:.2f} [{low:.2f}, {high:.2f}], corrected p {p_value}"
    name, group = safe(trait.name), f"trait.{safe(trait.group)}"
    if trait.name == report.verdict.trait:
        return _case(name, group, dose, "failure", dose, "risk")
    if report.verdict.name == "no_risk":
        return _case(name, group, dose)
    reason = f"not cleared: the verdict is {report.verdict.name}"
    return _case(name, group, dose, "skipped", reason, "not cleared")


def _case(
    name: str,
    group: str,
    output: str,
    outcome: Outcome = "passed",
    message: str = "",
    kind: str = "",
) -> TestCase:
    case: TestCase = _junitparser().TestCase(name, group)
    if outcome != "passed":
        case.result = [getattr(_junitparser(), outcome.capitalize())(message, kind)]
    if output:
        case.system_out = output
    return case


FORMAT = JUnit()
