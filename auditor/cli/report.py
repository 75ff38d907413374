"""`audit report`: the report of a kept scan, again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument

from auditor.cli.options import ScanOutput
from auditor.cli.output import check_outputs, takes_stdout, write_targets
from auditor.cli.parsing import parse_targets


def report(
    run: Annotated[
        str | None,
        Argument(
            metavar="RUN",
            help="Directory, key or its beginning, or JSON report; default: the last scan here.",
        ),
    ] = None,
    output: ScanOutput = None,
) -> int:
    """Show the report of a scan that is kept here again, and write it in other formats.

    Nothing is scanned and no model is loaded. `audit runs` lists what is kept.

    Exit codes: 0 shown, whatever the verdict.
    """
    targets = parse_targets(output or ())
    check_outputs([target.path for target in targets], [run], None)

    from auditor.cli.console import show
    from auditor.commands.kept_report import kept_report
    from auditor.report.scan.terminal import terminal_page

    kept = kept_report(run, Path.cwd())
    try:
        write_targets(kept, targets)
    finally:
        show(terminal_page(kept), stderr=takes_stdout(targets))
    return 0
