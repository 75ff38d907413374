"""The verb `mitigate`: apply mitigations to a data set and write it, its manifest and what a
trainer needs.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from auditor import __version__
from auditor.data.coverage import Unread
from auditor.data.dataset import Rows, read_rows
from auditor.data.files import digest_of
from auditor.data.limits import IN_FORCE
from auditor.data.manifest import FileOf, Manifest, manifest_of
from auditor.data.text_row import Span
from auditor.engine.interface import Engine, Pool, Tally
from auditor.engine.local import LocalEngine
from auditor.errors import AuditError, InputError
from auditor.mitigating.record import Part, Record, finished
from auditor.mitigating.request import (
    check_order,
    input_of,
    needs_divergence,
    needs_reference,
    panels_of,
    reference_of,
    traits_of,
)
from auditor.mitigating.row_facts import Settled, is_measured, settle
from auditor.mitigating.settings import MitigateSettings
from auditor.mitigating.shard import (
    PART_ROWS,
    Shard,
    ShardJob,
    ShardTask,
    ShardWorker,
    keep_part,
    kept_part,
    open_worker,
    part_folder,
)
from auditor.mitigating.trainer_files import Emitter
from auditor.mitigating.writer import gather, name_of_copy, scratch
from auditor.mitigating.writers import Writers
from auditor.model.identity import identity_of
from auditor.model.language_model import LanguageModel
from auditor.model.unit_store import Unit
from auditor.progress import Progress, announce
from auditor.runs import HOME
from auditor.runs.last_scan import LastScan
from auditor.runs.run_directory import RunDir, installed_versions, refuse_links, run_key
from auditor.traits.panel import Panel, load_panels
from mitigations.interface import CleanCompletions, Mitigation, Rewordings
from mitigations.recipes import write_recipes

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mitigated:
    """What was written, or had been before.

    folder: holds everything. data: the new data set. manifest: of it; the lists by row are empty
    unless it was read again. source: the data set it was made of. scanned: the last scan, if it was
    of these very rows. already: nothing was done, because just this had been done before.
    """

    folder: Path
    data: Path
    manifest: Manifest
    source: str
    scanned: LastScan | None
    already: bool = False


def mitigate(
    source: str | None,
    steps: Sequence[Mitigation],
    settings: MitigateSettings | None = None,
    *,
    output: Path | None = None,
    fresh: bool = False,
    root: Path = Path(),
    engine: Engine = LocalEngine(),  # noqa: B008 (it is frozen)
    progress: Callable[[Progress], None] = lambda _: None,
    **options: Any,
) -> Mitigated:
    """Apply `steps` in their order to the data set `source` (None: the one last scanned in `root`)
    and write it.

    steps: made by `auditor.step`. output: a new folder; by default one under `root`/.audit, named
        by what is asked for. It is written beside its place and moved there when complete. The
        input is never touched. engine: where the shards are worked on; by default this process.
        options: fields of `MitigateSettings`, in place of those of `settings`.

    Same data and arguments give the same bytes. On its own output it changes nothing.
    Raises: AuditError (auditor.errors), with the next step.
    """
    settings = dataclasses.replace(settings or MitigateSettings(), **options)
    progress(Progress("reading the data set", 0, None))
    # On one machine a broken file is mended and the command repeated; a job of a cluster, with
    # thousands of files, goes on without it and says so.
    skips_broken = engine.name != "local"
    name, sha256, scanned = input_of(source, root, output, skips_broken=skips_broken)
    before = manifest_of(Path(name), sha256)
    writers = Writers(settings.device, settings.dtype)
    request = _request(steps, settings)
    if (
        before is not None
        and _is_outcome(before, request, settings)
        and list(before.writers) == writers.identities(steps)
    ):
        return Mitigated(Path(name).parent, Path(name), before, name, scanned, already=True)
    if settings.scorer and not needs_divergence(steps):
        raise AuditError(
            "--scorer finds divergence tokens, and no defence here needs them.",
            "Leave it out, or add --mask, --replace or --drop.",
        )
    check_order(steps, masked=bool(before and before.masked))
    panel = load_panels(panels_of(scanned, settings.panels))
    traits = traits_of(panel, steps, settings, scanned)
    reference, lm = None, None
    if needs_reference(steps, settings):
        progress(Progress("loading the reference", 0, None))
        reference = reference_of(scanned, settings)
        lm = writers.load_reference(reference)
    job = _Job(name, sha256, tuple(steps), settings, lm, writers, panel, traits, before, progress)
    format_of, columns = settings.format_of, settings.columns
    if scanned and format_of is None and not columns:
        format_of, columns = scanned.format, scanned.columns
    with read_rows(
        name, format_of=format_of, columns=columns, to_write=True, skips_broken=skips_broken
    ) as data:
        plan = _plan(data, job, request)
        identity = _identity(plan, job)
        plan = dataclasses.replace(plan, key=run_key(identity))
        folder = output or root / HOME / "mitigated" / plan.key
        done = None if fresh and not output else finished(folder, plan.key)
        if done is not None:
            return Mitigated(folder, folder / done.output.name, done, name, scanned, already=True)
        shard_job = ShardJob(
            source=name,
            layout=data.layout,
            steps=job.steps,
            settings=settings,
            reference=reference,
            skips_broken=skips_broken,
            limits=IN_FORCE.get(),
            writers=writers,
            panel=panel,
            traits=traits,
            root=root.resolve(),
            identity=identity,
        )
        with (
            RunDir.open(root, identity, fresh=fresh) as run,
            scratch(folder, replace=fresh and not output) as into,
        ):
            pool = engine.pool(
                partial(open_worker, shard_job),
                most=len(data.source.files),
                on_device=writers.any_loaded,
                logs=run.path / "logs",
            )
            with pool as workers:
                shards = _Shards(data, job, shard_job, run, workers)
                manifest = _write(shards, job, plan, into)
            run.forget("shards")
    return Mitigated(folder, folder / manifest.output.name, manifest, name, scanned)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be done, with every default filled in.

    traits: whose divergence tokens count. before: the manifest of the data set if it is itself the
    output of mitigations.
    """

    name: str
    sha256: str
    steps: tuple[Mitigation, ...]
    settings: MitigateSettings
    model: LanguageModel | None
    writers: Writers
    panel: Panel
    traits: tuple[str, ...]
    before: Manifest | None
    progress: Callable[[Progress], None]

    @property
    def masked(self) -> Mapping[int, tuple[Span, ...]]:
        """What is masked already, by row."""
        return self.before.masked if self.before else {}


