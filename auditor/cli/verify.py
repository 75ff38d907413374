"""`audit verify`: how much of a trait is left after a mitigation, by training students."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from auditor.cli.exit import exit_code
from auditor.cli.last import tell_last_scan
from auditor.cli.options import Columns, Control, EngineOption, Fresh, RayAddress, RowFormat
from auditor.cli.output import check_data_sets, check_outputs
from auditor.cli.parsing import parse_columns, parse_file
from auditor.cli.student_options import with_student_options
from auditor.errors import AuditError
from auditor.release.decision import WORST_FIRST, FailOn
from auditor.scanning.scan_report import OutcomeName
from auditor.students.settings import StudentSettings

if TYPE_CHECKING:
    from auditor.students.result import TransferResult

NO_TRANSFER = 3


@with_student_options
def verify(
    datasets: Annotated[
        list[str], Argument(metavar="ORIGINAL [MITIGATED]...", help="The data sets to train on.")
    ],
    settings: StudentSettings,
    trait: Annotated[
        str | None,
        Option(
            metavar="NAME|none",
            help="What to read out; default: what the last scan found; none: all.",
        ),
    ] = None,
    control: Control = None,
    format_of: RowFormat = None,
    columns: Columns = "",
    output: Annotated[
        list[str] | None,
        Option(metavar="FORMAT=PATH", help="Also write html, json or svg; repeatable."),
    ] = None,
    fail_on: Annotated[
        FailOn | None,
        Option(
            help="Also end with 1 for a MITIGATED set that is not reduced; alone, for ORIGINAL."
        ),
    ] = None,
    engine: EngineOption = None,
    ray_address: RayAddress = None,
    fresh: Fresh = False,
) -> int:
    """Train students on ORIGINAL and on each MITIGATED set, and print how much of the trait's
    effect is left.

    Exit codes: 0 done; 3 no transfer was shown, so that nothing can be said about a defence. With
    --fail-on, 1 as well.
    """
    # An experiment is long: whatever can be wrong with its reports is found before it.
    targets = [parse_file(value, ("html", "json", "svg")) for value in output or ()]
    roles = parse_columns(columns)
    if trait == "none" and any(name == "svg" for name, _ in targets):
        raise AuditError(
            "The open readout has no plot.", "Leave out --output svg=..., or name a --trait."
        )
    check_data_sets(*datasets, control)
    read = [control, settings.reference, *settings.panels]
    for dataset in datasets:
        check_outputs([path for _, path in targets], read, dataset)

    from auditor.cli.configuration import resolve
    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.commands.verify import verify as compare
    from auditor.engine import engine_named
    from auditor.report.shared.dose_plot import dose_plot
    from auditor.report.shared.json_text import json_text
    from auditor.report.verify import terminal_page, to_dict, to_html
    from auditor.runs.run_directory import write_file
    from auditor.students import processes

    if trait is None and processes.is_first():
        tell_last_scan("the trait")
    # Under `accelerate launch` all processes have the terminal; only the first one uses it.
    errors = console(stderr=True)
    errors.quiet = not processes.is_first()
    named = {"engine": engine, "ray_address": ray_address}
    config = resolve(Path.cwd(), os.environ, named).config
    with progress_on(errors) as progress:
        report = compare(
            datasets[0],
            datasets[1:],
            settings,
            trait=trait,
            control=control,
            format_of=format_of,
            columns=roles,
            fresh=fresh,
            root=Path.cwd(),
            engine=engine_named(config.engine, config.ray_address, progress),
            progress=progress,
        )
    if processes.is_first():
        for name, path in targets:
            match name:
                case "html":
                    text = to_html(report)
                case "svg":
                    text = dose_plot(report.result)
                case _:
                    text = json_text(to_dict(report))
            write_file(path, text.encode())
        show(terminal_page(report))
    if fail_on is None:
        return 0 if report.result.transferred else NO_TRANSFER
    return exit_code(outcome(report.result, datasets[1:]), fail_on)


def outcome(result: TransferResult, mitigated: Sequence[str]) -> OutcomeName:
    """The worst of what the mitigated sets came to; for the original alone, whether it was shown to
    transfer.

    failed: it transfers, or a mitigated set leaves all of the effect. inconclusive: no transfer was
    shown, or an interval of what is left holds all of the effect and less.
    """
    from auditor.release.verifications import defended

    if not result.transferred:
        return "inconclusive"
    # Random controls are arms too, but no mitigated sets.
    ratios = {arm.name: arm.effect_ratio for arm in result.arms}
    outcomes = {
        defended(arm.verdict, ratio.interval if (ratio := ratios[arm.name]) else None, "reduced")
        for arm in result.arms[1:]
        if arm.name in mitigated
    } or {"failed"}
    return min(outcomes, key=WORST_FIRST.index)
