"""Write docs/cli.md: the help of every command, as the program itself prints it.

Run `python runs/cli_docs.py` after a command has changed; until then tests/test_docs.py fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from auditor.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 100  # of the help texts, whatever terminal this runs in

INTRODUCTION = """\
# Command line

Made from `--help` by `python runs/cli_docs.py`; do not edit. Exit codes are explained in the
[README](../README.md#exit-codes), what a verdict means in [methods](methods.md#verdict).
"""


def page() -> str:
    """The whole page: one section a command, in the order in which `audit --help` lists them."""
    context = Context(get_command(app), info_name="audit", terminal_width=WIDTH)
    return INTRODUCTION + "".join(f"\n## {path}\n\n```text\n{text}\n```\n" for path, text in helps(context))


def helps(context: Context) -> Iterator[tuple[str, str]]:
    """(full name, help text) of the context's command and of all below it."""
    command = context.command
    yield context.command_path, command.get_help(context).rstrip()
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            yield from helps(Context(command.commands[name], info_name=name, parent=context))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE} written")
