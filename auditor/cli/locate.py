"""`audit locate`: in which layers of the network the trait of a data set enters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from auditor.cli.last import tell_last_scan
from auditor.cli.options import Columns, Control, Fresh, RowFormat
from auditor.cli.output import check_data_sets, check_outputs
from auditor.cli.parsing import parse_columns, parse_file, parse_layers
from auditor.cli.student_options import with_student_options
from auditor.errors import AuditError
from auditor.students.settings import StudentSettings

UNSAID = 3
PLACES = 96


@with_student_options
def locate(
    dataset: Annotated[
        str, Argument(metavar="DATASET", help="File, folder of files, or hub name.")
    ],
    settings: StudentSettings,
    trait: Annotated[
        str | None,
        Option(metavar="NAME", help="Trait to locate; default: what the last scan found."),
    ] = None,
    counterfactual: Annotated[
        str | None,
        Option(
            metavar="NAME", help="Compare with this trait; default: with the reference without one."
        ),
    ] = None,
    control: Control = None,
    format_of: RowFormat = None,
    columns: Columns = "",
    layers: Annotated[
        str | None,
        Option(
            metavar="N,..|none", help="Train each of these layers alone; default: a spread of 6."
        ),
    ] = None,
    places: Annotated[int, Option(metavar="N", min=16, help="Rows to attribute at most.")] = PLACES,
    output: Annotated[
        list[str] | None,
        Option(metavar="FORMAT=PATH", help="Also write html, json or svg; repeatable."),
    ] = None,
    fresh: Fresh = False,
) -> int:
    """Say in which layers of the reference the trait of DATASET enters.

    By attribution at the first divergence tokens, by students that train one layer, and by the
    weights that moved.

    Exit codes: 0 layers are named; 3 it cannot be said, or the students show no transfer.
    """
    single = () if layers == "none" else parse_layers(layers)
    roles = parse_columns(columns)
    if trait == "none":
        raise AuditError(
            "--trait none has nothing to locate.", "Name one; `audit traits` lists them."
        )
    targets = [parse_file(value, ("html", "json", "svg")) for value in output or ()]
    check_data_sets(dataset, control)
    read = [control, settings.reference, *settings.panels]
    check_outputs([path for _, path in targets], read, dataset)

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.commands.locate import locate as find
    from auditor.report.locate import terminal_page, to_dict, to_html
    from auditor.report.shared.heat_map import heat_map
    from auditor.report.shared.json_text import json_text
    from auditor.runs.run_directory import write_file

    if trait is None:
        tell_last_scan("the trait")
    with progress_on(console(stderr=True)) as progress:
        report = find(
            dataset,
            settings,
            trait=trait,
            counterfactual=counterfactual,
            control=control,
            format_of=format_of,
            columns=roles,
            layers=single,
            places=places,
            fresh=fresh,
            root=Path.cwd(),
            progress=progress,
        )
    for name, path in targets:
        match name:
            case "html":
                text = to_html(report)
            case "svg":
                text = heat_map(report)
            case _:
                text = json_text(to_dict(report))
        write_file(path, text.encode())
    show(terminal_page(report))
    is_transfer_shown = report.students is None or report.students.transferred
    return 0 if report.carrying_layers.clear and is_transfer_shown else UNSAID
