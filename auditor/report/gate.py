"""What `audit gate` shows: the outcome, and one line a rule."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from auditor.release.decision import Decision
from auditor.report.shared.words import safe
from auditor.scanning.scan_report import OutcomeName, ScanReport

HEADLINES: dict[OutcomeName, tuple[str, str]] = {
    "passed": ("GATE PASSED", "green"),
    "failed": ("GATE FAILED", "red"),
    "inconclusive": ("GATE INCONCLUSIVE", "yellow"),
}
WORDS: dict[OutcomeName, str] = {
    "passed": "passed",
    "failed": "FAILED",
    "inconclusive": "not judged",
}


def render(decision: Decision, report: ScanReport, origin: str, code: int) -> RenderableType:
    """The whole page.

    Opens no console; readable from 80 columns on. code: that the command will end with.
    """
    headline, style = HEADLINES[decision.outcome]
    title = Text(headline, style=f"bold {style}")
    title.append(f"  {safe(report.dataset.name)}, exit code {code}", style="not bold default")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for rule in decision.rules:
        word = Text(WORDS[rule.outcome], style=HEADLINES[rule.outcome][1])
        table.add_row(word, Text(safe(rule.name)), Text(safe(rule.text)))
    rows = f"{report.rows_scanned:,} of {report.dataset.total:,} rows"
    about = f"{rows}, reference {safe(str(report.reference.get('name')))}, {origin}"
    return Group(title, table, Text(about, style="dim"))
