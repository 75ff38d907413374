"""The last scan in the working directory, where a command goes on from it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer

from auditor.cli.logs import is_quiet
from auditor.errors import RunError


def tell_last_scan(what: str) -> None:
    """Say on standard error that `what`, as "the data set", is that of the last scan here, and
    which scan that is. Where there is none the command itself says so.
    """
    from auditor.report.shared.words import safe
    from auditor.runs.kept import KEY_SHOWN
    from auditor.runs.last_scan import last_scan

    if is_quiet():
        return
    with contextlib.suppress(RunError):
        last = last_scan(Path.cwd())
        typer.echo(
            f"Going on from the last scan here, of {safe(last.dataset)}: it gives {what} "
            f"(audit report {safe(last.run.name[:KEY_SHOWN])}).",
            err=True,
        )
