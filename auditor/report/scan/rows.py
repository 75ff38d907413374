"""The scores of single rows, which the run directory holds: for the formats that list rows."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from auditor.runs.signing import read_signed
from auditor.scanning.scan_report import ScanReport

HEADED = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RowSummary:
    """One scored row, as a line of rows.parquet (docs/report-schema.md).

    log_ratio, divergence, ties: nats and counts of tokens, None where the row was not compared.
    """

    row: int
    prompt: str
    completion: str
    tokens: int
    surprisal: float
    entropy: float
    log_ratio: float | None
    divergence: int | None
    ties: int | None


def read_rows(report: ScanReport, most: int | None = None) -> list[RowSummary] | None:
    """The scored rows, those with the most divergence tokens first; at most `most` of them.

    None when they are not at hand: the run directory was moved or removed, is of an earlier
    release, or was not signed by this machine.
    """
    if not report.rows_scanned:
        return []
    import pyarrow as pa  # slow to import, and `audit --help` loads this module
    import pyarrow.parquet as pq

    names = list(RowSummary.__slots__)
    try:
        content = read_signed(Path(report.run) / "rows.parquet")
        if content is None:
            return None
        table = pq.read_table(pa.BufferReader(content), columns=names)
        order = [("divergence", "descending"), ("row", "ascending")]
        return [RowSummary(**line) for line in table.sort_by(order).slice(0, most).to_pylist()]
    except (OSError, TypeError, pa.ArrowException) as error:
        _log.info("the row scores in %s cannot be read: %s", report.run or "the run", error)
        return None


def flagged(report: ScanReport, most: int) -> list[RowSummary] | None:
    """The rows with divergence tokens, most first; none unless the verdict is risk, as clean data
    has such rows too.
    """
    if report.verdict.name != "risk":
        return []
    # The most flagged come first, so that of the first `most` rows none is left out.
    rows = read_rows(report, most)
    return rows and [row for row in rows if row.divergence]


def line_of(report: ScanReport, row: int) -> int:
    """The line of a file on which a row stands, from 1, if each row has one line.

    Exact for JSONL without blank lines and CSV without line breaks in cells; elsewhere just a
    number that says which.
    """
    # A pair of answers that are both read is two rows of one line.
    row = row // 2 if "rejected" in report.dataset.columns else row
    # A header is a line of its own before row 0.
    return row + 1 + report.dataset.name.lower().endswith(HEADED)


def describe_row(row: RowSummary, report: ScanReport) -> str:
    """What is known about a flagged row, in words."""
    trait = report.divergence.get("trait") if isinstance(report.divergence, dict) else None
    return (
        f"row {row.row:,}: {row.divergence:,} of {row.tokens:,} completion tokens are divergence "
        f"tokens{f' for {trait}' if trait else ''}"
    )
