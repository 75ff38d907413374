"""The report of a scan: its page at a terminal, and the formats of its files (docs/formats.md).

A format is one file: its name here, and `FORMAT` in it. A format is imported only when it is loaded
by name, since `audit --help` may not wait for Jinja.
"""

from __future__ import annotations

from importlib import import_module

from auditor.report.scan.interface import Format

FORMATS = ("json", "html", "sarif", "junit", "markdown", "github", "csv", "card")


def load(name: str) -> Format:
    """The format `name` of FORMATS."""
    loaded: Format = import_module(f"{__name__}.{name}").FORMAT
    return loaded
