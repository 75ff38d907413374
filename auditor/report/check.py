"""A data set before and after its mitigation: the two scans side by side, at a terminal and on the
page of the students.
"""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from auditor.report import verify
from auditor.report.scan.answer import decision
from auditor.report.shared.terminal import VERDICT_STYLES, section_table
from auditor.report.shared.words import estimate, headline, safe
from auditor.scanning.scan_report import ScanReport
from auditor.students.result import VerifyReport


def terminal_page(before: ScanReport, after: ScanReport) -> RenderableType:
    """Verdicts, and the traits that either scan puts first with their doses."""
    table = section_table("The two scans")
    table.add_column("")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    styles = [VERDICT_STYLES[scan.verdict.name] for scan in (before, after)]
    for name, *values in side_by_side(before, after):
        cells = [Text(value) for value in values]
        if name == "verdict":
            for cell, style in zip(cells, styles, strict=True):
                cell.stylize(style)
        table.add_row(Text(name), *cells)
    return table


def to_html(before: ScanReport, after: ScanReport, students: VerifyReport) -> str:
    """The page of the students, with the two scans on it."""
    decisions = ("decision", decision(before), decision(after))
    return verify.to_html(students, [decisions, *side_by_side(before, after)])


def side_by_side(before: ScanReport, after: ScanReport) -> list[tuple[str, str, str]]:
    """What is compared, and its value before and after; `safe`."""
    doses = [
        {trait.name: estimate(trait.effect, trait.interval, ".2f") for trait in scan.traits}
        for scan in (before, after)
    ]
    # The trait found before may stand far down after, and another one may stand first by chance.
    leading = [trait.name for scan in (before, after) for trait in scan.traits[:1]]
    return [
        ("verdict", headline(before.verdict), headline(after.verdict)),
        ("rows scanned", f"{before.rows_scanned:,}", f"{after.rows_scanned:,}"),
        *(
            (
                f"dose of {safe(name)}",
                doses[0].get(name, "not tested"),
                doses[1].get(name, "not tested"),
            )
            for name in dict.fromkeys(leading)
        ),
    ]
