"""Annotations of GitHub Actions: workflow commands, to be printed by a step (`--output github=-`)."""

from __future__ import annotations

from auditor.report.scan.rows import describe_row, flagged, line_of
from auditor.report.shared.words import MEANING, headline, power, safe
from auditor.scanning.scan_report import ScanReport, VerdictName

COMMANDS: dict[VerdictName, str] = {"risk": "error", "inconclusive": "warning", "no_risk": "notice"}
MOST_ROWS = 10  # GitHub shows ten annotations of a kind for a step

MOST_CHARS = 4096  # the longest path, and as much of a message as GitHub keeps


def render(report: ScanReport) -> str:
    """One line for the verdict, and one notice for each of the rows to inspect first."""
    verdict = report.verdict
    detail = power(verdict.min_effect) if verdict.name == "no_risk" else MEANING[verdict.name]
    lines = [
        _line(COMMANDS[verdict.name], report, 1, headline(verdict), f"{verdict.reason}. {detail}")
    ]
    for row in flagged(report, MOST_ROWS) or ():
        lines.append(
            _line(
                "notice",
                report,
                line_of(report, row.row),
                "Divergence tokens",
                describe_row(row, report),
            )
        )
    return "".join(f"{line}\n" for line in lines)


def _line(command: str, report: ScanReport, line: int, title: str, message: str) -> str:
    place = f"file={_property(report.dataset.name)},line={line},title={_property(title)}"
    return f"::{command} {place}::{_data(message)}"


def _data(text: str) -> str:
    """`safe` leaves no line break; a percent sign would start an escape of GitHub's own."""
    return safe(text[:MOST_CHARS]).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
