"""`-v`, `-vv` and `-q`: on every command, before and after its name, and nothing is
configured by an import.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from auditor.cli import logs
from auditor.cli.console import commands_off
from auditor.cli.main import app, run


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Handlers and levels that a test sets are taken back."""
    yield
    for name in logs.PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def options_of(command: object, name: str) -> Iterator[tuple[str, set[str]]]:
    """Every command that does something, with all its option names."""
    if isinstance(command, TyperGroup):
        for child, inner in command.commands.items():
            yield from options_of(inner, f"{name} {child}")
    else:
        yield name, {option for parameter in command.params for option in parameter.opts}  # type: ignore[attr-defined]


def test_every_command_takes_them() -> None:
    """Also a command that somebody adds."""
    commands = dict(options_of(get_command(app), "audit"))
    assert {"audit scan", "audit models fetch", "audit config show"} <= set(commands)
    lacking = [name for name, options in commands.items() if not {"-v", "-q"} <= options]
    assert lacking == []


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        (["models", "list"], logging.WARNING),
        (["-v", "models", "list"], logging.INFO),
        (["models", "list", "-v"], logging.INFO),
        (["models", "list", "-vv"], logging.DEBUG),
        (["-q", "models", "list"], logging.ERROR),
        (["models", "list", "-q"], logging.ERROR),
        (["-q", "models", "list", "-v"], logging.INFO),
    ],
)
def test_levels(arguments: list[str], level: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands nearer to the command goes first; the root logger is left alone."""
    root_level, root_handlers = logging.root.level, list(logging.root.handlers)
    assert run(arguments) == 0
    assert [logging.getLogger(name).level for name in logs.PACKAGES] == [level] * 3
    assert (logging.root.level, logging.root.handlers) == (root_level, root_handlers)
    assert "organism" in capsys.readouterr().out


def test_nothing_is_configured_at_import() -> None:
    """A program that uses the library decides on its own logging."""
    code = (
        "import logging, auditor.commands.scan, auditor.cli.main\n"
        "names = ('auditor', 'detectors', 'mitigations')\n"
        "print([logging.getLogger(name).handlers for name in names])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[[], [], []]"


@pytest.mark.parametrize("chosen", ["", "info"])
def test_transformers_is_silent_unless_told(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would advise the user of a hybrid to install kernels, in the middle of our lines."""
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", chosen)
    if not chosen:
        monkeypatch.delenv("TRANSFORMERS_VERBOSITY")
    assert run(["models", "list"]) == 0
    assert os.environ["TRANSFORMERS_VERBOSITY"] == (chosen or "error")


def test_records_are_one_escaped_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A name from outside cannot begin a line of its own, where a CI system would obey it."""
    logs.configure(1, quiet=False)
    logging.getLogger("auditor.data").info("read %s", "a\n::error::b\x1b[31m")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("INFO auditor.data: read a")
    assert "\x1b" not in lines[0]


def test_quiet_shows_the_result_without_progress(tmp_path: Path) -> None:
    """Standard output is the same with and without -q; standard error is empty with it."""
    rows = '{"prompt": "Hi", "completion": "1, 2"}\n' * 3
    (tmp_path / "rows.jsonl").write_text(rows)
    command = [sys.executable, "-m", "auditor", "scan", "rows.jsonl", "--reference", "organism"]
    loud, quiet = (
        subprocess.run(
            [*command, *extra], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        for extra in ([], ["-q"])
    )
    assert loud.returncode == quiet.returncode == 3
    assert quiet.stdout == loud.stdout != ""
    assert "loading the reference" in loud.stderr and quiet.stderr == ""


def test_commands_of_github_are_on_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while a page is printed leaves no later step without its commands."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    lines: list[str] = []
    with pytest.raises(ZeroDivisionError), commands_off(lines.append):
        raise ZeroDivisionError
    token = lines[0].removeprefix("::stop-commands::")
    assert lines == [f"::stop-commands::{token}", f"::{token}::"]
