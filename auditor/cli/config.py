"""`audit config`: the settings in force here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from auditor.cli.logs import is_quiet, with_logging

if TYPE_CHECKING:
    from auditor.cli.configuration import Resolved


app = typer.Typer(help="Show the settings in force here.", rich_markup_mode=None)


def resolved(**options: object) -> Resolved:
    """The configuration in the working directory; `options` are those of the command line,
    "policy_x" for the key "policy.x". Settings above that are passed over are told on stderr. Its
    limits are in force for what the command reads from here on.
    """
    import os
    from pathlib import Path

    from auditor.cli.configuration import resolve
    from auditor.data.limits import IN_FORCE, Limits
    from auditor.report.shared.words import safe

    named = {key.replace("policy_", "policy.", 1): value for key, value in options.items()}
    settings = resolve(Path.cwd(), os.environ, named)
    if settings.passed_over is not None:
        path = safe(str(settings.passed_over))
        typer.echo(f"Note: {path} is not read; settings are those of this folder.", err=True)
    IN_FORCE.set(Limits(**settings.config.limits.model_dump()))
    return settings


def tell_settings(settings: Resolved) -> None:
    """Say on standard error which settings of a scan do not come from the command line."""
    from auditor.cli.configuration import COMMAND_LINE
    from auditor.report.shared.words import safe

    for origin in sorted({*settings.origins.values()} - {COMMAND_LINE}):
        keys = [key for key, of in settings.origins.items() if of == origin and "." not in key]
        if keys and not is_quiet():
            typer.echo(f"Settings from {safe(origin)}: {', '.join(keys)}.", err=True)


@app.callback(invoke_without_command=True)
def config(context: typer.Context) -> None:
    """Show the settings in force here."""
    if context.invoked_subcommand is None:
        show()


@app.command("show")
@with_logging
def show() -> int:
    """Print every setting, its value, and where that comes from."""
    from operator import attrgetter

    from rich.text import Text

    from auditor.cli.configuration import DEFAULT, keys
    from auditor.cli.console import console, table
    from auditor.report.shared.words import safe

    settings = resolved()
    rows = table("setting", "value", "from")
    for key in keys():
        value = attrgetter(key)(settings.config)
        origin = settings.origins.get(key, DEFAULT)
        rows.add_row(key, Text(safe(written(value))), Text(safe(origin)))
    console().print(rows)
    return 0


def written(value: object) -> str:
    """A value as the file would have it."""
    if isinstance(value, list):
        return ", ".join(value) or "any"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {dose:g}" for name, dose in value.items()) or "none"
    return "not set" if value is None else str(value)
