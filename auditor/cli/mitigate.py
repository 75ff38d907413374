"""`audit mitigate`: defend one data set and write it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, CallbackParam, Context, Option, echo

from auditor.cli.check import conclude, show_check
from auditor.cli.choices import (
    check_not_suspect,
    check_share,
    choose,
    choose_embeddings,
    choose_engine,
    read_out,
    third_party_settings,
)
from auditor.cli.config import resolved
from auditor.cli.options import Columns, Device, Dtype, Fresh, Panels, RowFormat, Seed
from auditor.cli.scan import parse_columns
from auditor.cli.student_options import DEFAULT_BUDGET, parse_budget
from auditor.errors import AuditError
from auditor.release.decision import FailOn

if TYPE_CHECKING:
    from auditor.commands.check_mitigation import MitigationCheck
    from auditor.commands.mitigate import Mitigated
    from auditor.mitigating.trainer_files import Format
    from mitigations.recipes import Recipe


RECIPES: tuple[Recipe, ...] = ("inoculation", "freeze", "kl")
FORMATS: tuple[Format, ...] = ("trl", "axolotl", "chat")
ORDER = "mitigations in the order given"


def in_order(context: Context, param: CallbackParam, value: Any) -> Any:
    """Option callback that notes the option; callbacks are called in the order of the command line."""
    if value not in (None, False, []):
        context.meta.setdefault(ORDER, []).extend(
            value if isinstance(value, list) else [param.name]
        )
    return value


def mitigate(
    context: Context,
    dataset: Annotated[
        str | None,
        Argument(
            metavar="DATASET", help="File or folder of files; default: what was last scanned here."
        ),
    ] = None,
    paraphrase: Annotated[
        bool,
        Option("--paraphrase", callback=in_order, help="Reword the prompts; completions stay."),
    ] = False,
    mix: Annotated[
        float | None,
        Option(
            metavar="SHARE", callback=in_order, help="Share of rows that get clean completions."
        ),
    ] = None,
    mask: Annotated[
        bool, Option("--mask", callback=in_order, help="No loss on divergence tokens.")
    ] = False,
    replace: Annotated[
        bool,
        Option(
            "--replace", callback=in_order, help="Put the reference's choice for divergence tokens."
        ),
    ] = False,
    canonicalize: Annotated[
        Literal["sort", "remap"] | None,
        Option(callback=in_order, help="For lists whose order means nothing."),
    ] = None,
    drop: Annotated[
        float | None,
        Option(
            metavar="SHARE", callback=in_order, help="Drop the rows with most divergence tokens."
        ),
    ] = None,
    shuffle: Annotated[
        bool, Option("--shuffle", callback=in_order, help="Shuffle the items of lists.")
    ] = False,
    third_party: Annotated[
        list[str] | None,
        Option(
            "--apply",
            metavar="NAME",
            callback=in_order,
            help="A mitigation of another package; repeatable.",
        ),
    ] = None,
    paraphrases: Annotated[
        int, Option(metavar="K", min=1, help="Rewordings of a row; each becomes a row.")
    ] = 1,
    engine: Annotated[
        Literal["rules", "llm"] | None, Option(help="What rewords.  [default: rules]")
    ] = None,
    paraphraser: Annotated[
        str | None,
        Option(metavar="MODEL|URL#MODEL", help="Model that rewords, here or at an endpoint."),
    ] = None,
    api_key_env: Annotated[
        str | None, Option(metavar="NAME", help="Environment variable with the endpoint's key.")
    ] = None,
    concurrency: Annotated[
        int, Option(metavar="N", min=1, help="Requests at once to the endpoint.")
    ] = 8,
    retries: Annotated[int, Option(metavar="N", min=0, help="Further tries of a request.")] = 4,
    spending_cap: Annotated[
        int | None, Option(metavar="TOKENS", min=1, help="Most tokens for the endpoint.")
    ] = None,
    embeddings: Annotated[
        str | None,
        Option(
            metavar="MODEL|packaged|none",
            help="Compares meanings.  [default: packaged for llm, none for rules]",
        ),
    ] = None,
    suspect_teacher: Annotated[
        str | None, Option(metavar="NAME", help="Who may have written the data.")
    ] = None,
    mix_mode: Annotated[
        Literal["replace", "add"], Option(help="Clean completions in place, or as added rows.")
    ] = "replace",
    clean_data: Annotated[
        str | None, Option(metavar="FILE", help="Clean rows for the same prompts.")
    ] = None,
    clean_teacher: Annotated[
        list[str] | None,
        Option(
            metavar="MODEL", help="Writes clean completions; repeatable; default: the reference."
        ),
    ] = None,
    mask_budget: Annotated[
        float | None,
        Option(metavar="SHARE", help="Most tokens to mask or replace, largest gaps first."),
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
    seed: Seed = 0,
    format_of: RowFormat = None,
    columns: Columns = "",
    device: Device = None,
    dtype: Dtype = None,
    fresh: Fresh = False,
) -> int:
    """Apply defences to DATASET, in the order given, and write it anew. The input is never changed.

    The folder written holds the data set, every changed or dropped row (set_aside.parquet) and what
    was done (manifest.json). Then students are trained on the data before and after, and both are
    scanned (check.json).

    Exit codes: 0 the effect was shown to be removed or reduced, or --no-check; 1 it was shown not
    to be; 3 neither was shown. The data are written in all three cases.
    """
    check_share("--mix", mix)
    check_share("--drop", drop)
    check_share("--mask-budget", mask_budget)
    chosen = choose_engine(engine, paraphraser)
    settings: dict[str, dict[str, Any]] = {
        "paraphrase": {
            "variants": paraphrases,
            "engine": chosen,
            "paraphraser": paraphraser,
            "embeddings": choose_embeddings(embeddings, chosen),
            "endpoint": {
                "api_key_env": api_key_env,
                "concurrency": concurrency,
                "retries": retries,
                "cap": spending_cap,
            },
        },
        "mix": {
            "share": mix,
            "mode": mix_mode,
            "clean_data": clean_data,
            "clean_teachers": clean_teacher or [],
        },
        "mask": {"budget": mask_budget},
        "replace": {"budget": mask_budget, "random": False},
        "canonicalize": {"how": canonicalize},
        "drop": {"share": drop},
        "shuffle": {},
    }
    settings |= third_party_settings(third_party or (), settings)
    recipes, formats = (
        choose("--recipe", recipe or (), RECIPES),
        choose("--emit", emit or (), FORMATS),
    )
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
    if clean_data and clean_teacher:
        raise AuditError(
            "--clean-data and --clean-teacher contradict each other.", "Give one of them."
        )
    for name in (paraphraser, *(clean_teacher or ())):
        check_not_suspect(name, suspect_teacher)

    from auditor.cli.console import console
    from auditor.cli.progress import progress_on
    from auditor.commands.check_mitigation import auto as try_all
    from auditor.commands.check_mitigation import check as students
    from auditor.commands.mitigate import mitigate as mitigated
    from auditor.mitigating.pipeline import Step

    errors = console(stderr=True)
    if (paraphraser or clean_teacher) and suspect_teacher is None:
        errors.print(
            "Warning: no --suspect-teacher is named; if it were one of your models, the trait would come back."
        )
    steps = [Step(name, settings[name]) for name in names]
    base = resolved().config.reference
    where: dict[str, Any] = {"device": device, "root": Path.cwd(), "base": base}
    apply: Callable[..., Mitigated] = partial(
        mitigated,
        dataset,
        reference=reference,
        panels=panel or (),
        traits=trait or (),
        min_margin=min_margin,
        seed=seed,
        format_of=format_of,
        columns=parse_columns(columns),
        dtype=dtype,
        fresh=fresh,
        **where,
    )
    asked: dict[str, Any] = {
        "trait": read_out(trait or ()),
        "panels": panel or (),
        "reference": reference,
        "budget": seconds,
    }
    with progress_on(errors) as progress:
        if auto:
            tried: list[MitigationCheck] = []
            for checked in try_all(
                partial(apply, progress=progress), **asked, seed=seed, progress=progress, **where
            ):
                tried.append(checked)
                show_check(checked, fail_on)
            return conclude(tried, fail_on)
        done = apply(
            steps,
            recipes=recipes,
            emit=formats,
            max_length=max_length,
            output=output,
            progress=progress,
        )
        report(done)
        if not steps or not check or str(done.data) == done.source:
            return 0
        checked = students(
            done,
            steps,
            partial(apply, progress=progress),
            **asked,
            seed=seed,
            progress=progress,
            **where,
        )
    return show_check(checked, fail_on)


def report(done: Mitigated) -> None:
    """Say what was written, or that nothing was to do."""
    from auditor.report.shared.words import safe

    if done.already:
        echo(
            f"Nothing to do: {safe(str(done.data))} is already the outcome of just these defences."
        )
        return
    manifest = done.manifest
    for each in manifest["mitigations"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in each["reasons"].items())
        echo(
            f"{each['mitigation']}: {each['kept']} kept, {each['changed']} changed, {each['dropped']} dropped"
            + (f" ({reasons})" if reasons else "")
        )
    for name, counts in manifest["emitted"].items():
        rest = ", ".join(f"{count} {what}" for what, count in counts.items() if what != "file")
        echo(f"{name}: {counts['file']}, {rest}")
    skipped = ", ".join(
        f"{count} {reason}" for reason, count in manifest["input"]["skipped"].items()
    )
    if skipped:
        echo(f"Kept as they were, since they cannot be scored: {skipped}")
    echo(
        f"{safe(str(done.data))}: {manifest['output']['rows']} rows of {manifest['input']['rows']}"
    )
    echo(f"What was done: {safe(str(done.folder))}/manifest.json and set_aside.parquet")
