"""`audit models`: the built-in reference models."""

from __future__ import annotations

from typing import Annotated

import typer

from auditor.cli.logs import with_logging
from auditor.errors import ModelError

app = typer.Typer(help="List and fetch the built-in reference models.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List and fetch the built-in reference models."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
@with_logging
def list_models() -> int:
    """List the built-in models."""
    from auditor.cli.console import console, table
    from auditor.model.builtin import BUILT_IN, is_fetched

    rows = table("name", "parameters", "licence", "fetched", "what it is")
    for name, model in BUILT_IN.items():
        fetched = "yes" if is_fetched(name) else "no"
        rows.add_row(name, f"{model.parameters / 1e6:.1f}M", model.licence, fetched, model.summary)
    console().print(rows)
    return 0


@app.command("fetch")
@with_logging
def fetch_model(
    name: str,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the terms of a model that has some.")
    ] = False,
) -> int:
    """Fetch the built-in model NAME into the cache."""
    from auditor.model.builtin import BUILT_IN, ModelWithTerms, fetch, is_fetched

    if name not in BUILT_IN:
        raise ModelError(f"There is no built-in model {name!r}.", f"Known: {', '.join(BUILT_IN)}.")
    if not is_fetched(name) and (accept_terms or not isinstance(BUILT_IN[name], ModelWithTerms)):
        typer.echo(f"Fetching {name}, which takes about a minute.", err=True)
    typer.echo(fetch(name, accepted=accept_terms))
    return 0