def _request(steps: Sequence[Mitigation], settings: MitigateSettings) -> Mapping[str, object]:
    """What the user asked for, as JSON gives it back: lists for tuples."""
    request: Mapping[str, object] = json.loads(
        json.dumps(
            {
                "steps": [{"name": step.name, "settings": step.settings} for step in steps],
                "min_margin": settings.min_margin,
                # What a server rounds otherwise is another outcome.
                **({"scorer": settings.scorer} if settings.scorer else {}),
                "recipes": settings.recipes,
                "emit": settings.emit,
                "max_length": settings.max_length,
                "seed": settings.seed,
            }
        )
    )
    return request


def _is_outcome(
    manifest: Manifest, request: Mapping[str, object], settings: MitigateSettings
) -> bool:
    """Whether a data set is already the outcome of this request; traits and reference only count
    when they are named.
    """
    if any(manifest.settings.get(key) != value for key, value in request.items()):
        return False
    traits, reference = list(settings.traits), (manifest.reference or {}).get("name")
    return (
        traits in ([], ["all"], manifest.settings.get("traits"))
        and settings.reference in (None, reference)  # as far as it is known
    )


def _plan(data: Rows, job: _Job, request: Mapping[str, object]) -> Manifest:
    """The manifest as far as it is known before a row was read."""
    identity = identity_of(job.model) if job.model else None
    # A mask that the input brought along holds for the tokenizer that it was made for.
    tokens = identity or job.before
    return Manifest(
        tool=f"subliminal-audit {__version__}",
        input=FileOf(Path(job.name).name, job.sha256, 0),
        output=FileOf(Path(job.name).name, "", 0),
        format=data.layout.format,
        columns=data.layout.columns,
        settings={
            **request,
            "traits": list(job.traits),
            "panel": job.panel.name,
            "panel_sha256": job.panel.sha256,
        },
        reference=identity.as_dict(("name", "sha256", "dtype")) if identity else None,
        writers=job.writers.identities(job.steps),
        tokenizer_sha256=tokens.tokenizer_sha256 if tokens else None,
        template_sha256=tokens.template_sha256 if tokens else None,
        chain=(*(job.before.chain if job.before else ()), job.sha256),
    )


