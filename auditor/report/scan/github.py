"""Annotations of GitHub Actions: commands that a step prints (`--output github=-`)."""

from __future__ import annotations

from auditor.report.scan.answer import decision
from auditor.report.scan.interface import Format
from auditor.report.scan.rows import describe_row, flagged, line_of
from auditor.report.shared.words import MEANING, headline, power, safe, unread_lines
from auditor.scanning.scan_report import ScanReport, VerdictName

COMMANDS: dict[VerdictName, str] = {"risk": "error", "inconclusive": "warning", "no_risk": "notice"}
MOST_ROWS = 10  # GitHub shows ten annotations of a kind for a step
MOST_CHARS = 4096  # the longest path, and as much of a message as GitHub keeps


def render(report: ScanReport) -> str:
    """The workflow commands, one a line."""
    verdict = report.verdict
    detail = power(verdict) if verdict.name == "no_risk" else MEANING[verdict.name]
    title, message = headline(verdict), f"{verdict.reason.rstrip('.')}. {detail}"
    # A reader of a list of annotations sees no more than the first line.
    message = "; ".join([decision(report), *unread_lines(report.dataset), message])
    lines = [_command(COMMANDS[verdict.name], report, 1, title, message)]
    # The verdict has the first line; without the run directory it is all that there is.
    for row in flagged(report, MOST_ROWS) or ():
        line, message = line_of(report, row.row), describe_row(row, report)
        lines.append(_command("notice", report, line, "Divergence tokens", message))
    return "".join(f"{line}\n" for line in lines)


def _command(command: str, report: ScanReport, line: int, title: str, message: str) -> str:
    """A workflow command about a line of the data set."""
    file, shown = (
        # A colon and a comma end a property, and nothing else of GitHub's syntax.
        _message(text).replace(":", "%3A").replace(",", "%2C")
        for text in (report.dataset.name, title)
    )
    return f"::{command} file={file},line={line},title={shown}::{_message(message)}"


def _message(text: str) -> str:
    """`safe` leaves no line break; a percent sign would start an escape of GitHub's own."""
    return safe(text[:MOST_CHARS]).replace("%", "%25")


FORMAT = Format(render)
