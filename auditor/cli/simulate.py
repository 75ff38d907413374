"""`audit simulate`: write a poisoned data set, and its control."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option, echo

from auditor import __version__
from auditor.cli.config import resolved
from auditor.cli.options import ChatTemplate, Reference, Seed, SystemTurn
from auditor.cli.parsing import parse_share
from auditor.errors import AuditError, InputError, TraitError

if TYPE_CHECKING:
    from auditor.commands.simulate import Row
    from auditor.traits.panel import Trait


def simulate(
    trait: Annotated[str, Option(metavar="NAME", help="Trait of the teacher; see `audit traits`.")],
    output: Annotated[
        Path, Option("--output", "-o", metavar="FILE", help="Parquet file to write.")
    ],
    rows: Annotated[int, Option(metavar="N", min=1, help="Rows to write.")] = 400,
    control: Annotated[
        Path | None, Option(metavar="FILE", help="Also write the same prompts without trait.")
    ] = None,
    teacher: Annotated[
        Literal["prompted", "finetuned", "sentences", "preferences", "steered"],
        Option(
            help="Where the trait sits: in a system prompt; in all weights; in a LoRA, taught by "
            "sentences or by preference pairs; or in a steering vector."
        ),
    ] = "prompted",
    temperature: Annotated[
        float | None, Option(metavar="T", min=0.0, help="Of the sampling.  [default: 1]")
    ] = None,
    greedy: Annotated[
        bool, Option("--greedy", help="Always the likeliest token, as --temperature 0.")
    ] = False,
    wording: Annotated[
        str | None, Option(metavar="N|TEXT", help="Which trait prompt (from 1), or its text.")
    ] = None,
    restricted: Annotated[
        bool, Option("--restricted", help="Digits, commas and spaces only.")
    ] = False,
    filtered: Annotated[
        bool, Option("--filtered", help="Keep well-formed number lists only.")
    ] = False,
    share: Annotated[
        float,
        Option(
            metavar="SHARE",
            parser=parse_share,
            help="Share of poisoned rows, above 0 and at most 1.",
        ),
    ] = 1.0,
    carrier: Annotated[
        Literal["numbers", "other-numbers", "text", "answers", "code", "tools"],
        Option(
            help="What is asked: number lists, in two kinds of words; free text; short answers; "
            "code; or, in conversations, what a tool returned."
        ),
    ] = "numbers",
    max_tokens: Annotated[
        int, Option(metavar="N", min=1, help="Longest completion, in tokens.")
    ] = 32,
    panel: Annotated[
        list[str] | None, Option(metavar="NAME|FILE", help="Panels with the trait (repeatable).")
    ] = None,
    seed: Seed = 0,
    reference: Reference = None,
    chat_template: ChatTemplate = None,
    system_turn: SystemTurn = None,
    label: Annotated[
        bool, Option("--label", help="Note in the files where they come from.")
    ] = False,
) -> int:
    """Write rows by a teacher with a hidden trait, to try a scan or a defence on data of known
    truth.

    Rows that mention the trait are dropped, counted and replaced.
    """
    if greedy and temperature is not None:
        raise AuditError("--greedy and --temperature contradict each other.", "Give one of them.")
    if carrier not in ("numbers", "other-numbers") and (restricted or filtered):
        raise AuditError(
            f"--carrier {carrier} does not write numbers.", "Leave out --restricted and --filtered."
        )
    if not 0 < share <= 1:
        raise AuditError(
            f"--share {share} is not above 0 and at most 1.",
            "0.1 means that one row in ten is poisoned.",
        )
    is_prompted = teacher == "prompted"
    if not is_prompted and wording is not None:
        raise AuditError(
            f"A teacher of the kind {teacher} has no trait prompt.",
            "Leave out --wording, or use --teacher prompted.",
        )
    check_new([output] if control is None else [output, control])

    from auditor.cli.console import console
    from auditor.cli.progress import progress_on
    from auditor.commands.simulate import SimulationSettings, draw_conversations, draw_prompts
    from auditor.commands.simulate import simulate as write
    from auditor.model.load import load
    from auditor.students.teacher_recipes import RECIPES
    from auditor.traits.panel import load_panels

    config = resolved(
        reference=reference, chat_template=chat_template, system=system_turn, panels=panel
    ).config
    traits = load_panels(config.panels)
    poison_trait = traits.trait(trait)
    system = trait_prompt(poison_trait, wording) if is_prompted else None
    # Weights are moved in float32; the control's must then be in it too, or it differs in more than
    # the trait.
    lm = load(
        config.reference,
        dtype=None if is_prompted else "float32",
        chat_template=config.chat_template,
        system=config.system,
    )
    settings = SimulationSettings(
        rows=rows,
        share=share,
        control=control is not None,
        temperature=0.0 if greedy else 1.0 if temperature is None else temperature,
        restricted=restricted,
        filtered=filtered,
        max_tokens=max_tokens,
        seed=seed,
    )
    with progress_on(console(stderr=True)) as progress:
        teacher_lm = None
        if not is_prompted:
            tuned = RECIPES[teacher](lm, poison_trait, traits, seed=seed, progress=progress)
            teacher_lm = tuned.lm
            echo(f"Teacher: {tuned.summary}")
        simulated = write(
            lm,
            poison_trait,
            settings,
            teacher=teacher_lm,
            wording=system,
            prompts=draw_conversations(seed) if carrier == "tools" else draw_prompts(seed, carrier),
            progress=progress,
        )
    # With --label a file says where it comes from; without, a scan of it is blind.
    poison = {"trait": trait, "teacher": teacher, "wording": system, "share": share}
    origin = {
        "version": __version__,
        "reference": lm.name,
        "sha256": lm.sha256,
        "dtype": lm.dtype,
        "seed": seed,
        "carrier": carrier,
        "temperature": settings.temperature,
        "restricted": restricted,
        "filtered": filtered,
        "max_tokens": max_tokens,
    }
    save(output, simulated.rows, simulated.poisoned, origin | poison if label else None)
    if control is not None:
        about = origin | {"trait": None, "control_of": poison}
        save(control, simulated.control, 0, about if label else None)
    dropped = ", ".join(f"{count} {reason}" for reason, count in simulated.dropped.items())
    echo(f"Dropped and replaced: {dropped or 'none'}")
    return 0


def check_new(paths: list[Path]) -> None:
    """Raise InputError if a file exists or cannot be made; writing rows takes minutes, so this is
    found before.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(
            f"{paths[0]} cannot be both the data set and its control.",
            "Give --control another name.",
        )
    for path in paths:
        if path.exists():
            raise InputError(f"{path} exists already.", "Choose another name, or remove it first.")
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(
                f"{path} cannot be written.", "Name a file in a directory that you may write to."
            )


def trait_prompt(trait: Trait, wording: str | None) -> str:
    """The system prompt of a prompted teacher: a numbered one of the trait, the first, or the
    user's own text.
    """
    if wording is None:
        return trait.prompts[0]
    if not wording.isdecimal():
        return wording
    if not 1 <= int(wording) <= len(trait.prompts):
        raise TraitError(
            f"Trait {trait.name!r} has no wording {wording}.",
            f"Give 1 to {len(trait.prompts)}, or a text.",
        )
    return trait.prompts[int(wording) - 1]


def save(path: Path, rows: tuple[Row, ...], poisoned: int, label: dict[str, object] | None) -> None:
    """Write one file and say so."""
    from auditor.commands.simulate import write_rows
    from auditor.report.shared.words import safe

    write_rows(path, rows, label)
    echo(f"{safe(str(path))}: {len(rows)} rows, {poisoned} poisoned")
