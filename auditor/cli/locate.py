"""`audit locate`: in which layers of the network the trait of a data set enters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from auditor.cli.scan import BASE
from auditor.cli.verify import DEFAULT_BUDGET, parse_budget, parse_layers, parse_target, recipe_settings
from auditor.errors import AuditError

if TYPE_CHECKING:
    from auditor.attribution.result import LocateReport

FORMATS = ("json", "svg")
UNSAID = 3
PLACES = 96


def locate(
    dataset: Annotated[str, Argument(metavar="DATASET", help="File, folder of files, or hub name.")],
    reference: Annotated[str, Option(metavar="MODEL", help="Base of the students: built-in, hub name, folder.")] = BASE,
    trait: Annotated[
        str | None, Option(metavar="NAME", help="Trait to locate; default: what the last scan found.")
    ] = None,
    counterfactual: Annotated[
        str | None, Option(metavar="NAME", help="Compare with this trait; default: with the reference without one.")
    ] = None,
    panel: Annotated[list[str] | None, Option(metavar="PANEL", help="Built-in or YAML file; repeatable.")] = None,
    control: Annotated[
        str | None, Option(metavar="FILE", help="Clean rows for the same prompts; default: the reference writes them.")
    ] = None,
    layers: Annotated[
        str | None, Option(metavar="N,..|none", help="Train each of these layers alone; default: a spread of 6.")
    ] = None,
    places: Annotated[int, Option(metavar="N", min=16, help="Rows to attribute at most.")] = PLACES,
    blocks: Annotated[int, Option(metavar="N", min=1, help="Disjoint blocks of rows, one student each.")] = 3,
    rows: Annotated[int | None, Option(metavar="N", min=1, help="Rows of a block; default: what there is.")] = None,
    updates: Annotated[int | None, Option(metavar="N", min=1, help="Of each student; default: one pass.")] = None,
    budget: Annotated[
        str | None, Option(metavar="TIME", help="As 90s, 15m or 2h; default: 30m, or none with --rows or --updates.")
    ] = None,
    rank: Annotated[int | None, Option(metavar="N", min=1, help="Of the students' LoRA.  [default: 8]")] = None,
    alpha: Annotated[int | None, Option(metavar="N", min=1, help="Scale of the LoRA.  [default: 16]")] = None,
    full: Annotated[
        bool, Option("--full", help="Train all weights of the layers; default for models under 10M.")
    ] = False,
    learning_rate: Annotated[
        float | None, Option(metavar="RATE", min=0.0, help="[default: 2e-4; --full 2e-5; under 10M weights 3e-4]")
    ] = None,
    seed: Annotated[int, Option(metavar="N", min=0, help="Seed of every random choice.")] = 0,
    device: Annotated[str | None, Option(metavar="NAME", help="cpu, cuda or mps; default: the best one.")] = None,
    output: Annotated[
        list[str] | None, Option(metavar="FORMAT=PATH", help="Also write json or svg; repeatable.")
    ] = None,
    fresh: Annotated[bool, Option("--fresh", help="Do not go on from an earlier run.")] = False,
) -> int:
    """Say in which layers of the reference the trait of DATASET enters.

    By attribution at the first divergence tokens, by students that train one layer, and by the weights that moved.

    Exit codes: 0 layers are named; 3 it cannot be said, or the students show no transfer.
    """
    seconds = parse_budget(budget or (DEFAULT_BUDGET if rows is None and updates is None else None))
    chosen = () if layers == "none" else parse_layers(layers)
    if trait == "none":
        raise AuditError("--trait none has nothing to locate.", "Name one; `audit traits` lists them.")
    asked = recipe_settings(rank, alpha, None, full, learning_rate)
    targets = [parse_target(value, trait, FORMATS) for value in output or ()]

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.locate import locate as find
    from auditor.report.locate import render
    from auditor.transfer.students import Recipe

    with progress_on(console(stderr=True)) as progress:
        report = find(
            dataset,
            reference=reference,
            panels=panel or ["default"],
            trait=trait,
            counterfactual=counterfactual,
            control=control,
            layers=chosen,
            places=places,
            blocks=blocks,
            rows=rows,
            updates=updates,
            budget=seconds,
            recipe=Recipe(**asked) if asked else None,
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
    """Write every report, each wholly or not at all. Raises RunError when a file cannot be written."""
    from auditor.report.heat_map import svg
    from auditor.report.locate import render_json
    from auditor.rundir import write_file

    for name, path in targets:
        write_file(path, (svg(report) if name == "svg" else render_json(report)).encode())
