"""The options of the commands that train students, declared here once.

`with_student_options` gives them to a command in place of its parameter `settings`.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

from typer import Option

from auditor.cli.config import resolved
from auditor.cli.options import Device, Panels, Reference, Seed
from auditor.errors import AuditError
from auditor.students.settings import StudentSettings, TrainingConfig

DEFAULT_BUDGET = "30m"
_UNITS = {"s": 1, "m": 60, "h": 3600}

Rank = Annotated[
    int | None, Option(metavar="N", min=1, help="Of the students' LoRA.  [default: 8]")
]
LoraAlpha = Annotated[
    int | None, Option(metavar="N", min=1, help="Scale of the LoRA.  [default: 16]")
]
# The name of --lora-alpha in earlier releases; elsewhere it is the level of false alarms.
Alpha = Annotated[int | None, Option("--alpha", min=1, hidden=True)]
LearningRate = Annotated[
    float | None,
    Option(metavar="RATE", min=0.0, help="[default: 2e-4; --full 2e-5; under 10M weights 3e-4]"),
]


def student_settings(
    reference: Reference = None,
    panel: Panels = None,
    blocks: Annotated[
        int, Option(metavar="N", min=1, help="Disjoint blocks of rows, the unit of inference.")
    ] = 3,
    rows: Annotated[
        int | None, Option(metavar="N", min=1, help="Rows of a block; default: what there is.")
    ] = None,
    updates: Annotated[
        int | None, Option(metavar="N", min=1, help="Of each student; default: one pass, or 60.")
    ] = None,
    budget: Annotated[
        str | None,
        Option(
            metavar="TIME",
            help="As 90s, 15m or 2h; default: 30m, or none with --rows or --updates.",
        ),
    ] = None,
    rank: Rank = None,
    lora_alpha: LoraAlpha = None,
    alpha: Alpha = None,
    layers: Annotated[
        str | None, Option(metavar="N,..", help="Train these layers only, from 0.")
    ] = None,
    full: Annotated[
        bool, Option("--full", help="Train all weights; default for models under 10M.")
    ] = False,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    device: Device = None,
) -> StudentSettings:
    """The settings that the options mean. Raises AuditError for contradictions."""
    config = resolved(reference=reference, panels=panel).config
    # Who names the size has no need of a limit; who does not must not wait for days.
    by_default = DEFAULT_BUDGET if rows is None and updates is None else None
    selected, lora_alpha = parse_layers(layers), lora_alpha or alpha
    if full and (rank or lora_alpha or selected is not None):
        raise AuditError(
            "--full trains all weights.", "Leave out --full, or --rank, --lora-alpha and --layers."
        )
    default = TrainingConfig()
    # A step in all weights goes further than one in a LoRA.
    rate = learning_rate or (2e-5 if full else default.learning_rate)
    training = TrainingConfig(
        rank=rank or default.rank,
        lora_alpha=lora_alpha or default.lora_alpha,
        layers=selected,
        full=full,
        learning_rate=rate,
    )
    # Without any of these options the size of the model decides, see `training_for`.
    is_named = full or rank or lora_alpha or learning_rate or selected is not None
    return StudentSettings(
        reference=config.reference,
        panels=tuple(config.panels),
        blocks=blocks,
        rows=rows,
        updates=updates,
        budget=parse_budget(budget or by_default),
        training=training if is_named else None,
        seed=seed,
        device=device,
    )


def with_student_options(command: Callable[..., int]) -> Callable[..., int]:
    """The same command with the options of `student_settings` in place of its parameter `settings`.

    An option that the command declares itself goes to the command alone.
    """
    hints = get_type_hints(command, include_extras=True)
    declared = inspect.signature(command).parameters
    shared_hints = get_type_hints(student_settings, include_extras=True)
    # Annotations are strings in these modules, so they are resolved where they were written.
    shared = [
        parameter.replace(annotation=shared_hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(student_settings).parameters.items()
        if name not in declared
    ]
    parameters: list[inspect.Parameter] = []
    for name, parameter in declared.items():
        if name == "settings":
            parameters += shared
        else:
            parameters.append(
                parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            )

    @functools.wraps(command)
    def with_settings(**options: Any) -> int:
        students = {parameter.name: options.pop(parameter.name) for parameter in shared}
        return command(settings=student_settings(**students), **options)

    # Typer reads the options of a command from its signature.
    setattr(with_settings, "__signature__", inspect.Signature(parameters))  # noqa: B010
    with_settings.__annotations__ = {x.name: x.annotation for x in parameters}
    return with_settings


def parse_budget(value: str | None) -> float | None:
    """`90s`, `15m` or `2h` in seconds; None stays None. Raises AuditError for anything else."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value)
    if match is None or float(match[1]) == 0:
        raise AuditError(f"--budget {value!r} is not a time.", "Write --budget 90s, 15m or 2h.")
    return float(match[1]) * _UNITS[match[2]]


def parse_layers(value: str | None) -> tuple[int, ...] | None:
    """`0,7` as numbers; None stays None. Raises AuditError for anything else."""
    if value is None:
        return None
    if not re.fullmatch(r"\d+(,\d+)*", value):
        raise AuditError(
            f"--layers {value!r} are not numbers.", "Write --layers 0 or --layers 0,7."
        )
    return tuple(sorted({int(number) for number in value.split(",")}))
