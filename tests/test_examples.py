"""The examples of docs/ do what they say: every command of the tutorial, and every block of
Python.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from auditor.cli import main
from tests.support.examples import blocks

ENDS = re.compile(r"#\s*ends with (\d+)$")


def tutorial() -> list[tuple[str, int]]:
    """The commands of the tutorial after the installation, each with the exit code that it must end
    with.
    """
    _, *after = blocks("tutorial.md", "sh")
    lines = "".join(after).replace("\\\n", " ").splitlines()
    return [
        (ENDS.sub("", line).strip(), int(found[1]) if (found := ENDS.search(line)) else 0)
        for line in lines
    ]


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the page of `audit demo --quick`."""
    folder, page = tmp_path_factory.mktemp("demo"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(page):
        patch.setattr("tempfile.mkdtemp", lambda prefix: str(folder))
        assert main.run(["demo", "--quick"]) == 0, page.getvalue()
    return folder, page.getvalue()


def test_the_demo(demonstrated: tuple[Path, str]) -> None:
    """Both verdicts are right, and students show that the defence removes the effect."""
    folder, page = demonstrated
    assert f"$ cd {folder}\n" in page
    assert 0 < page.index("NO RISK FOUND") < page.index("RISK FOUND: owl")
    assert re.search(r"^defended/ +removed .*\nowls\.parquet", page, re.MULTILINE)
    assert page.rstrip().endswith("audit scan DATASET --reference MODEL")


def test_every_command_of_the_tutorial(
    demonstrated: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In order, in one folder, each with its exit code; what is not `audit` is run by a shell.

    It begins with the commands of the demo, word for word. Their rows are written again, and all
    that follows from these very rows is read back from the folder of the demo.
    """
    folder, page = demonstrated
    monkeypatch.chdir(folder)
    commands = tutorial()
    shown = [re.sub(r"^\$ ", "", line) for line in page.splitlines() if line.startswith("$ audit")]
    assert shown == [" ".join(command.split()) for command, _ in commands[: len(shown)]]
    for name in ("owls.parquet", "clean.parquet"):
        Path(name).unlink()
    assert len(commands) > 7
    for command, code in commands:
        name, *arguments = shlex.split(command)
        if name == "audit":
            assert main.run(arguments) == code, command
            assert ("Error:" in capsys.readouterr().err) == (code == 2), command
        else:
            subprocess.run(["bash", "-c", command], check=True)


def test_the_tutorial_installs_what_is_here() -> None:
    """Its first block is the installation, which CI does in a fresh environment."""
    install, *_ = blocks("tutorial.md", "sh")
    assert install.splitlines() == [
        "python3 -m venv .venv",
        ". .venv/bin/activate",
        "pip install .",
    ]


def test_every_block_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks of docs/python.md run one after another and print what their comments say."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("python.md", "python"))
    exec(compile(code, "docs/python.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(
        r"^\s*print\(.*\)  # (.*)$", code, re.MULTILINE
    )
