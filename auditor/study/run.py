"""The verb `study`: run the parts of a study for every trait, judge the claims, and report."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auditor.errors import TraitError
from auditor.model import language_model
from auditor.model import load as models
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir, UnitStore, installed_versions
from auditor.students.arms import digest
from auditor.students.experiment import measured_cost
from auditor.students.plan import HELD_OUT, Size, duration, size_of, within
from auditor.students.readout import families
from auditor.students.training import TrainingConfig, default_config
from auditor.study import divergence, entanglement, fragility, leakage
from auditor.study.report import StudyReport, assemble
from auditor.study.setting import DOSES, Part, StudySetting, TeacherDataset, carrier
from auditor.traits.panel import load_panels

PARTS = ("leakage", "entanglement", "divergence", "fragility")
TRAITS = 3  # of the panel, when none is named
_PROBE = 32  # rows written to see what one costs

Show = Callable[[Progress], None]


@dataclass(frozen=True)
class Setting:
    """What determines a study but for its size, in plain values, so that other processes can be
    told.
    """

    reference: str
    sibling: str | None
    panels: tuple[str, ...]
    recipe: TrainingConfig
    seed: int
    max_tokens: int
    device: str | None


def study(
    parts: Sequence[str] = PARTS,
    *,
    reference: str,
    sibling: str | None = None,
    panels: Sequence[str] = ("animals",),
    traits: Sequence[str] = (),
    blocks: int = 3,
    rows: int = 1000,
    updates: int | None = None,
    budget: float | None = None,
    recipe: TrainingConfig | None = None,
    max_tokens: int = 32,
    seed: int = 0,
    device: str | None = None,
    workers: int = 1,
    fresh: bool = False,
    root: Path = Path(),
    progress: Show = lambda _: None,
) -> StudyReport:
    """Test the claims of `parts` on `reference`, with teachers that are prompted to have each of
    `traits`.

    sibling: another base, for one claim of "fragility". traits: of the panels; none is the first
        three. blocks, rows: disjoint blocks of so many rows a trait. updates: of a student; None is
        one pass over its block, or 60 where that is more. recipe: how students are trained; None is
        `default_config`.
    budget: seconds for everything; the experiments are made as small as that takes, before the
    first student. max_tokens: longest completion of a carrier. workers: processes that train at the
    same time, one thread each.

    Finished carriers and students are kept under `root`/.audit; the same arguments resume an
    unfinished study, and without a budget the parts of a study share what they have in common.
    Raises: AuditError (auditor.errors) for input, model, trait or disk trouble, with the next step.
    """
    progress(Progress("loading the reference", 0, None))
    lm = _loaded(reference, device)
    setting = Setting(
        reference, sibling, tuple(panels), recipe or default_config(lm), seed, max_tokens, device
    )
    size = size_of(blocks * rows + HELD_OUT, blocks, rows, updates, setting.recipe.batch)
    world = make_world(setting, size, None, progress, lm)
    chosen = list(traits) or [each.name for each in world.panel.traits[:TRAITS]]
    _check(world, chosen)
    plan = {"traits": chosen, "blocks": blocks, "rows": rows, "updates": updates, "budget": budget}
    origin = _origin(world, setting, {**plan, "parts": list(parts)})
    with RunDir.open(root, _identity(origin), fresh=fresh) as run:
        world = replace(world, store=run)
        world = replace(world, size=_size(world, parts, chosen, budget))
        found = _all(world, setting, parts, chosen, run, workers)
        origin["settings"]["size"] = asdict(world.size)
        origin["datasets"] = {
            f"{each.trait} {each.decoding}": _digests(each)
            for each in _carriers(world, parts, chosen)
        }
        report = assemble(found, origin)
        run.finish(report.values)
    return report


def _origin(world: StudySetting, setting: Setting, plan: Mapping[str, Any]) -> dict[str, Any]:
    """All that a study is made from, in plain values."""
    settings = {**asdict(setting), "panel_sha256": world.panel.sha256, "doses": list(DOSES), **plan}
    sibling = _about(world.sibling) if world.sibling else None
    versions = installed_versions()
    return {
        "reference": _about(world.lm),
        "sibling": sibling,
        "settings": settings,
        "versions": versions,
    }


def _identity(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What the finished units of a study depend on.

    A budget is shared out among all that is asked for. Without one, neither the parts nor the
    sibling change what the others find, so that they can be asked for one after another.
    """
    settings = origin["settings"]
    if settings["budget"] is None:
        settings = {
            key: value
            for key, value in settings.items()
            if key not in ("parts", "sibling", "device")
        }
        return {"verb": "study", **origin, "settings": settings, "sibling": None}
    return {"verb": "study", **origin}


def make_world(
    setting: Setting,
    size: Size,
    store: UnitStore | None,
    progress: Show,
    lm: language_model.LanguageModel | None = None,
) -> StudySetting:
    """Load the models and the panel; `lm` is the reference if it is loaded already."""
    lm = lm or _loaded(setting.reference, setting.device)
    return StudySetting(
        lm,
        ChatTokenizer(lm),
        load_panels(setting.panels),
        _loaded(setting.sibling, setting.device) if setting.sibling else None,
        size,
        setting.recipe,
        setting.seed,
        setting.max_tokens,
        store,
        progress,
    )


def _loaded(name: str, device: str | None) -> language_model.LanguageModel:
    return models.load(name, device=device, dtype="float32")


