"""`audit study`: the paper's claims on a model of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from auditor.cli.config import resolved
from auditor.cli.options import (
    Alpha,
    Device,
    Fresh,
    Full,
    Layers,
    LearningRate,
    Panels,
    Rank,
    Reference,
    Seed,
    Updates,
)
from auditor.cli.verify import parse_budget, parse_layers, recipe_settings
from auditor.errors import AuditError

if TYPE_CHECKING:
    from auditor.study.report import StudyReport


NO_TRANSFER = 3
REPORT = "study.json"

PartName = Literal["leakage", "entanglement", "divergence", "fragility", "all"]


def study(
    part: Annotated[
        PartName,
        Argument(metavar="leakage|entanglement|divergence|fragility|all", help="Which claims."),
    ],
    output: Annotated[
        Path | None,
        Option("--output", "-o", metavar="DIR", help="Write the report (HTML, JSON, SVG) there."),
    ] = None,
    reference: Reference = None,
    sibling: Annotated[
        str | None,
        Option(metavar="MODEL", help="Another base, for students that do not share the teacher's."),
    ] = None,
    trait: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="Repeatable; default: the first three of the panel."),
    ] = None,
    panel: Panels = None,
    blocks: Annotated[
        int, Option("--blocks", "--seeds", metavar="N", min=2, help="Pairs of students a trait.")
    ] = 3,
    rows: Annotated[int, Option(metavar="N", min=32, help="Rows of a block.")] = 1000,
    updates: Updates = None,
    budget: Annotated[
        str | None,
        Option(metavar="TIME", help="As 90s, 15m or 2h: smaller experiments, to take no longer."),
    ] = None,
    rank: Rank = None,
    alpha: Alpha = None,
    layers: Layers = None,
    full: Full = False,
    learning_rate: LearningRate = None,
    max_tokens: Annotated[
        int, Option(metavar="N", min=1, help="Longest completion of the teachers.")
    ] = 32,
    workers: Annotated[
        int, Option(metavar="N", min=1, help="Processes at the same time, one thread each.")
    ] = 1,
    seed: Seed = 0,
    device: Device = None,
    fresh: Fresh = False,
) -> int:
    """Test the claims of 2509.23886 with teachers and students of your own base model.

    Each claim gets one of three answers: holds, does not hold, cannot be said. A killed study goes
    on where it was.

    Exit codes: 0 done; 3 no transfer was shown, so that hardly anything can be said.
    """
    seconds = parse_budget(budget)
    asked = recipe_settings(rank, alpha, parse_layers(layers), full, learning_rate)
    if output is not None:
        check_output(output)

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.report.study import render, transferred
    from auditor.students.training import TrainingConfig
    from auditor.study.run import PARTS
    from auditor.study.run import study as run

    with progress_on(console(stderr=True)) as progress:
        report = run(
            PARTS if part == "all" else (part,),
            reference=resolved(reference=reference).config.reference,
            sibling=sibling,
            panels=panel or ["animals"],
            traits=trait or [],
            blocks=blocks,
            rows=rows,
            updates=updates,
            budget=seconds,
            recipe=TrainingConfig(**asked) if asked else None,
            max_tokens=max_tokens,
            workers=workers,
            seed=seed,
            device=device,
            fresh=fresh,
            root=Path.cwd(),
            progress=progress,
        )
    if output is not None:
        write(report, output)
    show(render(report.values))
    return 0 if transferred(report.values) else NO_TRANSFER


def check_output(path: Path) -> None:
    """Raise AuditError unless `path` is new, empty, or holds an earlier report, which is replaced."""
    if path.is_dir() and (not any(path.iterdir()) or (path / REPORT).is_file()):
        return
    if path.exists():
        raise AuditError(
            f"{path} holds something else.", "Name a new folder, or that of an earlier study."
        )
    if not path.absolute().parent.is_dir():
        raise AuditError(f"There is no directory {path.parent}.", "Create it, or choose another.")


def write(report: StudyReport, folder: Path) -> None:
    """Write the page, the values and the figures.

    Raises RunError when the place cannot be written.
    """
    from auditor.report.study import to_html, to_json
    from auditor.runs.run_directory import write_file

    files = {
        "study.html": to_html(report.values, report.figures),
        REPORT: to_json(report.values),
        **report.figures,
    }
    for name, text in files.items():
        write_file(folder / name, text.encode())
