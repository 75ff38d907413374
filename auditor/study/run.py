"""The verb `study`: run the parts of a study for every trait, judge the claims, and report."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch

from auditor.engine.interface import Engine
from auditor.engine.local import LocalEngine
from auditor.errors import AuditError, TraitError
from auditor.model import load as models
from auditor.model.identity import identity_of
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.model.unit_store import UnitStore
from auditor.progress import Progress, announce
from auditor.report.shared.words import REFERENCE_KEYS
from auditor.runs.run_directory import RunDir, installed_versions
from auditor.students.arms import digest
from auditor.students.experiment import measured_cost
from auditor.students.plan import HELD_OUT, Size, size_of, within
from auditor.students.readout import families
from auditor.students.runner import new_context, student_workers
from auditor.students.settings import StudentSettings
from auditor.study import divergence, entanglement, fragility, leakage
from auditor.study.report import StudyReport, assemble
from auditor.study.setting import (
    CHECKPOINTS,
    Decoding,
    Part,
    StudySetting,
    teacher_dataset,
    train,
)
from auditor.traits.panel import load_panels

PARTS = ("leakage", "entanglement", "divergence", "fragility")
ROWS = 1000  # of a block
DEFAULTS = StudentSettings(panels=("animals",), rows=ROWS)
TRAITS = 3  # of the panel, when none is named
_TIMED_ROWS = 32  # rows written to see what one costs
_SIZE = "size of the study"  # the unit of the run that keeps it

Show = Callable[[Progress], None]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyRequest:
    """What determines a study but for its size, in plain values, so that it can be sent to other
    processes. settings: with the training spelled out.
    """

    settings: StudentSettings
    sibling: str | None
    max_tokens: int


def study(
    parts: Sequence[str] = PARTS,
    settings: StudentSettings | None = None,
    *,
    sibling: str | None = None,
    traits: Sequence[str] = (),
    max_tokens: int = 32,
    workers: int = 1,
    engine: Engine = LocalEngine(),  # noqa: B008 (it is frozen)
    fresh: bool = False,
    root: Path = Path(),
    progress: Show = lambda _: None,
    **changes: Any,
) -> StudyReport:
    """Test the claims of `parts` on a reference, with teachers that are prompted to have each of
    `traits`.

    settings: how students are trained and how large the experiments are; DEFAULTS when None: 3
        blocks of 1000 rows a trait. changes: fields of `StudentSettings` by name, where they differ
        from `settings`. With a budget the experiments are made as small as that takes, before the
        first student.
    sibling: another base, for one claim of "fragility". traits: of the panels; none is the first
        three. max_tokens: longest completion of a teacher. workers: processes that train at the
        same time, one thread each. engine: where students are trained; one that is not this process
        has workers of its own.

    Finished data sets and students are kept under `root`/.audit; the same arguments resume an
    unfinished study, and without a budget the parts of a study share what they have in common.
    Raises: AuditError (auditor.errors) for input, model, trait or disk trouble, with the next step.
    """
    if engine.name != "local" and workers > 1:
        raise AuditError("Ray has workers of its own.", "Leave out --workers, or --engine ray.")
    settings = replace(settings or DEFAULTS, **changes)
    progress(Progress("loading the reference", 0, None))
    lm = _loader(settings)(settings.reference)
    blocks, rows = settings.blocks, settings.rows or ROWS
    settings = replace(settings.resolved(lm), rows=rows)
    request = StudyRequest(settings, sibling, max_tokens)
    batch = settings.training_for(lm).batch
    size = size_of(blocks * rows + HELD_OUT, blocks, rows, settings.updates, batch)
    setting = make_setting(request, size, None, progress, lm)
    names = list(traits) or [trait.name for trait in setting.panel.traits[:TRAITS]]
    _check_readable(setting, names)
    LOG.info("parts: %s; traits: %s", ", ".join(parts), ", ".join(names))
    reference, other = identity_of(lm), setting.sibling and identity_of(setting.sibling)
    values: dict[str, object] = {
        **settings.as_dict(),
        "reference": settings.reference,
        "sibling": sibling,
        "panels": settings.panels,
        "max_tokens": max_tokens,
        "device": settings.device,
        "panel_sha256": setting.panel.sha256,
        "doses": list(CHECKPOINTS),
        "traits": names,
        "parts": list(parts),
    }
    versions = installed_versions()
    # A budget is shared out among all that is asked for. Without one, neither the parts nor the
    # sibling change what the others find, so that they can be asked for one after another:
    # students of a sibling are kept under its digest.
    is_shared = settings.budget is not None
    independent = () if is_shared else ("parts", "sibling", "device")
    identity = {
        "verb": "study",
        "reference": reference.as_dict(),
        "sibling": other.as_dict() if other and is_shared else None,
        "settings": {key: value for key, value in values.items() if key not in independent},
        "versions": versions,
    }
    with RunDir.open(root, identity, fresh=fresh) as run:
        # The size is kept in the run, so the store has to be known before it.
        setting = replace(setting, store=run)
        size = Size.load_or_decide(
            run, _SIZE, partial(_affordable_size, setting, parts, names, workers)
        )
        setting = replace(
            setting,
            size=size,
            workers_for=lambda base, trait: student_workers(
                engine,
                partial(_loader(settings), base.name),
                base,
                setting.panel,
                trait,
                settings,
                run.path / "logs",
            ),
        )
        made_with = {**values, "size": asdict(size)}
        created = run.created(made_with)
        results = _run_parts(setting, request, parts, names, run, workers)
        decodings: list[Decoding] = ["greedy"]
        if leakage.NAME in parts:
            decodings.append("sampled")
        datasets = {}
        for trait, decoding in itertools.product(names, decodings):
            # All data sets have been written by now: they are loaded from the store.
            dataset = teacher_dataset(setting, trait, decoding)
            datasets[f"{trait} {decoding}"] = {
                "original": digest(dataset.original),
                "control": digest(dataset.control),
            }
        origin = {
            "reference": reference.as_dict(REFERENCE_KEYS),
            "sibling": other and other.as_dict(REFERENCE_KEYS),
            "settings": made_with,
            "versions": versions,
            "datasets": datasets,
            "created": created,
        }
        report = assemble(results, origin)
        run.finish(report.values)
    return report


def _loader(settings: StudentSettings) -> Callable[[str], LanguageModel]:
    return partial(
        models.load,
        device=settings.device,
        dtype="float32",
        chat_template=settings.chat_template,
        system=settings.system,
    )


def make_setting(
    request: StudyRequest,
    size: Size,
    store: UnitStore | None,
    progress: Show,
    lm: LanguageModel | None = None,
) -> StudySetting:
    """Load the models and the panel; `lm` is the reference if it is loaded already."""
    settings = request.settings
    load = _loader(settings)
    lm = lm or load(settings.reference)
    return StudySetting(
        lm=lm,
        renderer=ChatTokenizer(lm),
        panel=load_panels(settings.panels),
        sibling=load(request.sibling) if request.sibling else None,
        size=size,
        settings=settings,
        max_tokens=request.max_tokens,
        store=store,
        progress=progress,
    )


def run_part(setting: StudySetting, trait: str, part: str) -> Part:
    """One part for one trait: what was trained, and what was measured on the way."""
    LOG.info("part %s for %s", part, trait)
    dataset = teacher_dataset(setting, trait, "greedy")
    match part:
        case leakage.NAME:
            sampled = teacher_dataset(setting, trait, "sampled")
            both = train(setting, dataset, ()), train(setting, sampled, ())
            return Part(part, trait, both, {})
        case fragility.NAME:
            trials = [train(setting, dataset, list(fragility.arms(setting, dataset)))]
            if setting.sibling:
                # Students that do not share the teacher's base, on the unchanged data.
                trials.append(train(setting, dataset, (), base=setting.sibling))
            return Part(part, trait, tuple(trials), {})
        case entanglement.NAME:
            tokens = entanglement.entangled(setting, dataset)
            trial = train(setting, dataset, list(entanglement.arms(setting, dataset, tokens)))
            return Part(part, trait, (trial,), entanglement.facts(setting, tokens))
        case _:
            flagged = divergence.flag(setting, dataset)
            trial = train(setting, dataset, list(divergence.arms(setting, dataset, flagged)))
            return Part(part, trait, (trial,), divergence.facts(flagged))


def _check_readable(setting: StudySetting, traits: Sequence[str]) -> None:
    """Find out now, and not after hours, whether every trait can be read out."""
    setting.panel.select(traits)  # it raises for an unknown trait
    for lm in (setting.lm, *([setting.sibling] if setting.sibling else [])):
        renderer = ChatTokenizer(lm)
        for trait in traits:
            if len(families(renderer, setting.panel, trait)[0].names) < 2:
                raise TraitError(
                    f"{trait} has no alternative to be read against.",
                    "Use a panel with more traits.",
                )


def _affordable_size(
    setting: StudySetting, parts: Sequence[str], traits: Sequence[str], workers: int
) -> Size:
    """The size of every experiment: that of the settings, or the largest within the budget, by the
    time that a few rows, an update and a readout take.
    """
    size, budget = setting.size, setting.settings.budget
    setting.progress(Progress("timing rows, an update and a readout", 0, None))
    # A small experiment that nothing is kept of, so that the study itself starts afresh.
    probe = replace(setting, store=None, size=Size(1, _TIMED_ROWS, 1), progress=lambda _: None)
    began = time.perf_counter()
    dataset = teacher_dataset(probe, traits[0], "greedy")
    if divergence.NAME in parts:
        divergence.flag(probe, dataset)
    row = (time.perf_counter() - began) / len(dataset.original.rows)
    context = new_context(setting.lm, setting.panel, traits[0], setting.settings)
    cost = measured_cost(context, dataset.original, dataset.control)
    # A teacher's row costs once for every trait, and again where it also samples.
    cost = replace(cost, row=row * len(traits) * (1 + (leakage.NAME in parts)))
    LOG.info("measured %s", cost)
    students = len(traits) * students_of(parts, setting.sibling is not None)
    # Two losses at the end take as long as one reading more.
    readings = len(CHECKPOINTS) + 1
    if budget is not None:
        remaining = budget - (time.perf_counter() - began)  # the time so far counts
        size = within(remaining, size, cost, students, readings, setting.settings.batch)
    work = f"{size.blocks} blocks of {students} students"
    announce(setting.progress, work, size.seconds(cost, students, readings) / workers)
    return size


def students_of(parts: Sequence[str], sibling: bool) -> int:
    """Students of one trait and one block: the pair that all parts share, and the parts' own."""
    by_part = {
        leakage.NAME: leakage.STUDENTS,
        entanglement.NAME: entanglement.STUDENTS,
        divergence.NAME: divergence.STUDENTS,
        fragility.NAME: fragility.STUDENTS + 2 * sibling,
    }
    return 2 + sum(by_part[part] for part in parts)


