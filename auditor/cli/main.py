"""The command `audit`: its sub-commands, and the one place where an error becomes a line and an exit code.

What is slow to import (torch, transformers, rich) is imported inside the functions that need it: `audit --help` has to
answer at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

from auditor import __version__
from auditor.cli import bench, demo, mitigate, models, scan, simulate, traits, verify
from auditor.errors import AuditError

INCOMPLETE = 3
INTERRUPTED = 130

app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.command("scan")(scan.scan)
app.command("mitigate")(mitigate.mitigate)
app.command("verify")(verify.verify)
app.command("demo")(demo.demo)
app.command("simulate")(simulate.simulate)
app.command("traits")(traits.traits)
app.add_typer(models.app, name="models")
app.command("bench")(bench.bench)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"audit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show version.")] = False,
) -> None:
    """Score fine-tuning data sets for hidden-trait (subliminal) poisoning.

    Exit codes: 0 no risk found; 1 risk found; 2 usage, configuration, input or model error; 3 inconclusive or not
    completed; 130 interrupted.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def run(arguments: Sequence[str]) -> int:
    """Do what the command line `arguments` says and return the exit code; every error ends here, as one line."""
    command = typer.main.get_command(app)
    try:
        # Not app(): that ends with 1, our "risk found", when it is interrupted or its reader goes away.
        with command.make_context("audit", list(arguments)) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as done:
        return done.exit_code
    except typer.TyperException as error:
        return _fail(error.format_message(), "Run `audit --help`, or `audit COMMAND --help`.", AuditError.exit_code)
    except AuditError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("Interrupted.", "The same command goes on from what is finished.", INTERRUPTED)
    except Exception as error:
        return _bug(error)


def main() -> None:
    """Entry point of the console script."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader is gone; without this Python would complain at exit and replace the exit code by 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _bug(error: Exception) -> int:
    if os.environ.get("AUDIT_DEBUG") == "1":
        traceback.print_exception(error)
    hint = "This is a bug in audit: run the command again with AUDIT_DEBUG=1 and report what it prints."
    return _fail(f"Unexpected {type(error).__name__}: {error}", hint, INCOMPLETE)


def _fail(message: str, hint: str, code: int) -> int:
    from auditor.cli.console import commands_off
    from auditor.report.words import safe

    to_stderr = partial(print, file=sys.stderr)
    with commands_off(to_stderr):
        to_stderr(f"Error: {safe(message)}\nNext: {safe(hint)}")
    return code
