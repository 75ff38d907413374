"""`audit verify`: how much of a trait is left after a mitigation, by training students."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from auditor.cli.config import resolved
from auditor.cli.exit import exit_code
from auditor.cli.options import (
    Alpha,
    BlockRows,
    Budget,
    Control,
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
from auditor.errors import AuditError
from auditor.release.decision import FailOn
from auditor.scanning.scan_report import OutcomeName

if TYPE_CHECKING:
    from auditor.students.result import TransferResult, VerifyReport


NO_TRANSFER = 3
DEFAULT_BUDGET = "30m"
FORMATS = ("html", "json", "svg")
_UNITS = {"s": 1, "m": 60, "h": 3600}


def verify(
    datasets: Annotated[
        list[str], Argument(metavar="ORIGINAL [MITIGATED]...", help="The data sets to train on.")
    ],
    reference: Reference = None,
    trait: Annotated[
        str | None,
        Option(
            metavar="NAME|none",
            help="What to read out; default: what the last scan found; none: all.",
        ),
    ] = None,
    panel: Panels = None,
    control: Control = None,
    blocks: Annotated[
        int, Option(metavar="N", min=1, help="Disjoint blocks of rows, the unit of inference.")
    ] = 3,
    rows: BlockRows = None,
    updates: Updates = None,
    budget: Budget = None,
    rank: Rank = None,
    alpha: Alpha = None,
    layers: Layers = None,
    full: Full = False,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    device: Device = None,
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
    fresh: Fresh = False,
) -> int:
    """Train students on ORIGINAL and on each MITIGATED set, and print how much of the trait's
    effect is left.

    Exit codes: 0 done; 3 no transfer was shown, so that nothing can be said about a defence. With
    --fail-on, 1 as well.
    """
    config = resolved(reference=reference, panels=panel).config
    seconds = parse_budget(budget or (DEFAULT_BUDGET if rows is None and updates is None else None))
    asked = recipe_settings(rank, alpha, parse_layers(layers), full, learning_rate)
    targets = [parse_target(value, trait) for value in output or ()]

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.commands.verify import verify as compare
    from auditor.report.verify import render
    from auditor.students import processes
    from auditor.students.training import TrainingConfig

    errors = console(stderr=True)
    errors.quiet = not processes.is_first()
    with progress_on(errors) as progress:
        report = compare(
            datasets[0],
            datasets[1:],
            reference=config.reference,
            panels=config.panels,
            trait=trait,
            control=control,
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
    if processes.is_first():
        write_targets(report, targets)
        show(render(report))
    if fail_on is None:
        return 0 if report.result.transferred else NO_TRANSFER
    return exit_code(outcome(report.result, datasets[1:]), fail_on)


def outcome(result: TransferResult, mitigated: Sequence[str]) -> OutcomeName:
    """The worst of what the mitigated sets came to; for the original alone, whether it was shown to
    transfer.

    failed: it transfers, or a mitigated set leaves the whole effect. inconclusive: no transfer was
    shown, or an interval of what is left holds the whole effect and less.
    """
    from auditor.release.verifications import defended

    if not result.transferred:
        return "inconclusive"
    arms = [arm for arm in result.arms[1:] if arm.name in mitigated]
    left = {arm.name: arm.left.interval if arm.left else None for arm in arms}
    found = {defended(arm.verdict, left[arm.name], "reduced") for arm in arms} or {"failed"}
    return (
        "failed" if "failed" in found else "inconclusive" if "inconclusive" in found else "passed"
    )


def recipe_settings(
    rank: int | None,
    alpha: int | None,
    layers: tuple[int, ...] | None,
    full: bool,
    learning_rate: float | None,
) -> dict[str, Any]:
    """What the user says of the students' training, nothing for the default.

    Raises AuditError for contradictions.
    """
    if full and (rank or alpha or layers is not None):
        raise AuditError(
            "--full trains all weights.", "Leave out --full, or --rank, --alpha and --layers."
        )
    rate = learning_rate or (2e-5 if full else None)
    named = {
        "rank": rank,
        "alpha": alpha,
        "layers": layers,
        "full": full or None,
        "learning_rate": rate,
    }
    return {name: value for name, value in named.items() if value is not None}


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
        raise AuditError(
            f"--layers {value!r} are not numbers.", "Write --layers 0 or --layers 0,7."
        )
    return tuple(sorted({int(each) for each in value.split(",")}))


def parse_target(value: str, trait: str | None, known: Sequence[str] = FORMATS) -> tuple[str, Path]:
    """`FORMAT=PATH`, a known format. An experiment is long: whatever can be wrong is found here,
    before it.

    Raises AuditError for another format, a path that cannot be a file, or a plot of the open
    readout.
    """
    name, _, path = value.partition("=")
    if name not in known or not path:
        message = f"--output {value!r} is none of {', '.join(f'{each}=PATH' for each in known)}."
        raise AuditError(message, "Write --output json=report.json.")
    if name == "svg" and trait == "none":
        raise AuditError(
            "The open readout has no plot.", "Leave out --output svg=..., or name a --trait."
        )
    if not Path(path).parent.is_dir() or Path(path).is_dir():
        raise AuditError(f"{path} cannot be written.", "Name a file in a directory that exists.")
    return name, Path(path)


def write_targets(report: VerifyReport, targets: Sequence[tuple[str, Path]]) -> None:
    """Write every report, each wholly or not at all.

    Raises RunError when a file cannot be written.
    """
    from auditor.report.scan.html import render_verify
    from auditor.report.shared.dose_plot import svg
    from auditor.report.verify import render_json
    from auditor.runs.run_directory import write_file

    for name, path in targets:
        match name:
            case "html":
                text = render_verify(report)
            case "svg":
                text = svg(report.result)
            case _:
                text = render_json(report)
        write_file(path, text.encode())
