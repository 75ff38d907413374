"""`audit locate`: in which layers of the network the trait of a data set enters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from auditor.cli.config import resolved
from auditor.cli.options import (
    Alpha,
    BlockRows,
    Budget,
    Control,
    Device,
    Fresh,
    Full,
    LearningRate,
    Panels,
    Rank,
    Reference,
    Seed,
    Updates,
)
from auditor.cli.verify import (
    DEFAULT_BUDGET,
    parse_budget,
    parse_layers,
    parse_target,
    recipe_settings,
)
from auditor.errors import AuditError

if TYPE_CHECKING:
    from auditor.attribution.result import LocateReport


FORMATS = ("json", "svg")
UNSAID = 3
PLACES = 96


def locate(
    dataset: Annotated[
        str, Argument(metavar="DATASET", help="File, folder of files, or hub name.")
    ],
    reference: Reference = None,
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
    panel: Panels = None,
    control: Control = None,
    layers: Annotated[
        str | None,
        Option(
            metavar="N,..|none", help="Train each of these layers alone; default: a spread of 6."
        ),
    ] = None,
    places: Annotated[int, Option(metavar="N", min=16, help="Rows to attribute at most.")] = PLACES,
    blocks: Annotated[
        int, Option(metavar="N", min=1, help="Disjoint blocks of rows, one student each.")
    ] = 3,
    rows: BlockRows = None,
    updates: Updates = None,
    budget: Budget = None,
    rank: Rank = None,
    alpha: Alpha = None,
    full: Full = False,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    device: Device = None,
    output: Annotated[
        list[str] | None, Option(metavar="FORMAT=PATH", help="Also write json or svg; repeatable.")
    ] = None,
    fresh: Fresh = False,
) -> int:
    """Say in which layers of the reference the trait of DATASET enters.

    By attribution at the first divergence tokens, by students that train one layer, and by the
    weights that moved.

    Exit codes: 0 layers are named; 3 it cannot be said, or the students show no transfer.
    """
    seconds = parse_budget(budget or (DEFAULT_BUDGET if rows is None and updates is None else None))
    config = resolved(reference=reference, panels=panel).config
    chosen = () if layers == "none" else parse_layers(layers)
    if trait == "none":
        raise AuditError(
            "--trait none has nothing to locate.", "Name one; `audit traits` lists them."
        )
    asked = recipe_settings(rank, alpha, None, full, learning_rate)
    targets = [parse_target(value, trait, FORMATS) for value in output or ()]

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.commands.locate import locate as find
    from auditor.report.locate import render
    from auditor.students.training import TrainingConfig

    with progress_on(console(stderr=True)) as progress:
        report = find(
            dataset,
            reference=config.reference,
            panels=config.panels,
            trait=trait,
            counterfactual=counterfactual,
            control=control,
            layers=chosen,
            places=places,
            blocks=blocks,
            rows=rows,
            updates=updates,
            budget=seconds,
            recipe=TrainingConfig(**asked) if asked else None,
            seed=seed,
            device=device,
            fresh=fresh,
            root=Path.cwd(),
            progress=progress,
        )
    write_targets(report, targets)
    show(render(report))
    said = report.carriers.said and (report.students is None or report.students.transferred)
    return 0 if said else UNSAID


def write_targets(report: LocateReport, targets: Sequence[tuple[str, Path]]) -> None:
    """Write every report, each wholly or not at all.

    Raises RunError when a file cannot be written.
    """
    from auditor.report.locate import render_json
    from auditor.report.shared.heat_map import svg
    from auditor.runs.run_directory import write_file

    for name, path in targets:
        write_file(path, (svg(report) if name == "svg" else render_json(report)).encode())
