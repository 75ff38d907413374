"""Reports as files, chosen by name from one dict (docs/formats.md).

The page for a terminal stands in `terminal`.
"""

from __future__ import annotations

from collections.abc import Callable

from auditor.report.scan import card, csv, github, json, junit, markdown, sarif
from auditor.scanning.scan_report import ScanReport


def _html(report: ScanReport) -> str:
    from auditor.report.scan import html  # Jinja takes longer to import than `audit --help` may

    return html.render(report)


RENDERERS: dict[str, Callable[[ScanReport], str]] = {
    "json": json.render,
    "html": _html,
    "sarif": sarif.render,
    "junit": junit.render,
    "markdown": markdown.render,
    "github": github.render,
    "csv": csv.render,
    "card": card.render,
}

UPDATERS: dict[str, tuple[Callable[[str], None], Callable[[str, ScanReport], str]]] = {
    "card": (card.check, card.updated),
}
"""Formats that go into a file that is there already: whether that will work (else AuditError), and
how.
"""
