"""What a format of the scan's report is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from auditor.scanning.scan_report import ScanReport


@dataclass(frozen=True, slots=True)
class Format:
    """One format for `--output NAME=PATH`: a file of this folder, named after it, with `FORMAT`.

    A report holds text from a data set, a panel and file names: a format makes harmless whatever
    could act where it is read (docs/formats.md).

    render: the report as the text of a file. check: finds before a scan, which takes minutes, what
    would go wrong after it; raises AuditError when a package is missing or the file that is there
    already, whose text it is given (None where the report is written anew), cannot be updated.
    update: for a format that is a section of a file with other text: that text and the report ->
    the text with the report in it, and all else as it was. None where a file is always replaced.
    """

    render: Callable[[ScanReport], str]
    check: Callable[[str | None], object] | None = None
    update: Callable[[str, ScanReport], str] | None = None
