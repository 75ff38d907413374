"""The list of commands that `audit --help` shows."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperGroup


class Grouped(TyperGroup):
    """A command whose sub-commands are listed in groups, by their `rich_help_panel`, each with the
    first sentence of its help as a whole.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the groups in the order of the commands; typer would write one list, and cut
        sentences to a line.
        """
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            text = " ".join((command.help or "").split())
            sentence = re.split(r"(?<=\.) ", text, maxsplit=1)[0]
            groups.setdefault(command.rich_help_panel, []).append((name, sentence))
        for group, rows in groups.items():
            with formatter.section(group):
                # All lists alike, however long the names of a group are.
                width = max(map(len, self.commands))
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])
