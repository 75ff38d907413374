"""Reports as files, chosen by name from one dict. The page for a reader at a terminal stands in `terminal`."""

from __future__ import annotations

from collections.abc import Callable

from auditor.records import ScanReport
from auditor.report import json


def _html(report: ScanReport) -> str:
    from auditor.report import html  # Jinja takes longer to import than `audit --help` may

    return html.render(report)


RENDERERS: dict[str, Callable[[ScanReport], str]] = {"json": json.render, "html": _html}
