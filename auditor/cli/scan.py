"""`audit scan`: score one data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from auditor.cli.output import parse_targets, takes_stdout, write_targets
from auditor.errors import AuditError
from auditor.records import EXIT_CODES

BASE = "smollm2-135m"
DEFAULT_ROWS = "auto"


def scan(
    dataset: Annotated[str, Argument(metavar="DATASET", help="File, folder of files, hub name, or - for stdin.")],
    reference: Annotated[str, Option(metavar="MODEL", help="Base of the students: built-in, hub name, folder.")] = BASE,
    panel: Annotated[list[str] | None, Option(metavar="PANEL", help="Built-in or YAML file; repeatable.")] = None,
    trait: Annotated[list[str] | None, Option(metavar="NAME", help="Test this trait only; repeatable.")] = None,
    teacher: Annotated[str | None, Option(metavar="MODEL", help="The model that wrote the data, if at hand.")] = None,
    rows: Annotated[
        str, Option(metavar="N|all|auto", help="Rows to score at most; auto: what ten minutes allow.")
    ] = DEFAULT_ROWS,
    seed: Annotated[int, Option(metavar="N", min=0, help="Seed of every random choice.")] = 0,
    detectors: Annotated[str, Option(metavar="A,B", help="Only these detectors.")] = "",
    without: Annotated[str, Option(metavar="A,B", help="All detectors but these.")] = "",
    format_of: Annotated[str | None, Option(metavar="FORMAT", help="Row format, if not to be detected.")] = None,
    columns: Annotated[str, Option(metavar="ROLE=COLUMN,..", help="Columns, as in prompt=question.")] = "",
    exclude_open: Annotated[bool, Option("--exclude-open", help="Leave out rows that mention a trait openly.")] = False,
    alpha: Annotated[float, Option(metavar="RATE", help="Highest rate of false alarms, between 0 and 1.")] = 0.01,
    device: Annotated[str | None, Option(metavar="NAME", help="cpu, cuda or mps; default: the best one.")] = None,
    dtype: Annotated[str | None, Option(metavar="NAME", help="float32 or bfloat16; default: by device.")] = None,
    output: Annotated[list[str] | None, Option(metavar="FORMAT=PATH", help="Also write a report; repeatable.")] = None,
    fresh: Annotated[bool, Option("--fresh", help="Do not go on from an earlier run.")] = False,
) -> int:
    """Score DATASET for hidden traits and print the verdict.

    Exit codes: 0 no risk found; 1 risk found; 3 inconclusive.
    """
    targets = parse_targets(output or ())
    most, roles, chosen = parse_rows(rows), parse_columns(columns), choose_detectors(detectors, without)
    if not 0 < alpha < 1:
        raise AuditError(f"--alpha {alpha} is not between 0 and 1.", "0.01 means one false alarm in a hundred scans.")

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.report.terminal import render
    from auditor.scan import scan as score

    with progress_on(console(stderr=True)) as progress:
        report = score(
            dataset,
            reference=reference,
            panels=panel or ["default"],
            traits=trait or [],
            teacher=teacher,
            rows=most,
            seed=seed,
            detectors=chosen,
            format_of=format_of,
            columns=roles,
            exclude_open=exclude_open,
            alpha=alpha,
            device=device,
            dtype=dtype,
            fresh=fresh,
            root=Path.cwd(),
            progress=progress,
        )
    try:
        write_targets(report, targets)
    finally:
        show(render(report), stderr=takes_stdout(targets))
    return EXIT_CODES[report.verdict.name]


def parse_rows(value: str) -> int | Literal["auto"] | None:
    """A number of rows, "auto", or None for "all". Raises AuditError for anything else."""
    if value == "auto":
        return "auto"
    if value == "all":
        return None
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise AuditError(f"--rows {value!r} is neither a positive number nor all.", "Write --rows 400 or --rows all.")
    return int(value)


def parse_columns(value: str) -> dict[str, str]:
    """`prompt=question,completion=answer` as {role: column}. Raises AuditError for anything else."""
    columns: dict[str, str] = {}
    for item in _items(value):
        role, separator, column = item.partition("=")
        if not separator or not role or not column or role in columns:
            raise AuditError(f"--columns {value!r} is not ROLE=COLUMN,...", "Write --columns prompt=A,completion=B.")
        columns[role] = column
    return columns


def choose_detectors(only: str, without: str) -> tuple[str, ...]:
    """Names of the detectors to run, in the order of the registry. Raises AuditError for a name it does not have."""
    from detectors import DETECTORS

    for name in (*_items(only), *_items(without)):
        if name not in DETECTORS:
            raise AuditError(f"There is no detector {name!r}.", f"Known: {', '.join(DETECTORS)}.")
    chosen = tuple(name for name in DETECTORS if name in (_items(only) or DETECTORS) and name not in _items(without))
    if not chosen:
        raise AuditError("No detector is left to run.", "Name one in --detectors, or fewer in --without.")
    return chosen


def _items(value: str) -> Sequence[str]:
    return [item.strip() for item in value.split(",") if item.strip()]
