"""The folder in which a mitigation is written until it takes its place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.mitigating.writer import scratch


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """Not what a running process writes, and nothing of another output."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    left = {tmp_path / f".out.{number}.partial" for number in (process.pid, 2**70, os.getpid())}
    others = {tmp_path / f".out.{os.getppid()}.partial", tmp_path / f".b.{process.pid}.partial"}
    for folder in left | others:
        folder.mkdir()
        (folder / "half").write_text("x")
    with scratch(tmp_path / "out", replace=False) as partial:
        (partial / "data").write_text("whole")
    assert {*tmp_path.iterdir()} == others | {tmp_path / "out"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data"]


def test_a_name_with_marks_of_a_pattern(tmp_path: Path) -> None:
    """It stands for itself alone."""
    (tmp_path / f".a.{2**70}.partial").mkdir()
    with pytest.raises(ZeroDivisionError), scratch(tmp_path / "[ab]", replace=False):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == [f".a.{2**70}.partial"]
