"""The verb `mitigate`: apply defences to a data set and write it, its manifest and what a trainer
needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from auditor import __version__
from auditor.data.dataset import Rows, read_rows
from auditor.data.files import digest_of
from auditor.data.text_row import Span
from auditor.errors import InputError
from auditor.mitigating.manifest import (
    Record,
    SetAside,
    already_done,
    finished,
    manifest_of,
    masked_rows,
)
from auditor.mitigating.pipeline import Step, bind
from auditor.mitigating.recipes import write_recipes
from auditor.mitigating.request import (
    check_order,
    input_of,
    needs_model,
    needs_trait,
    panels_of,
    traits_of,
)
from auditor.mitigating.row_facts import MitigationContext
from auditor.mitigating.settings import attributed
from auditor.mitigating.trainer_files import Emitter, Format
from auditor.mitigating.writer import Output, numbered_blocks, scratch, survey
from auditor.model import load as models
from auditor.model.builtin import BASE
from auditor.model.identity import template_sha256, tokenizer_sha256
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.runs.last_scan import LastScan
from auditor.runs.run_directory import HOME, RunDir, run_key
from auditor.traits.panel import Panel, load_panels
from detectors.divergence import TIE_EPSILON
from mitigations.recipes import Recipe

Model = tuple[LanguageModel, ChatTokenizer]


@dataclass(frozen=True, slots=True)
class Mitigated:
    """What was written, or had been before.

    folder: holds everything. data: the new data set. manifest: the content of manifest.json but for
    the lists by row. source: the data set it was made of. scanned: the last scan, if it was of
    these very rows. already: nothing was done, because just this had been done before.
    """

    folder: Path
    data: Path
    manifest: dict[str, Any]
    source: str
    scanned: LastScan | None
    already: bool = False


def mitigate(
    source: str | None,
    steps: Sequence[Step],
    *,
    reference: str | None = None,
    base: str = BASE,
    panels: Sequence[str] = (),
    traits: Sequence[str] = (),
    min_margin: float | None = None,
    recipes: Sequence[Recipe] = (),
    emit: Sequence[Format] = (),
    max_length: int | None = None,
    seed: int = 0,
    format_of: str | None = None,
    columns: Mapping[str, str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    output: Path | None = None,
    fresh: bool = False,
    root: Path = Path(),
    progress: Callable[[Progress], None] = lambda _: None,
) -> Mitigated:
    """Apply `steps` in their order to the data set `source` (None: the one last scanned in `root`)
    and write it.

    steps: "paraphrase" {variants, engine, paraphraser, embeddings, endpoint}, "mix" {share, mode,
        clean_data, clean_teachers}, "mask" {budget}, "replace" {budget, random: as many random
        tokens instead, as a control}, "canonicalize" {how}, "drop" {share}, "shuffle" {}.
    traits: whose divergence tokens count; ("all",) is the whole panel, () the one that the last
        scan of these very rows put first. min_margin: nats; a choice with a smaller lead is a tie
        and flags nothing (None: TIE_EPSILON).
    reference: None is the last scan's of these very rows, or `base` without one. output: a new
        folder; by default one under `root`/.audit, named by what was asked. It is written beside
        its place and moved there when complete. The input is never touched.

    Same data and arguments give the same bytes. On its own output it changes nothing.
    Raises: AuditError (auditor.errors), with the next step.
    """
    progress(Progress("reading the data set", 0, None))
    steps = [attributed(step) for step in steps]
    name, digest, scanned = input_of(source, root, output)
    margin = TIE_EPSILON if min_margin is None else min_margin
    asked = _plain(
        {"steps": [asdict(step) for step in steps], "min_margin": margin, "recipes": recipes}
    )
    asked |= _plain({"emit": emit, "max_length": max_length, "seed": seed})
    own = manifest_of(Path(name), digest)
    if own is not None and already_done(own, asked, traits, reference):
        return Mitigated(Path(name).parent, Path(name), own, name, scanned, already=True)
    masked = masked_rows(own)
    check_order(steps, masked)
    panel = load_panels(panels_of(scanned, panels))
    wanted = traits_of(panel, traits, scanned, needed=needs_trait(steps, recipes))
    model = None
    if needs_model(steps, recipes, emit):
        progress(Progress("loading the reference", 0, None))
        lm = models.load(
            reference or (scanned.reference if scanned else base), device=device, dtype=dtype
        )
        model = (lm, ChatTokenizer(lm))
    settings = asked | {"traits": list(wanted), "panel": panel.name, "panel_sha256": panel.sha256}
    if scanned and format_of is None and not columns:
        format_of, columns = scanned.format, scanned.columns
    job = _Job(
        name,
        digest,
        tuple(steps),
        settings,
        model,
        panel,
        wanted,
        masked,
        own,
        device,
        dtype,
        progress,
    )
    with read_rows(name, format_of=format_of, columns=columns) as data:
        identity = _identity(data, job)
        folder = output or root / HOME / "mitigated" / run_key(identity)
        done = None if fresh and not output else finished(folder, run_key(identity))
        if done is not None:
            return Mitigated(
                folder, folder / done["output"]["name"], done, name, scanned, already=True
            )
        with (
            RunDir.open(root, identity, fresh=fresh) as run,
            scratch(folder, replace=fresh and not output) as into,
        ):
            manifest = _write(data, job, run, run_key(identity), into)
    return Mitigated(folder, folder / manifest["output"]["name"], manifest, name, scanned)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be done, with every default filled in.

    settings: all that the manifest says of it, as plain JSON. masked: what is masked already, by
    row. before: the manifest of the data set if it is itself the output of mitigations.
    """

    name: str
    digest: str
    steps: tuple[Step, ...]
    settings: dict[str, Any]
    model: Model | None
    panel: Panel
    traits: tuple[str, ...]
    masked: Mapping[int, tuple[Span, ...]]
    before: Mapping[str, Any] | None
    device: str | None
    dtype: str | None
    progress: Callable[[Progress], None]


