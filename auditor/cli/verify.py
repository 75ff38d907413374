"""`audit verify`: how much of a trait is left after a mitigation, by training students."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from auditor.cli.scan import BASE
from auditor.errors import AuditError

if TYPE_CHECKING:
    from auditor.transfer.result import VerifyReport

NO_TRANSFER = 3
DEFAULT_BUDGET = "30m"
_UNITS = {"s": 1, "m": 60, "h": 3600}


def verify(
    datasets: Annotated[list[str], Argument(metavar="ORIGINAL [MITIGATED]...", help="The data sets to train on.")],
    reference: Annotated[str, Option(metavar="MODEL", help="Base of the students: built-in, hub name, folder.")] = BASE,
    trait: Annotated[
        str | None, Option(metavar="NAME|none", help="What to read out; default: what the last scan found; none: all.")
    ] = None,
    panel: Annotated[list[str] | None, Option(metavar="PANEL", help="Built-in or YAML file; repeatable.")] = None,
    control: Annotated[
        str | None, Option(metavar="FILE", help="Clean rows for the same prompts; default: the reference writes them.")
    ] = None,
    blocks: Annotated[int, Option(metavar="N", min=1, help="Disjoint blocks of rows, the unit of inference.")] = 3,
    rows: Annotated[int | None, Option(metavar="N", min=1, help="Rows of a block; default: what there is.")] = None,
    updates: Annotated[int | None, Option(metavar="N", min=1, help="Of each student; default: one pass.")] = None,
    budget: Annotated[
        str | None, Option(metavar="TIME", help="As 90s, 15m or 2h; default: 30m, or none with --rows or --updates.")
    ] = None,
    rank: Annotated[int, Option(metavar="N", min=1, help="Of the students' LoRA.")] = 8,
    alpha: Annotated[int, Option(metavar="N", min=1, help="Scale of the students' LoRA.")] = 16,
    layers: Annotated[str | None, Option(metavar="N,..", help="Train these layers only, from 0.")] = None,
    full: Annotated[bool, Option("--full", help="Train all weights instead of LoRA.")] = False,
    learning_rate: Annotated[
        float | None, Option(metavar="RATE", help="Default: 2e-4, with --full 2e-5.", min=0.0)
    ] = None,
    seed: Annotated[int, Option(metavar="N", min=0, help="Seed of every random choice.")] = 0,
    device: Annotated[str | None, Option(metavar="NAME", help="cpu, cuda or mps; default: the best one.")] = None,
    output: Annotated[
        list[str] | None, Option(metavar="FORMAT=PATH", help="Also write json or svg; repeatable.")
    ] = None,
    fresh: Annotated[bool, Option("--fresh", help="Do not go on from an earlier run.")] = False,
) -> int:
    """Train students on ORIGINAL and on each MITIGATED set, and print how much of the trait's effect is left.

    Exit codes: 0 done; 3 no transfer was shown, so that nothing can be said about a defence.
    """
    seconds = parse_budget(budget or (DEFAULT_BUDGET if rows is None and updates is None else None))
    chosen = parse_layers(layers)
    if full and chosen is not None:
        raise AuditError("--full trains all layers.", "Leave out --layers or --full.")
    targets = [parse_target(value, trait) for value in output or ()]

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.report.verify import render
    from auditor.transfer.students import Recipe
    from auditor.verify import verify as compare

    rate = learning_rate or (2e-5 if full else 2e-4)
    with progress_on(console(stderr=True)) as progress:
        report = compare(
            datasets[0],
            datasets[1:],
            reference=reference,
            panels=panel or ["default"],
            trait=trait,
            control=control,
            blocks=blocks,
            rows=rows,
            updates=updates,
            budget=seconds,
            recipe=Recipe(rank=rank, alpha=alpha, layers=chosen, full=full, learning_rate=rate),
            seed=seed,
            device=device,
            fresh=fresh,
            root=Path.cwd(),
            progress=progress,
        )
    write_targets(report, targets)
    show(render(report))
    return 0 if report.result.transferred else NO_TRANSFER


def parse_budget(value: str | None) -> float | None:
    """`90s`, `15m` or `2h` in seconds; None stays None. Raises AuditError for anything else."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value)
    if found is None or float(found[1]) == 0:
        raise AuditError(f"--budget {value!r} is not a time.", "Write --budget 90s, 15m or 2h.")
    return float(found[1]) * _UNITS[found[2]]


def parse_layers(value: str | None) -> tuple[int, ...] | None:
    """`0,7` as numbers; None stays None. Raises AuditError for anything else."""
    if value is None:
        return None
    if not re.fullmatch(r"\d+(,\d+)*", value):
        raise AuditError(f"--layers {value!r} are not numbers.", "Write --layers 0 or --layers 0,7.")
    return tuple(sorted({int(each) for each in value.split(",")}))


def parse_target(value: str, trait: str | None) -> tuple[str, Path]:
    """`json=PATH` or `svg=PATH`. An experiment takes long, so whatever can be wrong is found here, before it.

    Raises AuditError for another format, a path that cannot be a file, or a plot of the open readout.
    """
    name, _, path = value.partition("=")
    if name not in ("json", "svg") or not path:
        raise AuditError(f"--output {value!r} is neither json=PATH nor svg=PATH.", "Write --output json=verify.json.")
    if name == "svg" and trait == "none":
        raise AuditError("The open readout has no plot.", "Leave out --output svg=..., or name a --trait.")
    if not Path(path).parent.is_dir() or Path(path).is_dir():
        raise AuditError(f"{path} cannot be written.", "Name a file in a directory that exists.")
    return name, Path(path)


def write_targets(report: VerifyReport, targets: Sequence[tuple[str, Path]]) -> None:
    """Write every report, each wholly or not at all. Raises RunError when a file cannot be written."""
    from auditor.report.dose_plot import svg
    from auditor.report.verify import render_json
    from auditor.rundir import write_file

    for name, path in targets:
        write_file(path, (svg(report.result) if name == "svg" else render_json(report)).encode())
