"""The options of the commands that train students, declared here once.

`with_student_options` gives them to a command in place of its parameter `settings`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

from typer import Option

from auditor.cli.config import resolved
from auditor.cli.options import ChatTemplate, Device, Panels, Reference, Seed, SystemTurn
from auditor.cli.parsing import parse_budget, parse_layers
from auditor.errors import AuditError
from auditor.students.settings import StudentSettings, TrainingConfig

DEFAULT_BUDGET = "30m"


def student_settings(
    reference: Reference = None,
    chat_template: ChatTemplate = None,
    system_turn: SystemTurn = None,
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
    rank: Annotated[
        int | None, Option(metavar="N", min=1, help="Of the students' LoRA.  [default: 8]")
    ] = None,
    lora_alpha: Annotated[
        int | None, Option(metavar="N", min=1, help="Scale of the LoRA.  [default: 16]")
    ] = None,
    # The name of --lora-alpha in earlier releases; elsewhere it is the level of false alarms.
    alpha: Annotated[int | None, Option("--alpha", min=1, hidden=True)] = None,
    layers: Annotated[
        str | None, Option(metavar="N,..", help="Train these layers only, from 0.")
    ] = None,
    full: Annotated[
        bool, Option("--full", help="Train all weights; default for models under 10M.")
    ] = False,
    learning_rate: Annotated[
        float | None,
        Option(
            metavar="RATE", min=0.0, help="[default: 2e-4; --full 2e-5; under 10M weights 3e-4]"
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = None,
) -> StudentSettings:
    """The settings that the options mean. Raises AuditError for contradictions."""
    config = resolved(
        reference=reference, chat_template=chat_template, system=system_turn, panels=panel
    ).config
    # Who names the size has no need of a limit; who does not must not wait for days.
    by_default = DEFAULT_BUDGET if rows is None and updates is None else None
    selected, lora_alpha = parse_layers(layers), lora_alpha or alpha
    if full and (rank or lora_alpha or selected is not None):
        raise AuditError(
            "--full trains all weights.", "Leave out --full, or --rank, --lora-alpha and --layers."
        )
    training = None
    # Without any of these options the size of the model decides, see `training_for`.
    if full or rank or lora_alpha or learning_rate or selected is not None:
        default = TrainingConfig()
        training = TrainingConfig(
            rank=rank or default.rank,
            lora_alpha=lora_alpha or default.lora_alpha,
            layers=selected,
            full=full,
            # A step in all weights goes further than one in a LoRA.
            learning_rate=learning_rate or (2e-5 if full else default.learning_rate),
        )
    return StudentSettings(
        reference=config.reference,
        chat_template=config.chat_template,
        system=config.system,
        panels=tuple(config.panels),
        blocks=blocks,
        rows=rows,
        updates=updates,
        budget=parse_budget(budget or by_default),
        training=training,
        seed=seed,
        device=device,
    )


def with_student_options(command: Callable[..., int]) -> Callable[..., int]:
    """The same command with the options of `student_settings` in place of its parameter `settings`.

    An option that the command declares itself goes to the command alone.
    """
    parameters = inspect.signature(command, eval_str=True).parameters
    shared = {
        name: parameter
        for name, parameter in inspect.signature(student_settings, eval_str=True).parameters.items()
        if name not in parameters
    }
    options: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        options += shared.values() if name == "settings" else [parameter]

    @functools.wraps(command)
    def with_settings(**values: Any) -> int:
        settings = student_settings(**{name: values.pop(name) for name in shared})
        return command(settings=settings, **values)

    # Only keywords may stand in this order, where an option without a default follows others.
    keywords = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    # Typer reads the options of a command from its signature.
    setattr(with_settings, "__signature__", inspect.Signature(keywords))  # noqa: B010
    return with_settings
