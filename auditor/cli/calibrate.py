"""`audit calibrate`: what benign data do to students of a base, measured once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from auditor.cli.config import resolved
from auditor.cli.options import ChatTemplate, Device, Fresh, Panels, Reference, Seed, SystemTurn

if TYPE_CHECKING:
    from auditor.commands.calibrate import CalibrationReport

NO_TRANSFER = 3


def calibrate(
    reference: Reference = None,
    chat_template: ChatTemplate = None,
    system_turn: SystemTurn = None,
    panel: Panels = None,
    carrier: Annotated[
        Literal["numbers", "text"], Option(help="What the data sets to be scanned consist of.")
    ] = "numbers",
    quick: Annotated[
        bool, Option("--quick", help="A quarter of the time, for wider intervals.")
    ] = False,
    seed: Seed = 0,
    device: Device = None,
    fresh: Fresh = False,
) -> int:
    """Measure how far benign data, and data of teachers tuned on a trait, move students of a base.

    audit scan --students needs it once for every base and panel. A killed calibration goes on where
    it was.

    Exit codes: 0 done; 3 students take nothing over, so that they cannot judge data.
    """
    config = resolved(
        reference=reference, chat_template=chat_template, system=system_turn, panels=panel
    ).config

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.commands.calibrate import calibrate as measure

    with progress_on(console(stderr=True)) as progress:
        report = measure(
            config.reference,
            tuple(config.panels),
            carrier,
            chat_template=config.chat_template,
            system=config.system,
            device=device,
            quick=quick,
            seed=seed,
            root=Path.cwd(),
            fresh=fresh,
            progress=progress,
        )
    for line in lines(report):
        show(line)
    return 0 if report.calibration.shows_transfer else NO_TRANSFER


def lines(report: CalibrationReport) -> list[str]:
    """What was measured, a sentence a line; `safe`."""
    from auditor.report.shared.words import safe
    from auditor.students.calibration import UPDATES

    calibration = report.calibration
    full = calibration.full_shift
    low, high = full.interval()
    blocks = len(next(iter(calibration.benign.values())))
    shown = [
        f"{safe(report.reference)}: {len(calibration.names)} answers, {blocks} blocks of {UPDATES} "
        f"updates; {len(calibration.benign)} benign data sets, teachers tuned on "
        f"{', '.join(map(safe, calibration.positive))}.",
        f"A dose of 1 is a shift of {full.effect:.3f} logits, 95 % [{low:.3f}, {high:.3f}].",
    ]
    for group, null in calibration.nulls(paired=False).items():
        spread = math.sqrt(float(null.variance.mean()))
        shown.append(f"{safe(group)}: benign data sets differ by {spread:.3f} logits (1 sd).")
    if not calibration.shows_transfer:
        shown.append("Students of this base take nothing over in so few updates: they judge none.")
    return [*shown, f"Kept in {safe(str(report.path))}"]
