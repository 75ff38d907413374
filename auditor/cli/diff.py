"""`audit diff`: what changed between the audits of two releases of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from auditor.cli.config import resolved
from auditor.cli.output import check_outputs
from auditor.cli.parsing import parse_file

NOT_WORSE, WORSE, NOT_COMPARABLE = 0, 1, 3


def diff(
    run_a: Annotated[
        str,
        Argument(metavar="RUN_A", help="The earlier run: directory, key or its beginning, report."),
    ],
    run_b: Annotated[str, Argument(metavar="RUN_B", help="The later run.")],
    output: Annotated[
        list[str] | None,
        Option(metavar="json=PATH", help="Also write the comparison as JSON; repeatable."),
    ] = None,
) -> int:
    """Compare two scans: the verdicts, the doses of the traits, and the rows of the data sets.

    Exit codes: 0 nothing got worse; 1 B's verdict is worse, or B has a trait that A had not; 3
    nothing got worse, but the scans cannot be compared (another reference, tokenizer, template,
    number format or panel).
    """
    targets = [parse_file(value, ["json"], example="diff.json") for value in output or ()]
    check_outputs([path for _, path in targets], [run_a, run_b], None)
    resolved()  # for the limits: the rows are read again

    from auditor.cli.console import show
    from auditor.commands.diff import diff as compare
    from auditor.report.diff import terminal_page, to_dict
    from auditor.report.shared.json_text import json_text
    from auditor.runs.run_directory import write_file

    changes = compare(run_a, run_b, root=Path.cwd())
    for _, path in targets:
        write_file(path, json_text(to_dict(changes)).encode())
    show(terminal_page(changes))
    if changes.worse:
        return WORSE
    return NOT_COMPARABLE if changes.unfair else NOT_WORSE
