"""The verb `verify`: train students on a data set and its mitigated forms, and report how much of a
trait is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from auditor.errors import RunError, TraitError
from auditor.model import load as models
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.report.shared.dose_plot import svg
from auditor.report.verify import to_dict
from auditor.runs.run_directory import RunDir, installed_versions, last_run
from auditor.students import processes
from auditor.students.arms import DatasetArm, digest, random_drop, random_mask, read_arm
from auditor.students.control import control_writer
from auditor.students.experiment import run_transfer
from auditor.students.result import VerifyReport
from auditor.students.training import TrainingConfig, default_config
from auditor.traits.panel import load_panels

OPEN = "none"
PLOT = "dose.svg"

Show = Callable[[Progress], None]


def verify(
    original: str,
    mitigated: Sequence[str] = (),
    *,
    reference: str,
    names: Sequence[str] | None = None,
    panels: Sequence[str] = ("default",),
    trait: str | None = None,
    control: str | None = None,
    blocks: int = 3,
    rows: int | None = None,
    updates: int | None = None,
    budget: float | None = None,
    recipe: TrainingConfig | None = None,
    format_of: str | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    device: str | None = None,
    fresh: bool = False,
    root: Path = Path(),
    progress: Show = lambda _: None,
) -> VerifyReport:
    """Train students on the data sets and report what each leaves of the original's effect on
    `trait`.

    names: what the report calls the original and each mitigated set; None is their paths. trait: a
        name of the panels, "none" for the open readout; None is the trait that the last scan in
        `root` found. control: a clean data set for the same prompts; None lets the reference write
        it (auditor.students.control). rows: a block; None is all there are. updates: of a student;
        None is one pass, or 60 where that is more. budget: seconds, None is no limit.
    recipe: how students are trained; None is `default_config`. format_of, columns: how all data
    sets are read. For each mitigated set that masks tokens or drops rows there is also an arm with
    as many random ones.

    The report, its plot and the finished students are kept under `root`/.audit; the same arguments
    on the same data resume an unfinished run, unless `fresh`. Under `accelerate launch` several
    processes share the students out. Raises: AuditError (auditor.errors) for input, model, trait or
    disk trouble, with the next step.
    """
    panel = load_panels(panels)
    chosen = trait_of_last_scan(root) if trait is None else trait
    asked = None if chosen == OPEN else chosen
    prompt = None if asked is None else panel.trait(asked).prompts[0]
    progress(Progress("reading the data sets", 0, None))
    called = list(names or [original, *mitigated])
    read = partial(read_arm, format_of=format_of, columns=columns)
    first = read(original, called[0], manifest=False)
    progress(Progress("loading the reference", 0, None))
    lm = models.load(reference, device=processes.device(device), dtype="float32")
    renderer, recipe = ChatTokenizer(lm), recipe or default_config(lm)
    made = zip(mitigated, called[1:], strict=True)
    others = [read(path, name, original=first, lm=lm) for path, name in made]
    arms = [first, *with_random_controls(first, others, renderer, seed)]
    given = None if control is None else read(control, original=first, manifest=False)
    settings = {
        "trait": chosen,
        "panel": panel.name,
        "panel_sha256": panel.sha256,
        "blocks": blocks,
        "rows": rows,
        "updates": updates,
        "budget": budget,
        "seed": seed,
        "recipe": asdict(recipe),
    }
    datasets = {arm.name: digest(arm) for arm in [*arms, *([given] if given else [])]}
    about = {
        "name": lm.name,
        "sha256": lm.sha256,
        "dtype": lm.dtype,
        "device": lm.device.split(":")[0],
    }
    versions = installed_versions()
    identity = {
        "datasets": datasets,
        "reference": about,
        "settings": settings,
        "versions": versions,
    }
    first_process = processes.is_first()
    open_run = partial(
        RunDir.open, root, {"verb": "verify", **identity}, fresh=fresh, joins=not first_process
    )
    with processes.in_turn(open_run) as run:
        result = run_transfer(
            lm,
            arms,
            given or control_writer(lm, renderer, first, prompt, seed, run, progress),
            panel,
            asked,
            blocks=blocks,
            rows_per_block=rows,
            updates=updates,
            seed=seed,
            recipe=recipe,
            budget=budget,
            store=run,
            progress=progress,
        )
        report = VerifyReport(result, datasets, about, settings, versions)
        if first_process:
            if asked is not None:
                run.write_text(PLOT, svg(result))
            run.finish(to_dict(report))
    return report


def trait_of_last_scan(root: Path) -> str:
    """The trait that the last scan in `root` found. Raises TraitError when there is none."""
    hint = "Name one with --trait, or use --trait none for the open readout."
    try:
        report = json.loads((last_run(root) / "report.json").read_text(encoding="utf-8"))
        found = report["trait"]
    except (RunError, OSError, ValueError, LookupError, TypeError) as error:
        raise TraitError("No trait is named, and there is no finished scan here.", hint) from error
    if not isinstance(found, str):
        raise TraitError("No trait is named, and the last scan found none.", hint)
    return found


def with_random_controls(
    original: DatasetArm, mitigated: Sequence[DatasetArm], renderer: ChatTokenizer, seed: int
) -> list[DatasetArm]:
    """Each mitigated arm, followed by its random controls: as many tokens masked, as many rows
    dropped, at random.
    """
    arms = []
    for arm in mitigated:
        arms.append(arm)
        if arm.masked:
            arms.append(random_mask(arm, renderer, seed))
        if original.rows.keys() - arm.rows.keys():
            arms.append(random_drop(arm, original, seed))
    return arms
