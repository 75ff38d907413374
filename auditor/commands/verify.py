"""The verb `verify`: train students on a data set and its mitigated forms, and report how much of a
trait is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from auditor.engine.interface import Engine
from auditor.engine.local import LocalEngine
from auditor.errors import AuditError, RunError, TraitError
from auditor.model import load as models
from auditor.model.identity import identity_of
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.report.shared.dose_plot import dose_plot
from auditor.report.verify import to_dict
from auditor.runs.run_directory import RunDir, installed_versions, last_run, read_json
from auditor.students import processes
from auditor.students.arms import DatasetArm, digest, random_drop, random_mask, read_arm
from auditor.students.control import control_writer
from auditor.students.experiment import run_transfer
from auditor.students.plan import size_of
from auditor.students.result import VerifyReport
from auditor.students.runner import student_workers
from auditor.students.settings import StudentSettings
from auditor.traits.panel import load_panels

OPEN = "none"
PLOT = "dose.svg"
OPEN_READOUT = "Name one with --trait, or use --trait none for the open readout."


def verify(
    original: str,
    mitigated: Sequence[str] = (),
    settings: StudentSettings | None = None,
    *,
    names: Sequence[str] | None = None,
    trait: str | None = None,
    control: str | None = None,
    format_of: str | None = None,
    columns: Mapping[str, str] | None = None,
    fresh: bool = False,
    root: Path = Path(),
    engine: Engine = LocalEngine(),  # noqa: B008 (it is frozen)
    progress: Callable[[Progress], None] = lambda _: None,
    **changes: Any,
) -> VerifyReport:
    """Train students on the data sets and report what each leaves of the original's effect on
    `trait`.

    settings: how students are trained and how large the experiment is; its defaults when None.
        changes: fields of `StudentSettings` by name, where they differ from `settings`, as
        `reference="organism", blocks=2`.
    names: what the report calls the original and each mitigated set; None is their paths. trait: a
        name of the panels, "none" for the open readout; None is the trait that the last scan in
        `root` found. control: a clean data set for the same prompts; None lets the reference write
        it (auditor.students.control).
    format_of, columns: how all data sets are read. For each mitigated set that masks tokens or
    drops rows there is also an arm with as many random ones.

    The report, its plot and the finished students are kept under `root`/.audit; the same arguments
    on the same data resume an unfinished run, unless `fresh`. Under `accelerate launch` several
    processes share the students out; so do the workers of an `engine` that is not this process.
    Raises: AuditError (auditor.errors) for input, model, trait or disk trouble, with the next step.
    """
    if engine.name != "local" and processes.count() > 1:
        raise AuditError(
            "Ray and accelerate launch both share the students out.", "Use one of them."
        )
    settings = replace(settings or StudentSettings(), **changes)
    panel = load_panels(settings.panels)
    if trait is None:
        trait = trait_of_last_scan(root, OPEN_READOUT)
    read_out = None if trait == OPEN else trait
    prompt = None if read_out is None else panel.trait(read_out).prompts[0]
    progress(Progress("reading the data sets", 0, None))
    arm_names = list(names or [original, *mitigated])
    read = partial(read_arm, format_of=format_of, columns=columns)
    # The original's own manifest would number its rows by those of an earlier original.
    first = read(original, arm_names[0], manifest=False)
    clean = None if control is None else read(control, original=first, manifest=False)
    # Too few rows are found here, and not after minutes of preparation.
    common = first.rows.keys() & (clean or first).rows.keys()
    size_of(len(common), settings.blocks, settings.rows, settings.updates, settings.batch)
    progress(Progress("loading the reference", 0, None))
    load = partial(
        models.load,
        settings.reference,
        device=processes.device(settings.device),
        dtype="float32",
        chat_template=settings.chat_template,
        system=settings.system,
    )
    lm = load()
    settings, renderer = settings.resolved(lm), ChatTokenizer(lm)
    treated = [
        read(path, name, original=first, lm=lm)
        for path, name in zip(mitigated, arm_names[1:], strict=True)
    ]
    # What a mask or a drop does must be told from what training on less does.
    arms = [first, *with_random_controls(first, treated, renderer, settings.seed)]
    reference = identity_of(lm)
    report_settings = {
        "trait": trait,
        "panel": panel.name,
        "panel_sha256": panel.sha256,
        **settings.as_dict(),
    }
    datasets = {arm.name: digest(arm) for arm in [*arms, *([clean] if clean else [])]}
    versions = installed_versions()
    identity = {
        "verb": "verify",
        "datasets": datasets,
        "reference": reference.as_dict(),
        "settings": report_settings,
        "versions": versions,
    }
    # The first process holds the run's lock; the others work in the same directory.
    first_process = processes.is_first()
    open_run = partial(RunDir.open, root, identity, fresh=fresh, joins=not first_process)
    with processes.in_turn(open_run) as run:
        created = run.created(report_settings)

        result = run_transfer(
            lm,
            arms,
            clean or control_writer(lm, renderer, first, prompt, settings.seed, run, progress),
            panel,
            read_out,
            settings,
            store=run,
            workers=student_workers(engine, load, lm, panel, read_out, settings, run.path / "logs"),
            progress=progress,
        )
        report = VerifyReport(result, datasets, reference, report_settings, versions, created)
        if first_process:
            # The open readout has no curve of one trait.
            if read_out is not None:
                run.write_text(PLOT, dose_plot(result))
            run.finish(to_dict(report))
    return report


def trait_of_last_scan(root: Path, hint: str) -> str:
    """The trait that the last scan in `root` found. Raises TraitError, with `hint`, when there is
    none.
    """
    try:
        trait = (read_json(last_run(root) / "report.json") or {})["trait"]
    except (RunError, LookupError) as error:
        raise TraitError("No trait is named, and there is no finished scan here.", hint) from error
    if not isinstance(trait, str):
        raise TraitError("No trait is named, and the last scan found none.", hint)
    return trait


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