def _write(data: Rows, job: _Job, run: RunDir, key: str, into: Path) -> dict[str, Any]:
    """Write everything into the folder `into`; return the manifest without its lists by row."""
    numbers, skipped = survey(data)
    total = len(numbers) + sum(skipped.values())
    _check_rows(data, job, len(numbers), skipped)
    settings, model = job.settings, job.model
    with ExitStack() as stack:
        record = stack.enter_context(Record([step.name for step in job.steps]))
        emitter = Emitter(into, settings["emit"], model, settings["max_length"])
        aside = SetAside(into)
        defence = MitigationContext(
            model=model,
            panel=job.panel,
            traits=job.traits,
            epsilon=settings["min_margin"],
            seed=settings["seed"],
            device=job.device,
            dtype=job.dtype,
            blocks=lambda: numbered_blocks(data, job.masked),
            scorable=numbers,
            run=run,
            progress=job.progress,
        )
        bound = bind(defence, job.steps, stack)

        def tick(rows: int) -> None:
            job.progress(Progress("writing", rows, total))

        copy = Output(data.layout, job.masked, bound, record, aside, emitter, tick).write(
            data, into
        )
        aside.close()
        emitted = emitter.close()
        if not record.rows:
            raise InputError(
                "These defences leave no row.", "Ask for a smaller share, or leave one out."
            )
        manifest = {
            "tool": f"subliminal-audit {__version__}",
            "key": key,
            "input": {"name": copy.name, "sha256": job.digest, "rows": total, "skipped": skipped},
            "output": {"name": copy.name, "sha256": digest_of(str(copy)), "rows": record.rows},
            "format": data.layout.format,
            "columns": data.layout.columns,
            "settings": settings,
            "reference": _reference(model),
            **_tokens_of(job),
            "mitigations": record.counts(),
            "masked_rows": record.masked_rows,
            "emitted": emitted,
            "recipes": write_recipes(
                into, settings["recipes"], _prompt(job), model[0] if model else None
            ),
        }
        record.write(into, manifest, total)
    return manifest


def _check_rows(data: Rows, job: _Job, scorable: int, skipped: Mapping[str, int]) -> None:
    """Raise InputError where the data set has nothing that the mitigations could work on."""
    if not scorable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise InputError(
            f"{job.name} has no row with a completion ({reasons}).",
            "Name its columns with --columns.",
        )
    if data.layout.format == "text" and any(
        step.name in ("mix", "paraphrase") for step in job.steps
    ):
        raise InputError(
            f"{job.name} is plain text without prompts.", "Leave out --mix and --paraphrase."
        )


def _tokens_of(job: _Job) -> dict[str, str | None]:
    """Digests of the tokenizer and the chat template that the mask holds for."""
    if job.model is None:
        return {key: (job.before or {}).get(key) for key in ("tokenizer_sha256", "template_sha256")}
    tokenizer = job.model[0].tokenizer
    return {
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "template_sha256": template_sha256(tokenizer),
    }


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same as JSON gives it back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def _prompt(job: _Job) -> str:
    """The standard trait prompt of the first trait that counts."""
    return job.panel.trait(job.traits[0]).prompts[0] if job.traits else ""


def _reference(model: Model | None) -> dict[str, Any] | None:
    return (
        None
        if model is None
        else {"name": model[0].name, "sha256": model[0].sha256, "dtype": model[0].dtype}
    )


def _identity(data: Rows, job: _Job) -> dict[str, Any]:
    """What determines the output."""
    steps = job.settings["steps"]
    return {
        "mitigate": __version__,
        "sha256": job.digest,
        "name": Path(job.name).name,
        "format": data.layout.format,
        "columns": data.layout.columns,
        "reference": _reference(job.model),
        "settings": job.settings,
        "masked": run_key({"masked": {str(row): spans for row, spans in job.masked.items()}}),
        "clean": [
            digest_of(s["settings"]["clean_data"])
            for s in steps
            if s["name"] == "mix" and s["settings"]["clean_data"]
        ],
    }
