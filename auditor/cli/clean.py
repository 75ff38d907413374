"""`audit clean`: remove the runs that are kept here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from auditor.errors import AuditError


def clean(
    runs: Annotated[
        list[str] | None,
        Argument(metavar="[RUN]...", help="Only these: keys, or their beginnings."),
    ] = None,
    every: Annotated[
        bool,
        Option(
            "--all",
            help="Also the last scan, finished verifications, and runs of other machines.",
        ),
    ] = False,
) -> int:
    """Remove the runs that are kept under .audit in this directory, and say how much was freed.

    Left in place, unless they are named or --all is given: the last scan and finished
    verifications, from which later commands go on, and runs that this machine has not written.
    Data sets that lie under .audit, those of audit mitigate and rows that a program scanned, are
    never removed.
    """
    if runs and every:
        raise AuditError("--all removes every run.", "Leave it out, or name no run.")

    from auditor.report.shared.words import safe
    from auditor.runs.kept import clean as remove

    done = remove(Path.cwd(), runs or (), every=every)
    plural = "" if done.removed == 1 else "s"
    echo(f"Removed: {done.removed} run{plural}, {done.freed / 1e6:.1f} MB freed.")
    for run, reason in done.left:
        what = f", {safe(run.verb)} of {safe(run.dataset)}" if run.signed else ""
        echo(f"Left: {safe(run.key)}{what}: {reason}.")
    return 0
