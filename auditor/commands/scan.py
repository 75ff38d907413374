"""The verb `scan`: score a data set for hidden traits and reach a verdict."""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from auditor.data.at_hand import as_jsonl
from auditor.data.files import digest_of
from auditor.data.sample import read_sample
from auditor.engine.interface import Engine
from auditor.engine.local import LocalEngine
from auditor.errors import InputError
from auditor.model import load as models
from auditor.model.builtin import BASE
from auditor.model.identity import identity_of
from auditor.progress import Progress
from auditor.report.scan.json import from_dict, to_dict
from auditor.runs.clock import utc_now
from auditor.runs.run_directory import RunDir, installed_versions, keep_data, set_last
from auditor.runs.signing import secret_seed
from auditor.scanning.detection import run_detectors
from auditor.scanning.example_rows import example_rows
from auditor.scanning.obstacles import coverage_obstacles
from auditor.scanning.preparation import load_teacher, prepare
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.score_tables import score_every_row, write_tables
from auditor.scanning.settings import Rows, ScanSettings
from auditor.scanning.verdict import lost_share
from auditor.scanning.workers import ScoringJob, scored_by
from auditor.students.calibration import digests
from auditor.students.settings import StudentSettings
from auditor.traits.panel import load_panels
from detectors import DETECTORS, ON_REQUEST, load
from detectors.interface import Outcome, ScanContext, Skipped

LOG = logging.getLogger(__name__)


def scan(
    source: object,
    settings: ScanSettings | None = None,
    *,
    reference: str | None = None,
    panels: str | Sequence[str] | None = None,
    traits: str | Sequence[str] | None = None,
    rows: Rows | None = None,
    seed: int | None = None,
    detectors: str | Sequence[str] | None = None,
    root: Path = Path(),
    fresh: bool = False,
    remember: bool = True,
    engine: Engine = LocalEngine(),  # noqa: B008 (it is frozen)
    progress: Callable[[Progress], None] = lambda _: None,
) -> ScanReport:
    """Score the data set `source` and return the report, which is also kept under `root`/.audit.

    source: a path or the name of a hub data set; or rows at hand, as `auditor.data.at_hand` takes
    them, which are then kept under `root`/.audit/data. settings: see `ScanSettings`; its defaults
    when None. reference, panels, traits, rows, seed, detectors: the settings of these names, where
    they differ from `settings`; of names a single one need not be in a list. fresh: forget what an
    earlier scan with the same settings has done. remember: whether later commands in `root` go on
    from this scan. engine: where rows are scored; by default this process.

    The same settings on the same data resume an unfinished run and show a finished one again,
    unless `fresh`. Raises: AuditError (auditor.errors) for input, model, trait or disk trouble,
    with the next step.
    """
    settings, created = settings or ScanSettings(), utc_now()
    name = _named(source, root, twice=settings.score_rows == "all")
    settings = replace(
        settings,
        reference=settings.reference if reference is None else reference,
        panels=_several(settings.panels if panels is None else panels),
        traits=_several(settings.traits if traits is None else traits),
        rows=settings.rows if rows is None else rows,
        seed=settings.seed if seed is None else seed,
        detectors=_several(settings.detectors if detectors is None else detectors),
    )
    origins = {**settings.origins}
    if reference is not None or settings.reference != BASE:
        origins.setdefault("reference", "argument")
    panel = load_panels(settings.panels)
    tested = panel.select(list(settings.traits)) if settings.traits else panel
    LOG.info(
        "scanning %s for %d traits of panel %s with the detectors %s",
        name,
        len(tested.traits),
        panel.name,
        ", ".join(settings.detectors_run),
    )
    progress(Progress("reading the data set", 0, None))
    selected = [load(detector) for detector in settings.detectors_run]
    read = partial(
        read_sample,
        name,
        format_of=settings.format_of,
        columns=settings.columns,
        side=settings.side,
    )
    sample = read(
        rows=settings.most_rows,
        seed=secret_seed if settings.seed is None else settings.seed,
    )
    LOG.info("%d rows can be scored; skipped: %s", len(sample.examples), sample.skipped or "none")
    settings = replace(settings, seed=sample.seed)
    progress(Progress("loading the reference", 0, None))
    load_reference = partial(
        models.load,
        settings.reference,
        device=settings.device,
        dtype=settings.dtype,
        chat_template=settings.chat_template,
        system=settings.system,
    )
    lm = load_reference()
    teacher = load_teacher(settings.teacher, lm) if settings.teacher else None
    judged = identity_of(lm).as_dict()
    resolved = settings.resolved(panel, tested, [digest_of(earlier) for earlier in settings.like])
    versions = installed_versions(detector.plugin for detector in selected if detector.plugin)
    identity: dict[str, object] = {
        "dataset": asdict(sample.info),
        "reference": judged,
        # By its digests, and not by its name alone: it may have changed since an earlier scan.
        "teacher": identity_of(teacher).as_dict() if teacher else None,
        "settings": resolved,
        "versions": versions,
    }
    if "students" in settings.detectors_run:
        identity["calibrations"] = digests(lm, panel, StudentSettings().training_for(lm))
    with RunDir.open(root, identity, fresh=fresh) as run, ExitStack() as stack:
        finished = run.report()
        if finished is not None:
            LOG.info("the run %s is finished: its report is shown again", run.path)
            report = from_dict(finished)
        else:
            started = time.monotonic()
            context, skipped, unread = prepare(
                settings, selected, sample, lm, teacher, panel, tested, run, progress
            )
            job = ScoringJob(load_reference, judged, context.fast_dtype, installed_versions())
            context = stack.enter_context(scored_by(engine, job, context))
            info = replace(sample.info, unread=(*sample.info.unread, *unread))
            rows_read = len(sample.examples) + sum(sample.skipped.values())
            coverage = coverage_obstacles(info.unread, lost_share(skipped, rows_read))
            detected = run_detectors(context, selected, [*coverage])
            write_tables(run, detected.scored, detected.divergence, context.examples)
            marked = detected.outcomes.get("divergence", Skipped("no rows, or switched off"))
            report = ScanReport(
                dataset=info,
                verdict=detected.verdict,
                tests=detected.tests,
                leading_trait=detected.leading_trait,
                rows_scanned=len(detected.scored.rows),
                rows_skipped=skipped,
                reference=judged,
                divergence=marked if isinstance(marked, Skipped) else marked.values,
                detectors=_not_run() | detected.outcomes,
                openly=_openly(context),
                examples=example_rows(context, detected.divergence) if detected.divergence else (),
                timing={
                    "survey_seconds": detected.scored.trait_seconds,
                    "total_seconds": time.monotonic() - started,
                    "trait_tokens": float(detected.scored.trait_tokens),
                    **_reread_factor(context),
                },
                settings=resolved,
                versions=versions,
                rows_read=rows_read,
                created=created,
                origins=origins,
            )
            run.finish(to_dict(report))
            LOG.info(
                "verdict %s, leading trait %s, by %d rows in %.1f s",
                report.verdict.name,
                report.leading_trait,
                report.rows_scanned,
                report.timing["total_seconds"],
            )
        if settings.score_rows == "all":
            everything = read(rows=None, seed=None)
            score_every_row(run, everything, lm, panel, report.leading_trait, progress)
        if remember:
            set_last(root, run.path, name)
    # Not from the notes of a finished run: the directory may have been moved since, and the same
    # settings may have come from elsewhere.
    return replace(report, run=os.path.relpath(run.path), origins=origins)


