"""Where a command may write: never over what it reads, and never twice to one path."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.cli.output import check_outputs
from auditor.errors import InputError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a data folder, settings, a panel, a model and a run."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "data/a.jsonl",
        "data/sub/b.txt",
        "data/README.md",
        "audit.yaml",
        "panel.yaml",
        "model/config.json",
        ".audit/runs/1/report.json",
        "other.jsonl",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def check(*outputs: str, data: str = "data") -> None:
    check_outputs(outputs, [None, "panel.yaml", "model", "organism", "gone.yaml"], data)


@pytest.mark.parametrize(
    "output",
    [
        "data/a.jsonl",
        "./data/../data/a.jsonl",
        "data/sub/b.txt",
        "data/new.json",
        "data/new",
        "audit.yaml",
        "panel.yaml",
        "model/config.json",
        ".audit/runs/1/report.json",
    ],
)
def test_an_input_is_no_output(output: str) -> None:
    """Nor is a file that would be a part of the data folder the next time."""
    with pytest.raises(InputError, match=r"read by this command|file of the data set"):
        check("report.json", output)


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
@pytest.mark.parametrize("target", ["data/a.jsonl", "panel.yaml", "other.jsonl"])
@pytest.mark.parametrize("is_hard", [False, True])
def test_links_of_both_kinds_are_seen_through(target: str, is_hard: bool, here: Path) -> None:
    """Also one from the data folder to a file elsewhere."""
    (here / "data/link.jsonl").symlink_to(here / "other.jsonl")
    if is_hard:
        os.link(target, "link.json")
    else:
        Path("link.json").symlink_to(target)
    with pytest.raises(InputError, match=r"read by this command|file of the data set"):
        check("link.json")


def test_one_path_is_one_output() -> None:
    """However it is written."""
    with pytest.raises(InputError, match="two outputs"):
        check("a.json", "sub/../a.json")


def test_what_may_be_written(here: Path) -> None:
    """New files, earlier reports, the card of the data set, devices and standard output."""
    (here / "report.json").write_text("an earlier report")
    check("report.json", "new.html", "data/README.md", "data/audit.html", "-", "model.json")
    check(os.devnull, os.devnull)
    check("other.jsonl", data="data/a.jsonl")
    check_outputs([None, "new.json"], [], None)


@pytest.mark.parametrize(
    "command",
    [
        ["scan", "data", "--output", "json=data/a.jsonl"],
        ["gate", "other.jsonl", "--output", "html=other.jsonl"],
        ["gate", "other.jsonl", "--output", "json=x.json", "--output", "html=x.json"],
        ["gate", "other.jsonl", "--output", "json=x.json", "--attest", "x.json"],
        ["verify", "data/a.jsonl", "other.jsonl", "--output", "json=other.jsonl"],
        ["locate", "other.jsonl", "--trait", "owl", "--output", "json=other.jsonl"],
        ["diff", "other.jsonl", "other.jsonl", "--output", "json=other.jsonl"],
        ["mitigate", "data", "--shuffle", "--output", "data/out"],
    ],
)
def test_every_command_checks_it_first(command: list[str], here: Path) -> None:
    """Exit code 2, before anything is loaded, and every file is as it was."""
    (here / "audit.yaml").write_text("reference: organism\n")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert main.run(command) == 2
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