def _identity(plan: Manifest, job: _Job) -> Mapping[str, object]:
    """What determines the output: the same command finds its own run and folder by it."""
    masked = {str(row): spans for row, spans in job.masked.items()}
    return {
        "verb": "mitigate",
        "versions": installed_versions(),
        "chain": plan.chain,
        "name": plan.input.name,
        "format": plan.format,
        "columns": plan.columns,
        "reference": plan.reference,
        "writers": plan.writers,
        "settings": plan.settings,
        "masked": run_key({"masked": masked}),
    }


class _Shards:
    """The shards of the data set on their way through a pool of workers."""

    def __init__(
        self, data: Rows, job: _Job, shard_job: ShardJob, run: RunDir, pool: Pool[ShardWorker]
    ) -> None:
        self._job, self._shard_job, self._run, self._pool = job, shard_job, run, pool
        stage = "reading the data set"
        surveys = dict(pool.map(ShardWorker.survey, data.source.files, self._show(stage, None)))
        skipped = Counter[str]()
        self.shards: list[Shard] = []
        numbers, self.rows = [np.empty(0, np.int64)], 0
        masked = sorted(job.masked.items())
        sizes = {Path(path): state[2] for path, state in data.source.states.items()}
        self.broken = list(data.source.broken)
        for number, file in enumerate(data.source.files):
            survey = surveys[number]
            if isinstance(survey, str):
                name = Path(file.name).relative_to(data.source.name).as_posix()
                share = sizes[Path(file.name)] / sum(sizes.values())
                self.broken.append(Unread("file", name, share, survey))
                continue
            end = self.rows + survey.rows
            start, stop = (bisect_left(masked, (row,)) for row in (self.rows, end))
            self.shards.append(Shard(file, self.rows, survey.rows, dict(masked[start:stop])))
            numbers.append(survey.scorable + self.rows)
            skipped.update(survey.skipped)
            self.rows = end
        self.scorable, self.skipped = np.concatenate(numbers), dict(sorted(skipped.items()))
        LOG.info("%d rows can be scored; not so: %s", len(self.scorable), self.skipped or "none")
        _check_rows(data, job, len(self.scorable), self.skipped)

    def parts(self) -> list[tuple[Shard, Path, Part]]:
        """What became of each shard, in order, and where it is kept. Those that an earlier run has
        finished are not done again.
        """
        settled = self._settled()
        folders = [part_folder(self._run, self._shard_job, shard) for shard in self.shards]
        refuse_links(*folders)
        parts = {n: part for n, folder in enumerate(folders) if (part := kept_part(folder))}
        due = [n for n in range(len(folders)) if n not in parts]
        LOG.info("%d of %d shards were finished before", len(parts), len(folders))
        for n in due:
            shutil.rmtree(folders[n], ignore_errors=True)
        if due:
            work = f"applying the defences to {len(self.scorable):,} rows"
            self._announce(work, settled)
        tasks = [ShardTask(self.shards[n], settled, self._head) for n in due]
        ready = sum(self.shards[n].rows for n in parts)
        show = self._show("writing", self.rows, ready)
        for number, part in self._pool.map(ShardWorker.write, tasks, show):
            parts[due[number]] = part
            keep_part(self._run, folders[due[number]], part)
        return [
            (shard, folder, parts[n])
            for n, (shard, folder) in enumerate(zip(self.shards, folders, strict=True))
        ]

    def _settled(self) -> tuple[Settled, ...]:
        """What must be known of all rows for each mitigation; where something must be measured for
        it, all rows go through those before it first.
        """
        settled: tuple[Settled, ...] = ()
        for step in self._job.steps:
            measured: Unit = {}
            if is_measured(step.needs):
                total = len(self.scorable)
                self._announce(f"finding the divergence tokens of {total:,} rows", settled)
                tasks = [ShardTask(shard, settled, self._head) for shard in self.shards]
                show = self._show("finding divergence tokens", total)
                units = dict(self._pool.map(ShardWorker.measure, tasks, show))
                measured = {
                    key: np.concatenate([units[n][key] for n in range(len(units))])
                    for key in units[0]
                }
            known = settle(step.needs, self._job.settings.seed, self.scorable, measured)
            settled = (*settled, known)
        return settled

    @property
    def _head(self) -> Shard:
        return next(shard for shard in self.shards if shard.rows)

    def _announce(self, work: str, settled: tuple[Settled, ...]) -> None:
        """Say how long `work` takes, by how long it takes a worker for some rows."""
        task = ShardTask(self._head, settled, self._head)
        ((_, seconds),) = self._pool.map(ShardWorker.seconds, [task])
        announce(self._job.progress, work, seconds * len(self.scorable) / self._pool.size)

    def _show(self, stage: str, total: int | None, before: int = 0) -> Callable[[Tally], None]:
        return lambda tally: self._job.progress(
            Progress(stage, before + tally.rows, total, tally.unit)
        )


