"""Two scans side by side: a data set before and after its mitigation."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from auditor.report.scan.terminal import STYLES
from auditor.report.shared.words import headline, safe
from auditor.scanning.scan_report import ScanReport


def render(before: ScanReport, after: ScanReport) -> RenderableType:
    """Verdicts, and the traits that either scan puts first with their doses. Opens no console."""
    table = Table(
        title=Text("\nThe two scans", style="bold"),
        title_justify="left",
        box=None,
        header_style="dim",
        pad_edge=False,
    )
    table.add_column("")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    styled = (
        Text(headline(each.verdict), style=STYLES[each.verdict.name]) for each in (before, after)
    )
    table.add_row("verdict", *styled)
    table.add_row("rows scanned", f"{before.rows_scanned:,}", f"{after.rows_scanned:,}")
    leading = [trait.name for each in (before, after) for trait in each.traits[:1]]
    for name in dict.fromkeys(leading):
        table.add_row(Text(f"dose of {safe(name)}"), _dose(before, name), _dose(after, name))
    return table


def _dose(report: ScanReport, name: str) -> str:
    found = next((trait for trait in report.traits if trait.name == name), None)
    if found is None:
        return "not tested"
    return f"{found.effect:.2f} [{found.interval[0]:.2f}, {found.interval[1]:.2f}]"
