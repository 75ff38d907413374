"""`audit runs`: what was audited here."""

from __future__ import annotations

from pathlib import Path


def runs() -> int:
    """List the runs that are kept under .audit in this directory, newest first.

    A run keeps a report and the work behind it, so that the same command goes on from it or shows
    it again. Of a run that this machine has not written only the key is shown.
    """
    from datetime import datetime

    from rich.text import Text

    from auditor.cli.console import show, table
    from auditor.report.shared.words import safe
    from auditor.runs.kept import finished_scans, kept_runs

    kept = kept_runs(Path.cwd())
    if not kept:
        show("No run is kept here. Make one with: audit scan DATASET")
        return 0
    rows = table("run", "date", "verb", "data set", "verdict", "reference")
    for run in kept:
        date = datetime.fromtimestamp(run.changed).strftime("%Y-%m-%d %H:%M")
        state = run.verdict or ("finished" if run.finished else "unfinished")
        if not run.signed:
            state = "not of this machine"
        shown = (run.key, date, run.verb, run.dataset, state.replace("_", " "), run.reference)
        rows.add_row(*(Text(safe(value)) for value in shown))
    show(rows)
    if scans := finished_scans(Path.cwd()):
        show(f"\nShow one again: audit report {safe(scans[0].key)}")
    return 0