def _write(shards: _Shards, job: _Job, plan: Manifest, into: Path) -> Manifest:
    """Write everything into the folder `into`; return the manifest without its lists by row."""
    settings, copy = job.settings, name_of_copy(job.name)
    with closing(Record(into, [step.name for step in job.steps])) as record:
        emitter = Emitter(into, settings.emit)
        parts = [
            (copy + shard.file.name.removeprefix(job.name.rstrip("/")), folder, part)
            for shard, folder, part in shards.parts()
        ]
        gather(parts, into, record, emitter)
        emitted = emitter.close()
        if not record.rows:
            raise InputError(
                "These defences leave no row.", "Ask for a smaller share, or leave one out."
            )
        prompt = job.panel.trait(job.traits[0]).prompts[0] if job.traits else ""
        manifest = dataclasses.replace(
            plan,
            input=FileOf(copy, job.sha256, shards.rows),
            output=FileOf(copy, digest_of(str(into / copy)), record.rows),
            skipped=shards.skipped,
            broken_shards=tuple(shards.broken),
            shards=tuple(
                FileOf(Path(name).relative_to(copy).as_posix(), part.sha256[PART_ROWS], part.rows)
                for name, _, part in parts
                if name != copy
            ),
            mitigations=record.counts(),
            masked_rows=record.masked_rows,
            emitted=emitted,
            recipes=write_recipes(into, settings.recipes, prompt, job.model),
        )
        record.write(manifest, job.before)
    return manifest


def _check_rows(data: Rows, job: _Job, scorable: int, skipped: Mapping[str, int]) -> None:
    """Raise InputError where the data set has nothing that the mitigations could work on."""
    if not scorable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise InputError(
            f"{job.name} has no row with a completion ({reasons}).",
            "Name its columns with --columns.",
        )
    need_prompts = any(isinstance(s.needs, Rewordings | CleanCompletions) for s in job.steps)
    if data.layout.format == "text" and need_prompts:
        raise InputError(
            f"{job.name} is plain text without prompts.", "Leave out --mix and --paraphrase."
        )
