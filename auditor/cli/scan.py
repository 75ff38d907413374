"""`audit scan`: score one data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from auditor.cli.config import resolved
from auditor.cli.exit import exit_code
from auditor.cli.options import Columns, Device, Dtype, Fresh, Panels, Reference, RowFormat, Tuned
from auditor.cli.output import parse_targets, takes_stdout, write_targets
from auditor.errors import AuditError
from auditor.release.decision import FailOn
from auditor.scanning.scan_report import OUTCOMES

if TYPE_CHECKING:
    from auditor.cli.configuration import Config
    from auditor.scanning.settings import ScanSettings


def scan(
    dataset: Annotated[
        str, Argument(metavar="DATASET", help="File, folder of files, hub name, or - for stdin.")
    ],
    reference: Reference = None,
    panel: Panels = None,
    trait: Annotated[
        list[str] | None, Option(metavar="NAME", help="Test this trait only; repeatable.")
    ] = None,
    teacher: Annotated[
        str | None, Option(metavar="MODEL", help="The model that wrote the data, if at hand.")
    ] = None,
    rows: Annotated[
        str | None,
        Option(
            metavar="N|all|auto",
            help="Rows to score at most; auto: what ten minutes allow.  [default: auto]",
        ),
    ] = None,
    seed: Annotated[
        int | None, Option(metavar="N", min=0, help="Seed of every random choice.  [default: 0]")
    ] = None,
    detectors: Annotated[
        list[str] | None, Option(metavar="A,B", help="Only these detectors.")
    ] = None,
    without: Annotated[
        list[str] | None, Option(metavar="A,B", help="All detectors but these.")
    ] = None,
    tuned: Tuned = False,
    format_of: RowFormat = None,
    columns: Columns = "",
    exclude_open: Annotated[
        bool, Option("--exclude-open", help="Leave out rows that mention a trait openly.")
    ] = False,
    alpha: Annotated[
        float | None,
        Option(
            metavar="RATE", help="Highest rate of false alarms, between 0 and 1.  [default: 0.01]"
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    output: Annotated[
        list[str] | None, Option(metavar="FORMAT=PATH", help="Also write a report; repeatable.")
    ] = None,
    fail_on: Annotated[FailOn, Option(help="Verdicts that end with an error.")] = "inconclusive",
    fresh: Fresh = False,
) -> int:
    """Score DATASET for hidden traits and print the verdict.

    Options that are not given come from the environment or audit.yaml, where there is one: see
    audit config show.

    Exit codes: 0 no risk found; 1 risk found; 3 inconclusive.
    """
    targets = parse_targets(output or ())
    roles = parse_columns(columns)
    chosen = choose_detectors(",".join(detectors or ()), ",".join(without or ()), tuned=tuned)
    if alpha is not None and not 0 < alpha < 1:
        raise AuditError(
            f"--alpha {alpha} is not between 0 and 1.",
            "0.01 means one false alarm in a hundred scans.",
        )
    config = resolved(
        reference=reference,
        panels=panel,
        rows=parse_rows(rows),
        seed=seed,
        alpha=alpha,
        dtype=dtype,
    ).config

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.commands.scan import scan as score
    from auditor.report.scan.terminal import terminal_page

    settings = scan_settings(
        config,
        traits=tuple(trait or ()),
        teacher=teacher,
        detectors=chosen,
        format_of=format_of,
        columns=roles,
        exclude_open=exclude_open,
        device=device,
    )
    with progress_on(console(stderr=True)) as progress:
        report = score(dataset, settings, fresh=fresh, root=Path.cwd(), progress=progress)
    try:
        write_targets(report, targets)
    finally:
        show(terminal_page(report), stderr=takes_stdout(targets))
    return exit_code(OUTCOMES[report.verdict.name], fail_on)


def scan_settings(config: Config, **options: Any) -> ScanSettings:
    """The settings of a scan: those of the configuration, and `options`, which have no key
    there.
    """
    from auditor.scanning.settings import ScanSettings

    return ScanSettings(
        reference=config.reference,
        panels=config.panels,
        rows=config.rows,
        seed=config.seed,
        alpha=config.alpha,
        dtype=config.dtype,
        **options,
    )


def parse_rows(value: str | None) -> int | Literal["all", "auto"] | None:
    """`--rows`: a number of rows, "all" or "auto"; None is not given. Raises AuditError for
    anything else.
    """
    if value is None or value == "auto":
        return None if value is None else "auto"
    if value == "all":
        return "all"
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise AuditError(
            f"--rows {value!r} is neither a positive number nor all.",
            "Write --rows 400 or --rows all.",
        )
    return int(value)


def parse_columns(value: str) -> dict[str, str]:
    """`prompt=question,completion=answer` as {role: column}.

    Raises AuditError for anything else.
    """
    columns: dict[str, str] = {}
    for item in _items(value):
        role, separator, column = item.partition("=")
        if not separator or not role or not column or role in columns:
            raise AuditError(
                f"--columns {value!r} is not ROLE=COLUMN,...",
                "Write --columns prompt=A,completion=B.",
            )
        columns[role] = column
    return columns


def choose_detectors(only: str, without: str, *, tuned: bool) -> tuple[str, ...]:
    """Names of the detectors to run: ours in the order of the registry, then those of other
    packages, if asked for.

    tuned: also the one of that name.

    Raises AuditError for a name that neither has.
    """
    from auditor.plugins import names
    from detectors import DEFAULT, DETECTORS

    for name in (*_items(only), *_items(without)):
        if name not in DETECTORS and name not in names("detector"):
            known = ", ".join([*DETECTORS, *names("detector")])
            raise AuditError(f"There is no detector {name!r}.", f"Known: {known}.")
    requested = {*(_items(only) or DEFAULT), *(["tuned"] if tuned else [])} - {*_items(without)}
    third_party = [name for name in _items(only) if name not in DETECTORS]
    chosen = tuple(n for n in dict.fromkeys([*DETECTORS, *third_party]) if n in requested)
    if not chosen:
        raise AuditError(
            "No detector is left to run.", "Name one in --detectors, or fewer in --without."
        )
    return chosen


def _items(value: str) -> Sequence[str]:
    return [item.strip() for item in value.split(",") if item.strip()]
