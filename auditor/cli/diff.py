"""`audit diff`: what changed between the audits of two releases of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from auditor.cli.config import resolved
from auditor.cli.output import check_outputs
from auditor.cli.parsing import parse_file
from auditor.errors import AuditError

NOT_WORSE, WORSE, NOT_COMPARABLE = 0, 1, 3


def diff(
    run_a: Annotated[
        str | None,
        Argument(
            metavar="RUN_A",
            help="The earlier run: directory, key or its beginning, report; default of both: the "
            "last two finished scans here.",
        ),
    ] = None,
    run_b: Annotated[str | None, Argument(metavar="RUN_B", help="The later run.")] = None,
    output: Annotated[
        list[str] | None,
        Option(metavar="FORMAT=PATH", help="Also write html or json; repeatable."),
    ] = None,
) -> int:
    """Compare two scans: the verdicts, the doses of the traits, and the rows of the data sets.

    Exit codes: 0 nothing got worse; 1 B's verdict is worse, or B has a trait that A had not; 3
    nothing got worse, but the scans cannot be compared (another reference, tokenizer, template,
    number format or panel).
    """
    if run_a is not None and run_b is None:
        raise AuditError(
            f"{run_a} is compared with nothing.",
            "Name two runs, or none for the last two scans; `audit runs` lists them.",
        )
    targets = [parse_file(value, ["html", "json"], example="diff.json") for value in output or ()]
    check_outputs([path for _, path in targets], [run_a, run_b], None)
    resolved()  # for the limits: the rows are read again

    from auditor.cli.console import show
    from auditor.commands.diff import diff as compare
    from auditor.report.diff import terminal_page, to_dict, to_html
    from auditor.report.shared.json_text import json_text
    from auditor.runs.kept import last_two_scans
    from auditor.runs.run_directory import write_file

    if run_a is None or run_b is None:
        run_a, run_b = map(str, last_two_scans(Path.cwd()))
    changes = compare(run_a, run_b, root=Path.cwd())
    for name, path in targets:
        text = to_html(changes) if name == "html" else json_text(to_dict(changes))
        write_file(path, text.encode())
    show(terminal_page(changes))
    if changes.worse:
        return WORSE
    return NOT_COMPARABLE if changes.unfair else NOT_WORSE
