"""`audit check-data`: what a scan would read of a data set."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from auditor.cli.options import Columns, RowFormat, SideOption
from auditor.cli.parsing import parse_columns

# What the reasons mean for which rows are skipped; reports count by the short words.
REASONS = {
    "null": "a value is missing",
    "wrong_type": "a value is neither text nor turns, or a role is unknown",
    "broken_utf8": "the text is not UTF-8",
    "bad_tool_calls": "the tool calls are no list of calls that each name a function",
    "not_json": "the line is not JSON",
    "no_assistant_turn": "nobody answers",
    "other_side": "the other side of a preference set",
    "not_trained_on": "a key takes every answer out of training",
    "empty_completion": "the completion is empty",
    "duplicate": "the same as an earlier row, and scored once",
}


def check_data(
    dataset: Annotated[
        str,
        Argument(
            metavar="DATASET", help="File, folder, pattern, address, hub name, or - for stdin."
        ),
    ],
    format_of: RowFormat = None,
    columns: Columns = "",
    side: SideOption = None,
) -> int:
    """Say what a scan would read of DATASET: format, columns, and what will not be scored and why.

    No model is loaded, and nothing is kept. "No pass" is what forbids the verdict "no risk found"
    whatever the rows say. What only a reference can tell is left out: rows that are too long for
    it, and turns that repeat.

    Exit codes: 0 it can be read, whatever was found; 2 it cannot.
    """
    roles = parse_columns(columns)

    from rich.table import Table
    from rich.text import Text

    from auditor.cli.console import show
    from auditor.commands.check_data import check_data as check
    from auditor.report.shared.words import safe

    done = check(dataset, format_of=format_of, columns=roles, side=side)
    where = "" if done.files == 1 else f" in {done.files:,} files"
    lines = [
        ("Data set", f"{done.name}, {done.rows:,} rows{where}"),
        ("Format", done.format),
        *(("Column", f"{column} is the {role}") for role, column in done.columns.items()),
        ("Scored", f"{done.scorable:,} rows, or as many of them as a scan draws"),
    ]
    for reason, count in done.skipped.items():
        lines.append(("Skipped", f"{count:,} {reason}: {REASONS.get(reason, 'not readable')}"))
    by_template = "scored if the reference's chat template writes it"
    for key, share in done.by_template.items():
        lines.append(("By template", f"{key} ({100 * share:.1f} % of the rows): {by_template}"))
    lines += [("Not read", item.text) for item in done.unread]
    lines += [("No pass", obstacle.reason) for obstacle in done.obstacles]
    lines += [
        (name, text) for name, text in (("Note", done.note), ("SHA-256", done.sha256)) if text
    ]
    page = Table.grid(padding=(0, 3, 0, 0))
    for name, text in lines:
        page.add_row(Text(name), Text(safe(text), overflow="fold"))
    show(page)
    return 0
