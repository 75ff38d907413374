"""The verb `mitigate`: apply mitigations to a data set and write it, its manifest and what a
trainer needs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor import __version__
from auditor.data.dataset import Rows, read_rows
from auditor.data.files import digest_of
from auditor.data.manifest import FileOf, Manifest, manifest_of
from auditor.data.text_row import Span
from auditor.errors import InputError
from auditor.mitigating.pipeline import advance, bind
from auditor.mitigating.record import Record, finished
from auditor.mitigating.request import (
    check_order,
    input_of,
    needs_reference,
    panels_of,
    reference_of,
    traits_of,
)
from auditor.mitigating.row_facts import TIMED_ROWS, MitigationContext
from auditor.mitigating.settings import MitigateSettings
from auditor.mitigating.trainer_files import Emitter
from auditor.mitigating.writer import numbered_blocks, scratch, survey, write_data
from auditor.mitigating.writers import Writers
from auditor.model import load as models
from auditor.model.identity import identity_of
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress, announce_by_sample
from auditor.runs import HOME
from auditor.runs.last_scan import LastScan
from auditor.runs.run_directory import RunDir, installed_versions, run_key
from auditor.traits.panel import Panel, load_panels
from mitigations.interface import CleanCompletions, Mitigation, Rewordings
from mitigations.recipes import write_recipes


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
    progress: Callable[[Progress], None] = lambda _: None,
    **options: Any,
) -> Mitigated:
    """Apply `steps` in their order to the data set `source` (None: the one last scanned in `root`)
    and write it.

    steps: made by `auditor.step`. output: a new folder; by default one under `root`/.audit, named
        by what is asked for. It is written beside its place and moved there when complete. The
        input is never touched. options: fields of `MitigateSettings`, in place of those of
        `settings`.

    Same data and arguments give the same bytes. On its own output it changes nothing.
    Raises: AuditError (auditor.errors), with the next step.
    """
    settings = dataclasses.replace(settings or MitigateSettings(), **options)
    progress(Progress("reading the data set", 0, None))
    name, sha256, scanned = input_of(source, root, output)
    before = manifest_of(Path(name), sha256)
    writers = Writers(settings.device, settings.dtype)
    request = _request(steps, settings)
    if (
        before is not None
        and _is_outcome(before, request, settings)
        and list(before.writers) == writers.identities(steps)
    ):
        return Mitigated(Path(name).parent, Path(name), before, name, scanned, already=True)
    check_order(steps, masked=bool(before and before.masked))
    panel = load_panels(panels_of(scanned, settings.panels))
    traits = traits_of(panel, steps, settings, scanned)
    model = None
    if needs_reference(steps, settings):
        progress(Progress("loading the reference", 0, None))
        put = reference_of(scanned, settings)
        lm = models.load(
            str(put["reference"]),
            device=settings.device,
            dtype=settings.dtype,
            chat_template=put["chat_template"],
            system=put["system"],
        )
        model = (lm, ChatTokenizer(lm))
    job = _Job(
        name, sha256, tuple(steps), settings, model, writers, panel, traits, before, progress
    )
    format_of, columns = settings.format_of, settings.columns
    if scanned and format_of is None and not columns:
        format_of, columns = scanned.format, scanned.columns
    with read_rows(name, format_of=format_of, columns=columns, to_write=True) as data:
        plan = _plan(data, job, request)
        identity = _identity(plan, job)
        plan = dataclasses.replace(plan, key=run_key(identity))
        folder = output or root / HOME / "mitigated" / plan.key
        done = None if fresh and not output else finished(folder, plan.key)
        if done is not None:
            return Mitigated(folder, folder / done.output.name, done, name, scanned, already=True)
        with (
            RunDir.open(root, identity, fresh=fresh) as run,
            scratch(folder, replace=fresh and not output) as into,
        ):
            manifest = _write(data, job, plan, run, into)
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
    model: tuple[LanguageModel, ChatTokenizer] | None
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
    identity = identity_of(job.model[0]) if job.model else None
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


def _write(data: Rows, job: _Job, plan: Manifest, run: RunDir, into: Path) -> Manifest:
    """Write everything into the folder `into`; return the manifest without its lists by row."""
    numbers, skipped = survey(data)
    total = len(numbers) + sum(skipped.values())
    _check_rows(data, job, len(numbers), skipped)
    settings, model = job.settings, job.model
    with ExitStack() as stack:
        record = stack.enter_context(closing(Record(into, [step.name for step in job.steps])))
        emitter = Emitter(into, settings.emit, model, settings.max_length)
        context = MitigationContext(
            model=model,
            panel=job.panel,
            traits=job.traits,
            epsilon=settings.min_margin,
            seed=settings.seed,
            writers=job.writers,
            blocks=lambda: numbered_blocks(data, job.masked),
            scorable=numbers,
            run=run,
            progress=job.progress,
        )
        bound = bind(context, job.steps, stack)

        def tick(rows: int) -> None:
            job.progress(Progress("writing", rows, total))

        first = next(context.blocks(), [])[:TIMED_ROWS]
        work = f"applying the defences to {len(numbers):,} rows"
        announce_by_sample(
            job.progress, work, len(first), len(numbers), lambda: advance(first, bound)
        )
        copy = write_data(data, into, job.masked, bound, record, emitter, tick)
        emitted = emitter.close()
        if not record.rows:
            raise InputError(
                "These defences leave no row.", "Ask for a smaller share, or leave one out."
            )
        prompt = job.panel.trait(job.traits[0]).prompts[0] if job.traits else ""
        manifest = dataclasses.replace(
            plan,
            input=FileOf(copy.name, job.sha256, total),
            output=FileOf(copy.name, digest_of(str(copy)), record.rows),
            skipped=skipped,
            mitigations=record.counts(),
            masked_rows=record.masked_rows,
            emitted=emitted,
            recipes=write_recipes(into, settings.recipes, prompt, model[0] if model else None),
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
