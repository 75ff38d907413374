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


def render(report: ScanReport) -> str:
    """The rows, with a header.

    Raises RunError when the run directory with their scores is not at hand.
    """
    rows = read_rows(report)
    if rows is None:
        raise RunError(
            f"The scores of the rows ({report.run}/rows.parquet) are gone.",
            "Scan again with --fresh.",
        )
    # Lines end with CR LF, as RFC 4180 and the `csv` module have it.
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(RowSummary.__slots__)
    for row in rows:
        cells = list(astuple(row))
        for column, value in enumerate(cells):
            if isinstance(value, str):
                # Cut before the escapes are made, which is slow, and after, as they are longer.
                text = safe(value[:CELL_CHARS])[:CELL_CHARS]
                # A spreadsheet takes what follows an apostrophe for text.
                cells[column] = f"'{text}" if text.startswith(FORMULA) else text
        writer.writerow(cells)
    return stream.getvalue()


FORMAT = Format(render)
