"""The scored rows as CSV, for a spreadsheet: those with the most divergence tokens first."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple

from auditor.errors import RunError
from auditor.report.scan.interface import Format
from auditor.report.scan.rows import RowSummary, read_rows
from auditor.report.shared.words import safe
from auditor.scanning.scan_report import ScanReport

CELL_CHARS = 32_000  # a cell of a spreadsheet holds 32,767 characters
# What spreadsheets take for the start of a formula (OWASP, CSV Injection); tab and line breaks are
# escaped anyway.
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


class Csv(Format):
    """The scored rows as a table."""

    def render(self, report: ScanReport, existing: str | None = None) -> str:
        """The rows, with a header.

        Raises RunError when the run directory with their scores is not at hand.
        """
        rows = read_rows(report)
        if rows is None:
            raise RunError(
                f"The scores of the rows ({report.run}/rows.parquet) are gone.",
                "Scan again with --fresh.",
            )
        stream = io.StringIO()
        writer = csv.writer(stream)
        writer.writerow(RowSummary.__slots__)
        writer.writerows([_cell(value) for value in astuple(row)] for row in rows)
        return stream.getvalue()


def _cell(value: str | float | None) -> str | float | None:
    """Numbers as they are; text harmless, and with an apostrophe where it would be a formula."""
    if not isinstance(value, str):
        return value
    text = safe(value[:CELL_CHARS])[:CELL_CHARS]
    return f"'{text}" if text.startswith(FORMULA) else text


FORMAT = Csv()
