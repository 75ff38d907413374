"""`audit mitigate`: defend one data set and write it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Context, Option, echo

from auditor.cli.check import conclude, show_check
from auditor.cli.config import resolved
from auditor.cli.last import tell_last_scan
from auditor.cli.mitigation_options import (
    ORDER,
    check_third_party,
    note_order,
    selected,
    with_mitigation_options,
)
from auditor.cli.options import (
    ChatTemplate,
    Columns,
    Device,
    Dtype,
    EngineOption,
    Fresh,
    Panels,
    RayAddress,
    RowFormat,
    Seed,
    SystemTurn,
)
from auditor.cli.output import check_data_sets, check_outputs
from auditor.cli.parsing import choose, parse_budget, parse_columns
from auditor.cli.student_options import DEFAULT_BUDGET
from auditor.errors import AuditError, RunError
from auditor.release.decision import FailOn

if TYPE_CHECKING:
    from auditor.commands.check_mitigation import MitigationCheck
    from auditor.commands.mitigate import Mitigated
    from auditor.mitigating.trainer_files import Format
    from mitigations.recipes import Recipe


RECIPES: tuple[Recipe, ...] = ("inoculation", "freeze", "kl")
FORMATS: tuple[Format, ...] = ("trl", "axolotl", "chat")


@with_mitigation_options
def mitigate(
    context: Context,
    dataset: Annotated[
        str | None,
        Argument(
            metavar="DATASET", help="File or folder of files; default: what was last scanned here."
        ),
    ] = None,
    third_party: Annotated[
        list[str] | None,
        Option(
            "--apply",
            metavar="NAME",
            callback=note_order,
            help="A mitigation of another package; repeatable.",
        ),
    ] = None,
    suspect_teacher: Annotated[
        str | None, Option(metavar="NAME", help="Who may have written the data.")
    ] = None,
    min_margin: Annotated[
        float | None, Option(metavar="NATS", min=0.0, help="A smaller lead is a tie.")
    ] = None,
    trait: Annotated[
        list[str] | None,
        Option(metavar="NAME|all", help="Whose tokens; repeatable; default: the trait found."),
    ] = None,
    panel: Panels = None,
    recipe: Annotated[
        list[str] | None,
        Option(metavar="|".join(RECIPES), help="Also write a training recipe; repeatable."),
    ] = None,
    emit: Annotated[
        list[str] | None,
        Option(metavar="|".join(FORMATS), help="Also write for a trainer; repeatable."),
    ] = None,
    max_length: Annotated[
        int | None, Option(metavar="N", min=1, help="The trainer's; longer rows are counted.")
    ] = None,
    check: Annotated[
        bool, Option("--check/--no-check", help="Train students to see what is left of the effect.")
    ] = True,
    auto: Annotated[
        bool, Option("--auto", help="Try combinations until a check says removed.")
    ] = False,
    budget: Annotated[
        str, Option(metavar="TIME", help="For the students: 90s, 15m or 2h.")
    ] = DEFAULT_BUDGET,
    fail_on: Annotated[
        FailOn, Option(help="Outcomes of the check that end with an error.")
    ] = "inconclusive",
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FOLDER", help="New folder to write.")
    ] = None,
    reference: Annotated[
        str | None, Option(metavar="MODEL", help="Base of the students; default: the scan's.")
    ] = None,
    chat_template: ChatTemplate = None,
    system_turn: SystemTurn = None,
    seed: Seed = 0,
    format_of: RowFormat = None,
    columns: Columns = "",
    device: Device = None,
    dtype: Dtype = None,
    engine: EngineOption = None,
    ray_address: RayAddress = None,
    scorer: Annotated[
        str | None,
        Option(
            metavar="URL#MODEL",
            help="A vLLM server that scores in the reference's place (experimental).",
        ),
    ] = None,
    fresh: Fresh = False,
    **options: Any,
) -> int:
    """Apply defences to DATASET, in the order given, and write it anew. The input is never changed.

    The folder written holds the data set, every changed or dropped row (set_aside.parquet) and what
    was done (manifest.json). Then students are trained on the data before and after, and both are
    scanned (check.json).

    Exit codes: 0 the effect was shown to be removed or reduced, or --no-check; 1 it was shown not
    to be; 3 neither was shown. The data are written in all three cases.
    """
    check_third_party(third_party or ())
    recipes = choose("--recipe", recipe or (), RECIPES)
    formats = choose("--emit", emit or (), FORMATS)
    names, seconds = context.meta.get(ORDER, []), parse_budget(budget)
    if auto and (names or output or not check):
        raise AuditError(
            "--auto chooses the defences itself.",
            "Leave out other defences, --output and --no-check.",
        )
    if not names and not emit and not recipe and not auto:
        raise AuditError(
            "No defence is named.", "Start with --paraphrase --mix 0.5; see audit mitigate --help."
        )
    steps = selected(names, options)
    check_data_sets(dataset)
    writers = [name for step in steps for name in step.writers]
    for writer in writers:
        # An endpoint is URL#MODEL.
        model = writer.partition("#")[2] if "://" in writer else writer
        if suspect_teacher is not None and same_model(model, suspect_teacher):
            raise AuditError(
                f"The suspect teacher {suspect_teacher} must not write for the defence: "
                "its trait may come along.",
                "Name another model, or leave it to the rules and the reference.",
            )

    from auditor.cli.console import console
    from auditor.cli.progress import progress_on
    from auditor.commands.check_mitigation import auto as check_candidates
    from auditor.commands.check_mitigation import check as check_outcome
    from auditor.commands.mitigate import mitigate as mitigated
    from auditor.engine import engine_named
    from auditor.mitigating.settings import MitigateSettings
    from detectors.divergence import TIE_EPSILON

    if dataset is None:
        tell_last_scan("the data set")
    errors = console(stderr=True)
    if writers and suspect_teacher is None:
        errors.print(
            "Warning: no --suspect-teacher is named; if it were one of your models, the trait "
            "would come back."
        )
    # The folder is a new one; within that of the data set it would be a part of it.
    check_outputs([output], [], dataset)
    config = resolved(
        chat_template=chat_template, system=system_turn, engine=engine, ray_address=ray_address
    ).config
    settings = MitigateSettings(
        reference=reference,
        base=config.reference,
        chat_template=config.chat_template,
        system=config.system,
        panels=tuple(panel or ()),
        traits=tuple(trait or ()),
        min_margin=TIE_EPSILON if min_margin is None else min_margin,
        seed=seed,
        format_of=format_of,
        columns=parse_columns(columns),
        device=device,
        dtype=dtype,
        scorer=scorer,
    )
    apply: Callable[..., Mitigated] = partial(
        mitigated, dataset, settings=settings, fresh=fresh, root=Path.cwd()
    )
    with progress_on(errors) as progress:
        where = engine_named(config.engine, config.ray_address, progress)
        apply = partial(apply, engine=where, progress=progress)
        checked = partial(
            check_outcome,
            apply=apply,
            settings=settings,
            # Without a trait, or with several, students are asked for what the scan found.
            trait=trait[0] if trait and len(trait) == 1 and trait[0] != "all" else None,
            budget=seconds,
            root=Path.cwd(),
            engine=where,
            progress=progress,
        )
        if auto:
            tried: list[MitigationCheck] = []
            for candidate in check_candidates(apply, checked, budget=seconds):
                tried.append(candidate)
                show_check(candidate, fail_on)
            return conclude(tried, fail_on)
        done = apply(steps, recipes=recipes, emit=formats, max_length=max_length, output=output)
        report(done)
        if not steps or not check or str(done.data) == done.source:
            return 0
        outcome = checked(done, steps)
    return show_check(outcome, fail_on)


def same_model(first: str, second: str) -> bool:
    """Whether two names mean one model: the same name, the same folder, or a hub name without and
    with its owner.
    """
    if Path(first).exists() and Path(second).exists():
        return Path(first).resolve() == Path(second).resolve()
    first, second = first.casefold().rstrip("/"), second.casefold().rstrip("/")
    return first == second or first.rsplit("/", 1)[-1] == second.rsplit("/", 1)[-1]


def report(done: Mitigated) -> None:
    """Say what was written, or that nothing was to do. Raises RunError where files were left out:
    what is not there can be neither trained on nor checked.
    """
    from auditor.report.shared.words import safe

    if done.already:
        echo(
            f"Nothing to do: {safe(str(done.data))} is already the outcome of just these defences."
        )
    else:
        _report_new(done)
    if broken := done.manifest.broken_shards:
        for shard in broken:
            echo(f"Left out: {safe(shard.text)}")
        raise RunError(
            f"{len(broken)} of the files could not be read, and nothing of them is written.",
            "Mend or remove them, then run the same command.",
        )


def _report_new(done: Mitigated) -> None:
    from auditor.report.shared.words import safe

    manifest = done.manifest
    for counts in manifest.mitigations:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.reasons.items())
        echo(
            f"{counts.mitigation}: {counts.kept} kept, {counts.changed} changed, "
            f"{counts.dropped} dropped" + (f" ({reasons})" if reasons else "")
        )
    for name, emitted in manifest.emitted.items():
        rows = ", ".join(f"{count} {what}" for what, count in emitted.items() if what != "file")
        echo(f"{name}: {emitted['file']}, {rows}")
    skipped = ", ".join(f"{count} {reason}" for reason, count in manifest.skipped.items())
    if skipped:
        echo(f"Kept as they were, since they cannot be scored: {skipped}")
    echo(f"{safe(str(done.data))}: {manifest.output.rows} rows of {manifest.input.rows}")
    echo(f"What was done: {safe(str(done.folder))}/manifest.json and set_aside.parquet")