def _named(source: object, root: Path, *, twice: bool) -> str:
    """The name of a data set: rows at hand are put into a file. twice: whether it is read twice."""
    if twice and source == "-":
        raise InputError(
            "The scores of all rows need the data set to be read twice, and standard input cannot.",
            "Write the data to a file, and scan that.",
        )
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(keep_data(root, as_jsonl(source), ".jsonl"))


def _openly(context: ScanContext) -> dict[str, int]:
    """How many rows of the data mention a trait openly, by trait."""
    counts = {
        name: sum(number >= 0 for number in rows) for name, rows in context.excluded_rows.items()
    }
    return {name: count for name, count in counts.items() if count}


def _not_run() -> dict[str, Outcome]:
    """Why a detector did not run, of each."""
    off: dict[str, Outcome] = dict.fromkeys(DETECTORS, Skipped("switched off"))
    return off | {name: Skipped(f"not asked for; --{name} turns it on") for name in ON_REQUEST}


def _reread_factor(context: ScanContext) -> dict[str, float]:
    """Of a reference that cannot go on from a prompt that it has read: how many times the tokens
    are read under a trait's prompt, since the prompt is read again with every row.
    """
    if context.lm.prefix_caching or not context.rows or not context.tested.traits:
        return {}
    prompts = [trait.prompts[0] for trait in context.tested.traits]
    again = statistics.fmean(len(context.renderer.prefix(prompt)) for prompt in prompts)
    return {"reread_factor": 1 + again / statistics.fmean(len(row.tokens) for row in context.rows)}


def _several(names: str | Sequence[str]) -> Sequence[str]:
    """One name is a list of one, and not of its letters."""
    return (names,) if isinstance(names, str) else names
