"""The verb `scan`: score a data set for hidden traits and reach a verdict."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from auditor.data.sample import read_sample
from auditor.model import load as models
from auditor.model.identity import identity_of
from auditor.progress import Progress
from auditor.report.scan.json import from_dict, to_dict
from auditor.runs.run_directory import RunDir, installed_versions, set_last
from auditor.scanning.detection import run_detectors
from auditor.scanning.example_rows import example_rows
from auditor.scanning.preparation import prepare
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.score_tables import write_tables
from auditor.scanning.settings import Rows, ScanSettings
from auditor.scanning.verdict import lost_share
from auditor.traits.panel import load_panels
from detectors import DETECTORS, ON_REQUEST, load
from detectors.interface import Outcome, Skipped


def scan(
    source: str,
    settings: ScanSettings | None = None,
    *,
    reference: str | None = None,
    panels: Sequence[str] | None = None,
    traits: Sequence[str] | None = None,
    rows: Rows | None = None,
    seed: int | None = None,
    detectors: Sequence[str] | None = None,
    root: Path = Path(),
    fresh: bool = False,
    remember: bool = True,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ScanReport:
    """Score the data set `source` and return the report, which is also kept under `root`/.audit.

    settings: see `ScanSettings`; its defaults when None. reference, panels, traits, rows, seed,
    detectors: the settings of these names, where they differ from `settings`. fresh: forget what an
    earlier scan with the same settings has done. remember: whether later commands in `root` go on
    from this scan.

    The same settings on the same data resume an unfinished run and show a finished one again,
    unless `fresh`. Raises: AuditError (auditor.errors) for input, model, trait or disk trouble,
    with the next step.
    """
    named: dict[str, Any] = {
        "reference": reference,
        "panels": panels,
        "traits": traits,
        "rows": rows,
        "seed": seed,
        "detectors": detectors,
    }
    changes = {name: value for name, value in named.items() if value is not None}
    settings = replace(settings or ScanSettings(), **changes)
    panel = load_panels(settings.panels)
    tested = panel.select(list(settings.traits)) if settings.traits else panel
    progress(Progress("reading the data set", 0, None))
    chosen = [load(name) for name in settings.detectors]
    sample = read_sample(
        source,
        rows=settings.most_rows,
        seed=settings.seed,
        format_of=settings.format_of,
        columns=settings.columns,
    )
    progress(Progress("loading the reference", 0, None))
    lm = models.load(settings.reference, device=settings.device, dtype=settings.dtype)
    identity = {
        "dataset": asdict(sample.info),
        "reference": identity_of(lm).as_dict(),
        "settings": settings.resolved(panel, tested),
        "versions": installed_versions(detector.plugin for detector in chosen if detector.plugin),
    }
    with RunDir.open(root, identity, fresh=fresh) as run:
        finished = run.report()
        if finished is not None:
            report = from_dict(finished)
        else:
            started = time.monotonic()
            context, skipped = prepare(settings, chosen, sample, lm, panel, tested, run, progress)
            read = len(sample.examples) + sum(sample.skipped.values())
            found = run_detectors(context, chosen, lost_share(skipped, read))
            write_tables(run, found.scored, found.divergence, context.examples)
            off: dict[str, Outcome] = dict.fromkeys(DETECTORS, Skipped("switched off"))
            off |= dict.fromkeys(ON_REQUEST, Skipped("not asked for; --tuned turns it on"))
            marked = found.outcomes.get("divergence", Skipped("no rows, or switched off"))
            report = ScanReport(
                dataset=sample.info,
                verdict=found.verdict,
                tests=found.tests,
                leading_trait=found.leading_trait,
                rows_scanned=len(found.scored.rows),
                rows_skipped=skipped,
                reference=identity["reference"],
                divergence=marked if isinstance(marked, Skipped) else marked.values,
                detectors=off | found.outcomes,
                openly={name: len(rows) for name, rows in context.excluded_rows.items() if rows},
                examples=example_rows(context, found.divergence) if found.divergence else (),
                timing={
                    "survey_seconds": found.scored.trait_seconds,
                    "total_seconds": time.monotonic() - started,
                    "trait_tokens": float(found.scored.trait_tokens),
                },
                settings=identity["settings"],
                versions=identity["versions"],
                rows_read=read,
            )
            run.finish(to_dict(report))
        if remember:
            set_last(root, run.path, source)
    # Not from the notes of a finished run: the directory may have been moved since.
    return replace(report, run=os.path.relpath(run.path))
