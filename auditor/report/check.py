"""Two scans side by side: a data set before and after its mitigation."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from auditor.report.shared.terminal import VERDICT_STYLES, section_table
from auditor.report.shared.words import estimate, headline, safe
from auditor.scanning.scan_report import ScanReport


def terminal_page(before: ScanReport, after: ScanReport) -> RenderableType:
    """Verdicts, and the traits that either scan puts first with their doses."""
    table = section_table("The two scans")
    table.add_column("")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    scans = (before, after)
    verdicts = [scan.verdict for scan in scans]
    table.add_row("verdict", *(Text(headline(v), style=VERDICT_STYLES[v.name]) for v in verdicts))
    table.add_row("rows scanned", *(f"{scan.rows_scanned:,}" for scan in scans))
    doses = [
        {trait.name: estimate(trait.effect, trait.interval, ".2f") for trait in scan.traits}
        for scan in scans
    ]
    # The trait found before may stand far down after, and another one may stand first by chance.
    leading = [trait.name for scan in scans for trait in scan.traits[:1]]
    for name in dict.fromkeys(leading):
        table.add_row(
            Text(f"dose of {safe(name)}"), *(dose.get(name, "not tested") for dose in doses)
        )
    return table
