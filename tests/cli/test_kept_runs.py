"""`audit runs`, `report`, `clean`, and `diff` without names: the runs that are kept, as a person
finds, shows and removes them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.report.scan.json import to_dict
from auditor.runs.run_directory import RunDir, run_key, set_last
from auditor.scanning.scan_report import ScanReport, Verdict
from tests.support.sample_report import NO_RISK, RISK, sample_report

Keep = Callable[..., Path]


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keep:
    """Keep a run in the working directory, each a minute after the one before."""
    monkeypatch.chdir(tmp_path)
    times = iter(range(1_800_000_000, 1_900_000_000, 60))

    def keep(name: str, report: ScanReport | None = None, verb: str = "") -> Path:
        identity: dict[str, object] = {
            "dataset": {"name": name},
            "reference": {"name": "organism"},
            "settings": {},
        }
        if verb:
            identity = {"verb": verb, "datasets": {name: ""}, "reference": {"name": "organism"}}
        with RunDir.open(tmp_path, identity) as run:
            if report is not None:
                run.finish(to_dict(report) if not verb else {"verdict": "of no scan"})
            run.write_text("tokens.txt", "x" * 1_000_000)
        now = next(times)
        for file in ("settings.json", "report.json"):
            if (run.path / file).exists():
                os.utime(run.path / file, (now, now))
        return run.path

    return keep


def scan_of(verdict: Verdict) -> ScanReport:
    return sample_report(verdict)


def test_runs_are_listed_newest_first(keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its key, verb, data set, verdict and reference, and how one is shown."""
    paths = [
        keep("old.parquet", scan_of(RISK)),
        keep("clean.parquet", scan_of(NO_RISK)),
        keep("clean.parquet", scan_of(NO_RISK), verb="verify"),
        keep("killed.parquet"),
    ]
    assert main.run(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == [path.name[:8] for path in paths[::-1]]
    shown = [" ".join(line.split()[3:]) for line in lines[1:5]]
    assert shown == [
        "scan killed.parquet unfinished organism",
        "verify clean.parquet finished organism",
        "scan clean.parquet no risk organism",
        "scan old.parquet risk organism",
    ]
    assert lines[-1] == f"Show one again: audit report {paths[1].name[:8]}"


def test_a_run_that_nobody_signed_here_is_not_believed(
    keep: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither its data set nor its verdict is shown, and it is neither shown nor compared."""
    path = keep("forged.parquet", scan_of(NO_RISK))
    set_last(Path(), path, "forged.parquet")
    (path / "report.json.hmac").write_text("0" * 64)
    assert main.run(["runs"]) == 0
    out = capsys.readouterr().out
    assert "unfinished" in out and "no risk" not in out
    assert main.run(["report"]) == 2
    assert "was not written on this machine" in capsys.readouterr().err
    (path / "settings.json.hmac").unlink()
    assert main.run(["runs"]) == 0
    out = capsys.readouterr().out
    assert path.name[:8] in out and "not of this machine" in out
    assert "forged" not in out
    assert main.run(["diff"]) == 3


def test_nothing_is_kept(keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says so, and what to do."""
    assert main.run(["runs"]) == 0
    assert "audit scan DATASET" in capsys.readouterr().out
    assert main.run(["clean"]) == 0
    assert capsys.readouterr().out == "Removed: 0 runs, 0.0 MB freed.\n"
    assert main.run(["report"]) == 3
    assert main.run(["report", "abc"]) == 2
    assert main.run(["diff"]) == 3
    assert main.run(["diff", "a"]) == 2
    assert "`audit runs` lists them" in capsys.readouterr().err


def test_a_kept_report_is_written_again(keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    """The last scan without a name, another by its key, in any format; the verdict is no error."""
    first, second = keep("a.parquet", scan_of(RISK)), keep("b.parquet", scan_of(NO_RISK))
    set_last(Path(), second, "b.parquet")
    assert main.run(["report"]) == 0
    assert "NO RISK FOUND" in capsys.readouterr().out
    targets = ["--output", "html=a.html", "--output", "json=a.json"]
    assert main.run(["report", first.name[:6], *targets]) == 0
    assert "RISK FOUND: owl" in capsys.readouterr().out
    assert Path("a.html").read_text().startswith("<!doctype html>")
    assert json.loads(Path("a.json").read_text())["verdict"] == "risk"
    assert main.run(["report", "a.json", "--output", "json=a.json"]) == 2
    assert "would be overwritten" in capsys.readouterr().err


def test_only_scans_can_be_shown_again(keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    """Of another verb it is said that there is no such report."""
    path = keep("a.parquet", scan_of(RISK), verb="locate")
    assert main.run(["report", path.name]) == 2
    assert capsys.readouterr().err.startswith("Error: ")


def test_diff_takes_the_last_two_scans(keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    """The finished ones, in the order in which they were finished."""
    keep("a.parquet", scan_of(RISK))
    keep("b.parquet", scan_of(NO_RISK))
    keep("c.parquet", scan_of(RISK))
    keep("d.parquet", scan_of(RISK), verb="verify")
    keep("e.parquet")
    assert main.run(["diff"]) == 1
    out = capsys.readouterr().out
    assert "WORSE" in out and out.index("NO RISK FOUND") < out.index("RISK FOUND: owl")


def test_clean_leaves_what_later_commands_need(
    keep: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last scan, verifications, and what this machine has not written, unless asked for."""
    old, last = keep("old.parquet", scan_of(RISK)), keep("last.parquet", scan_of(RISK))
    verified, killed = keep("v.parquet", scan_of(RISK), verb="verify"), keep("killed.parquet")
    foreign = keep("foreign.parquet", scan_of(RISK))
    (foreign / "settings.json.hmac").unlink()
    set_last(Path(), last, "last.parquet")
    assert main.run(["clean"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Removed: 2 runs, 2.0 MB freed.\n")
    assert f"Left: {last.name[:8]}, scan of last.parquet: later commands go on from it." in out
    assert [path.exists() for path in (old, last, verified, killed, foreign)] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert main.run(["clean", verified.name[:8]]) == 0
    assert not verified.exists() and last.exists()
    assert main.run(["clean", "--all"]) == 0
    assert not last.exists() and not foreign.exists()
    assert main.run(["clean", "--all", "abc"]) == 2


def test_clean_leaves_a_run_in_use_and_follows_no_link(
    keep: Keep, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Another process may be working on it; a link may lead to a folder of the user's."""
    busy = keep("busy.parquet")
    outside = tmp_path / "mine"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years")
    (tmp_path / ".audit" / "runs" / "0123456789abcdef").symlink_to(outside)
    (busy / "inner").symlink_to(outside)
    identity = json.loads((busy / "settings.json").read_text())["identity"]
    assert run_key(identity) == busy.name
    with RunDir.open(tmp_path, identity):
        assert main.run(["clean", "--all"]) == 0
    assert busy.exists()
    assert "another process is working on it" in capsys.readouterr().out
    assert main.run(["clean", "--all"]) == 0
    assert not busy.exists()
    assert (outside / "thesis.txt").read_text() == "years"
    assert main.run(["clean", "0123"]) == 2


def test_a_key_that_is_wrong_removes_nothing(keep: Keep) -> None:
    """Also where the other keys are right."""
    path = keep("a.parquet", scan_of(RISK))
    assert main.run(["clean", path.name, "nope"]) == 2
    assert path.exists()


def test_git_does_not_see_runs(keep: Keep, tmp_path: Path) -> None:
    """`git add -A` takes nothing of them; a .gitignore of the user's stays."""
    subprocess.run(["git", "init", "-q"], check=True)
    keep("a.parquet", scan_of(RISK))
    done = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    (tmp_path / ".audit" / ".gitignore").write_text("mine\n")
    keep("b.parquet")
    assert (tmp_path / ".audit" / ".gitignore").read_text() == "mine\n"
