"""`audit study`: the paper's claims on a model of one's own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from auditor.cli.options import EngineOption, Fresh, Panels, RayAddress
from auditor.cli.output import check_outputs
from auditor.cli.parsing import parse_budget
from auditor.cli.student_options import with_student_options
from auditor.errors import AuditError
from auditor.students.settings import StudentSettings

if TYPE_CHECKING:
    from auditor.study.report import StudyReport


NO_TRANSFER = 3
REPORT = "study.json"

PartName = Literal["leakage", "entanglement", "divergence", "fragility", "all"]


@with_student_options
def study(
    part: Annotated[
        PartName,
        Argument(metavar="PART", help="Which claims."),
    ],
    settings: StudentSettings,
    output: Annotated[
        Path | None,
        Option("--output", "-o", metavar="DIR", help="Write the report (HTML, JSON, SVG) there."),
    ] = None,
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
    budget: Annotated[
        str | None,
        Option(metavar="TIME", help="As 90s, 15m or 2h: smaller experiments, to take no longer."),
    ] = None,
    max_tokens: Annotated[
        int, Option(metavar="N", min=1, help="Longest completion of the teachers.")
    ] = 32,
    workers: Annotated[
        int, Option(metavar="N", min=1, help="Processes at the same time, one thread each.")
    ] = 1,
    engine: EngineOption = None,
    ray_address: RayAddress = None,
    fresh: Fresh = False,
) -> int:
    """Test the claims of 2509.23886 with teachers and students of your own base model.

    Each claim gets one of three answers: holds, does not hold, cannot be said. A killed study goes
    on where it was.

    Exit codes: 0 done; 3 no transfer was shown, so that hardly anything can be said.
    """
    # A study has defaults of its own, and a panel of one group: its traits must be comparable.
    panels = tuple(panel or ["animals"])
    settings = replace(
        settings, panels=panels, blocks=blocks, rows=rows, budget=parse_budget(budget)
    )
    if output is not None:
        check_output(output)
        read = [settings.reference, sibling, *panels]
        check_outputs([output / "study.html", output / REPORT], read, None)

    from auditor.cli.configuration import resolve
    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.engine import engine_named
    from auditor.report.study import terminal_page, transferred
    from auditor.study.run import PARTS
    from auditor.study.run import study as run

    config = resolve(Path.cwd(), os.environ, {"engine": engine, "ray_address": ray_address}).config
    with progress_on(console(stderr=True)) as progress:
        report = run(
            PARTS if part == "all" else (part,),
            settings,
            sibling=sibling,
            traits=trait or [],
            max_tokens=max_tokens,
            workers=workers,
            engine=engine_named(config.engine, config.ray_address, progress),
            fresh=fresh,
            root=Path.cwd(),
            progress=progress,
        )
    if output is not None:
        write(report, output)
    show(terminal_page(report.values))
    return 0 if transferred(report.values) else NO_TRANSFER


def check_output(path: Path) -> None:
    """Raise AuditError unless `path` is new, empty, or holds a report, which is replaced."""
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
    from auditor.report.shared.json_text import json_text
    from auditor.report.study import to_html
    from auditor.runs.run_directory import write_file

    files = {
        "study.html": to_html(report.values, report.figures),
        REPORT: json_text(report.values),
        **report.figures,
    }
    for name, text in files.items():
        write_file(folder / name, text.encode())
