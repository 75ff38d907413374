"""Reports as files, chosen by name from one dict. The page for a reader at a terminal stands in `terminal`."""

from __future__ import annotations

from collections.abc import Callable

from auditor.records import ScanReport
from auditor.report import json

RENDERERS: dict[str, Callable[[ScanReport], str]] = {"json": json.render}