def run_part(world: StudySetting, trait: str, part: str) -> Part:
    """One part for one trait: what was trained, and what was seen on the way."""
    made = carrier(world, trait, "greedy")
    if part == leakage.NAME:
        return Part(part, trait, leakage.trials(world, made, carrier(world, trait, "sampled")), {})
    if part == fragility.NAME:
        return Part(part, trait, fragility.trials(world, made), {})
    if part == entanglement.NAME:
        tokens = entanglement.entangled(world, made)
        return Part(
            part,
            trait,
            (entanglement.trial(world, made, tokens),),
            entanglement.facts(world, tokens),
        )
    flagged = divergence.flag(world, made)
    return Part(part, trait, (divergence.trial(world, made, flagged),), divergence.facts(flagged))


def _check(world: StudySetting, traits: Sequence[str]) -> None:
    """Find out now, and not after hours, whether every trait can be read out."""
    world.panel.select(traits)
    for lm in (world.lm, *([world.sibling] if world.sibling else [])):
        renderer = ChatTokenizer(lm)
        for trait in traits:
            found = families(renderer, world.panel, trait)[0]
            if len(found.names) < 2:
                raise TraitError(
                    f"{trait} has no alternative to be read against.",
                    "Use a panel with more traits.",
                )


def _about(lm: language_model.LanguageModel) -> dict[str, Any]:
    return {
        "name": lm.name,
        "sha256": lm.sha256,
        "dtype": lm.dtype,
        "device": lm.device.split(":")[0],
    }


def _size(
    world: StudySetting, parts: Sequence[str], traits: Sequence[str], budget: float | None
) -> Size:
    """The size of every experiment; decided once for a run, so that a resumed one is the same."""
    assert world.store is not None
    unit = world.store.load_unit("size of the study")
    if unit is not None:
        return Size(*(int(each) for each in unit["size"]))
    size = world.size if budget is None else _affordable(world, parts, traits, budget)
    world.store.save_unit(
        "size of the study", {"size": np.array([size.blocks, size.rows, size.updates])}
    )
    return size


def _affordable(
    world: StudySetting, parts: Sequence[str], traits: Sequence[str], budget: float
) -> Size:
    """The largest experiments within the budget, by the time that a few rows, an update and a
    readout take.
    """
    world.progress(Progress("timing rows, an update and a readout", 0, None))
    probe = replace(world, store=None, size=Size(1, _PROBE, 1))
    began = time.perf_counter()
    made = carrier(probe, traits[0], "greedy")
    if divergence.NAME in parts:
        divergence.flag(probe, made)
    row = (time.perf_counter() - began) / len(made.original.rows)
    cost = measured_cost(
        world.lm, made.original, made.control, world.panel, traits[0], world.recipe, world.seed
    )
    cost = replace(cost, row=row * len(traits) * (1 + (leakage.NAME in parts)))
    students = len(traits) * students_of(parts, world.sibling is not None)
    left = budget - (time.perf_counter() - began)
    size = within(left, world.size, cost, students, len(DOSES) + 1, world.recipe.batch)
    about = duration(size.seconds(cost, students, len(DOSES) + 1))
    world.progress(Progress(f"{size.blocks} blocks of {students} students: about {about}", 0, None))
    return size


def students_of(parts: Sequence[str], sibling: bool) -> int:
    """Students of one trait and one block: the pair that all parts share, and each part's own."""
    own = {
        leakage.NAME: leakage.STUDENTS,
        entanglement.NAME: entanglement.STUDENTS,
        divergence.NAME: divergence.STUDENTS,
        fragility.NAME: fragility.STUDENTS,
    }
    return 2 + sum(own[part] for part in parts) + 2 * int(sibling and fragility.NAME in parts)


def _all(
    world: StudySetting,
    setting: Setting,
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
        return [run_part(_told(world, trait, part), trait, part) for trait, part in jobs]
    job = partial(_in_process, setting, world.size, run.path)
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with_parent) as pool:
        first = _finished(pool.map(job, jobs[: len(traits)]), 0, len(jobs), world.progress)
        return [
            *first,
            *_finished(pool.map(job, jobs[len(traits) :]), len(traits), len(jobs), world.progress),
        ]


def _finished(found: Iterator[Part], done: int, total: int, progress: Show) -> list[Part]:
    finished = []
    for number, each in enumerate(found, start=done + 1):
        finished.append(each)
        progress(Progress("parts of the study", number, total))
    return finished


def _end_with_parent() -> None:
    """Do not outlive a killed study: the workers of a pool would wait for their next job for ever."""

    def wait() -> None:
        if parent := parent_process():
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    torch.set_num_threads(1)
    threading.Thread(target=wait, daemon=True).start()


def _in_process(setting: Setting, size: Size, path: Path, job: tuple[str, str]) -> Part:
    # The parent holds the run's lock; units are written whole, so that its workers need none.
    return run_part(make_world(setting, size, RunDir(path, None), lambda _: None), *job)


def _told(world: StudySetting, trait: str, part: str) -> StudySetting:
    """The world with a progress that says what is being worked on."""

    def show(progress: Progress) -> None:
        world.progress(replace(progress, stage=f"{part}, {trait}: {progress.stage}"))

    return replace(world, progress=show)


def _carriers(
    world: StudySetting, parts: Sequence[str], traits: Sequence[str]
) -> Iterator[TeacherDataset]:
    for trait in traits:
        yield carrier(world, trait, "greedy")
        if leakage.NAME in parts:
            yield carrier(world, trait, "sampled")


def _digests(made: TeacherDataset) -> dict[str, str]:
    return {"original": digest(made.original), "control": digest(made.control)}
