"""What a format of the scan's report is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from auditor.scanning.scan_report import ScanReport


class Format(ABC):
    """One format for `--output NAME=PATH`: a file of this folder, named after it, with `FORMAT`.

    A report holds text from a data set, a panel and file names: a format makes harmless whatever
    could act where it is read (docs/formats.md).
    """

    goes_into_files: ClassVar[bool] = False
    """Whether the report goes into a file that is there already, and leaves its other text."""

    def check(self, existing: str | None) -> None:  # noqa: B027 - most formats need nothing
        """Find before a scan, which takes minutes, what would go wrong after it.

        existing: text of the file that the report will go into; None where it is written anew.
        Raises AuditError when a package is missing, or when `existing` cannot be updated.
        """

    @abstractmethod
    def render(self, report: ScanReport, existing: str | None = None) -> str:
        """The report as the text of a file; `existing` with the report in it, where it is given."""
