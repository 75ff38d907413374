"""Write docs/cli/: one page a command with its help, as the program itself prints it.

Run `python runs/cli_docs.py` after a command has changed; until then tests/test_docs.py fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from auditor.cli.init import template
from auditor.cli.main import app

FOLDER = Path(__file__).parents[1] / "docs" / "cli"
WIDTH = 100  # of the help texts, whatever terminal this runs in

INTRODUCTION = """\
# Command line

Made from `--help` by `python runs/cli_docs.py`; do not edit. What a verdict means, and its exit
code, stands in [methods](../methods.md#verdict).

Shells complete commands, options and choices after `audit --install-completion`, which adds a line
to the start-up file of the shell it runs in; `audit --show-completion` prints the script instead.

"""


def pages() -> dict[str, str]:
    """File name -> page: index.md for `audit` itself, then a page a command in the order of `audit
    --help`.
    """
    command = get_command(app)
    root = Context(command, info_name="audit", terminal_width=WIDTH, **command.context_settings)
    commands = list(below(root))
    links = "".join(f"- [`audit {each.info_name}`]({each.info_name}.md)\n" for each in commands)
    made = {"index.md": f"{INTRODUCTION}{links}\n{block(root)}"}
    made |= {f"{each.info_name}.md": page(each) for each in commands}
    made["init.md"] += f"\n## The settings\n\n```yaml\n{template()}```\n"
    return made


def page(context: Context) -> str:
    """The page of a command: its help, and a section for each command below it."""
    sections = (f"\n## {each.command_path}\n\n{block(each)}" for each in below(context))
    return f"# {context.command_path}\n\n{block(context)}{''.join(sections)}"


def block(context: Context) -> str:
    """The help as a block of plain text."""
    return f"```text\n{context.command.get_help(context).rstrip()}\n```\n"


def below(context: Context) -> Iterator[Context]:
    """The sub-commands of a command."""
    if isinstance(context.command, TyperGroup):
        for name in context.command.list_commands(context):
            yield Context(context.command.commands[name], info_name=name, parent=context)


def write() -> None:
    """Write all pages, and remove those of commands that are no more."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
    print(f"{FOLDER} written")