def _run_parts(
    setting: StudySetting,
    request: StudyRequest,
    parts: Sequence[str],
    traits: Sequence[str],
    run: RunDir,
    workers: int,
) -> list[Part]:
    """Every part for every trait.

    Each trait's first part comes first: later ones find its students in the store.
    """
    jobs = [(trait, part) for part in parts for trait in traits]
    if workers == 1:
        results = []
        for trait, part in jobs:

            def show(progress: Progress, label: str = f"{part}, {trait}") -> None:
                setting.progress(replace(progress, stage=f"{label}: {progress.stage}"))

            results.append(run_part(replace(setting, progress=show), trait, part))
        return results

    def finished(results: Iterator[Part], done: int) -> Iterator[Part]:
        for number, result in enumerate(results, start=done + 1):
            setting.progress(Progress("parts of the study", number, len(jobs), "parts"))
            yield result

    work = partial(run_in_worker, request, setting.size, run.path)
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with_parent) as pool:
        # The others wait until every trait's data set and first students are in the store.
        count = len(traits)
        first = list(finished(pool.map(work, jobs[:count]), 0))
        return [*first, *finished(pool.map(work, jobs[count:]), count)]


def _end_with_parent() -> None:
    """Do not outlive a killed study: a pool's workers would wait for their next job for ever."""

    def wait() -> None:
        if parent := parent_process():
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    # Workers share the cores among them: more threads each would be slower.
    torch.set_num_threads(1)
    threading.Thread(target=wait, daemon=True).start()


def run_in_worker(request: StudyRequest, size: Size, path: Path, job: tuple[str, str]) -> Part:
    """One part for one trait in a process of its own, from and into the run at `path`."""
    # The parent holds the run's lock; units are written whole, so that its workers need none.
    return run_part(make_setting(request, size, RunDir(path, None), lambda _: None), *job)
