"""The consoles that the commands print on."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text


class _PageConsole(Console):
    """A console that lets the program go on when the reader of a pipe has gone away.

    rich would exit with 1, which here means "risk found", whatever the verdict is.
    """

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or error; it reads no markup and escapes what the stream cannot
    encode.
    """
    stream: TextIO = sys.stderr if stderr else sys.stdout
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="backslashreplace")
    return _PageConsole(file=stream, markup=False, emoji=False, highlight=False)


@contextmanager
def commands_off(write: Callable[[str], object]) -> Iterator[None]:
    """Let nothing that is printed meanwhile act as a command of GitHub Actions; `write` prints a
    line.

    GitHub obeys `::error::` and the like at the start of any line of a step's log, and text from
    outside can put one there. Its own command switches that off until a token comes that no text
    can know.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        yield
        return
    token = secrets.token_hex(16)
    write(f"::stop-commands::{token}")
    try:
        yield
    finally:
        # Also after an error: the steps that follow need their commands.
        write(f"::{token}::")


def show(page: RenderableType, *, stderr: bool = False) -> None:
    """Print a page that may hold text from outside."""
    to = console(stderr=stderr)
    with commands_off(partial(to.print, soft_wrap=True)):
        to.print(page, crop=False)  # a path wider than the terminal must stay whole


def table(*columns: str) -> Table:
    """A plain table with these columns, for lists."""
    columns_table = Table(box=None, header_style="dim", pad_edge=False)
    for column in columns:
        columns_table.add_column(Text(column), overflow="fold")
    return columns_table
