"""`audit scan`: score one data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from auditor.cli.config import resolved, tell_settings
from auditor.cli.exit import exit_code
from auditor.cli.options import (
    Budget,
    ChatTemplate,
    Columns,
    Device,
    Dtype,
    EngineOption,
    Exclude,
    Fresh,
    Panels,
    RayAddress,
    Reference,
    RowFormat,
    ScanOutput,
    SideOption,
    Students,
    SystemTurn,
    Tuned,
)
from auditor.cli.output import check_data_sets, check_outputs, takes_stdout, write_targets
from auditor.cli.parsing import choose_detectors, parse_columns, parse_rows, parse_targets
from auditor.errors import AuditError
from auditor.release.decision import FailOn
from auditor.scanning.scan_report import OUTCOMES
from auditor.scanning.settings import ScoreRows
from auditor.traits import PROMPT
from detectors import DETECTORS


def scan(
    dataset: Annotated[
        str,
        Argument(
            metavar="DATASET", help="File, folder, pattern, address, hub name, or - for stdin."
        ),
    ],
    reference: Reference = None,
    chat_template: ChatTemplate = None,
    system_turn: SystemTurn = None,
    panel: Panels = None,
    trait: Annotated[
        list[str] | None, Option(metavar="NAME", help="Test this trait only; repeatable.")
    ] = None,
    hypothesis: Annotated[
        list[str] | None,
        Option(metavar="PROMPT", help="Also test a system prompt that you suspect; repeatable."),
    ] = None,
    teacher: Annotated[
        str | None, Option(metavar="MODEL", help="The model that wrote the data, if at hand.")
    ] = None,
    rows: Annotated[
        str | None,
        Option(
            metavar="N|all|auto",
            help="Rows to score at most; auto: what --budget allows.  [default: auto]",
        ),
    ] = None,
    seed: Annotated[
        int | None, Option(metavar="N", min=0, help="Seed of every random choice.  [default: 0]")
    ] = None,
    detectors: Annotated[
        list[str] | None,
        Option(metavar="A,B", help=f"Only these detectors, of {', '.join(DETECTORS)}."),
    ] = None,
    without: Annotated[
        list[str] | None, Option(metavar="A,B", help="All detectors but these.")
    ] = None,
    tuned: Tuned = False,
    students: Students = False,
    format_of: RowFormat = None,
    columns: Columns = "",
    side: SideOption = None,
    like: Annotated[
        list[str] | None,
        Option(
            metavar="DATASET",
            help="An earlier, clean data set of the same writer, to compare with; repeatable.",
        ),
    ] = None,
    exclude_open: Annotated[
        bool, Option("--exclude-open", help="Leave out rows that mention a trait openly.")
    ] = False,
    alpha: Annotated[
        float | None,
        Option(
            metavar="RATE", help="Highest rate of false alarms, between 0 and 1.  [default: 0.01]"
        ),
    ] = None,
    exclude: Exclude = None,
    budget: Budget = None,
    device: Device = None,
    dtype: Dtype = None,
    score_rows: Annotated[
        ScoreRows,
        Option(help="Rows whose scores are kept: all is every row of DATASET, after the verdict."),
    ] = "needed",
    output: ScanOutput = None,
    fail_on: Annotated[FailOn, Option(help="Verdicts that end with an error.")] = "inconclusive",
    engine: EngineOption = None,
    ray_address: RayAddress = None,
    fresh: Fresh = False,
) -> int:
    """Score DATASET for hidden traits and print the verdict.

    Options that are not given come from the environment or audit.yaml, where there is one: see
    audit config show.

    Exit codes: 0 no risk found; 1 risk found; 3 inconclusive.
    """
    targets = parse_targets(output or ())
    roles = parse_columns(columns)
    selected = choose_detectors(detectors or (), without or (), tuned=tuned)
    if alpha is not None and not 0 < alpha < 1:
        raise AuditError(
            f"--alpha {alpha} is not between 0 and 1.",
            "0.01 means one false alarm in a hundred scans.",
        )
    configuration = resolved(
        reference=reference,
        chat_template=chat_template,
        system=system_turn,
        panels=panel,
        rows=parse_rows(rows),
        seed=seed,
        alpha=alpha,
        exclude=exclude,
        budget=budget,
        dtype=dtype,
        side=side,
        like=like,
        hazard="required" if students else None,
        engine=engine,
        ray_address=ray_address,
    )
    tell_settings(configuration)
    check_data_sets(dataset)

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.commands.scan import scan as score
    from auditor.engine import engine_named
    from auditor.report.scan.terminal import terminal_page

    asked = configuration.scan_settings()
    settings = replace(
        asked,
        panels=[*asked.panels, *(f"{PROMPT}{prompt}" for prompt in hypothesis or ())],
        traits=tuple(trait or ()),
        teacher=teacher,
        detectors=selected,
        format_of=format_of,
        columns=roles,
        exclude_open=exclude_open,
        device=device,
        score_rows=score_rows,
    )
    read = [settings.reference, teacher, *settings.panels]
    check_outputs([target.path for target in targets], read, dataset)
    with progress_on(console(stderr=True)) as progress:
        config = configuration.config
        report = score(
            dataset,
            settings,
            fresh=fresh,
            root=Path.cwd(),
            engine=engine_named(config.engine, config.ray_address, progress),
            progress=progress,
        )
    try:
        write_targets(report, targets)
    finally:
        show(terminal_page(report), stderr=takes_stdout(targets))
    return exit_code(OUTCOMES[report.verdict.name], fail_on)
