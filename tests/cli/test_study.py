"""`audit study` end to end on the organism, small: the report, resuming, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.cli.study import PartName
from auditor.students import runner
from auditor.students.plan import Size
from auditor.students.settings import StudentSettings, TrainingConfig
from auditor.students.training import new_student
from auditor.study import run
from auditor.study.report import assemble
from auditor.study.run import PARTS, students_of

Audit = Callable[..., int]
SMALL = ["--trait", "owl", "--blocks", "2", "--rows", "32", "--updates", "2", "--max-tokens", "24"]


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """Run `audit study` on the organism in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main.run(
        ["study", *arguments, "--reference", "organism", "--device", "cpu"]
    )


def test_a_killed_study_ends_with_the_same_report(
    audit: Audit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lost is done again, what is kept is not; without transfer the exit code is 3."""
    code = audit("leakage", *SMALL, "-o", "study")
    out_and_err = capsys.readouterr()
    shown = out_and_err.out
    assert "2 blocks of 4 students: about" in out_and_err.err
    first = json.loads(Path("study/study.json").read_text())
    assert {path.name for path in Path("study").iterdir()} == {
        "study.html",
        "study.json",
        "leakage.svg",
    }
    assert set(first["datasets"]) == {"owl greedy", "owl sampled"}
    transferred = any(each["transferred"] for each in first["experiments"])
    assert (
        code == (0 if transferred else 3)
        and ("hardly anything can be said" in shown) != transferred
    )
    units = list(Path(".audit/runs").rglob("*.npz"))
    assert (
        len([each for each in units if "block" in each.name]) == 2 * 2 * 2
    )  # decodings, blocks, pairs
    lost = next(each for each in units if "sampled%20block%201%20original" in each.name)
    lost.unlink()
    trained: list[object] = []
    monkeypatch.setattr(
        runner, "new_student", lambda *given: trained.append(given) or new_student(*given)
    )
    assert audit("leakage", *SMALL, "-o", "study") == code
    assert len(trained) == 1 and lost.exists()
    assert capsys.readouterr().out == shown
    assert json.loads(Path("study/study.json").read_text()) == first
    # What a worker process does: the same, from what the study has kept.
    (kept,) = Path(".audit/runs").iterdir()
    settings = StudentSettings(
        reference="organism",
        panels=("animals",),
        training=TrainingConfig(full=True, learning_rate=3e-4),
        device="cpu",
    )
    request = run.StudyRequest(settings, None, 24)
    found = run.run_in_worker(request, Size(2, 32, 2), kept, ("owl", "leakage"))
    assert len(trained) == 1
    assert json.loads(json.dumps(assemble([found], {}).values))["claims"] == first["claims"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["leakage", "--trait", "unicorn"], "unicorn"),
        (["leakage", "--budget", "soon"], "not a time"),
        (["leakage", "--layers", "1", "--full"], "trains all weights"),
        (["leakage", "-o", "taken"], "holds something else"),
        (["leakage", "-o", "no/where"], "no directory"),
        (["everything"], "everything"),
        (["leakage", "--budget", "1s"], "too small"),
        (["fragility", "--sibling", "nowhere"], "nowhere"),
    ],
)
def test_bad_input(
    audit: Audit, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One line with the next step, exit code 2, and no report."""
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    assert audit(*arguments) == 2
    said = capsys.readouterr().err
    assert message in said and "\nNext: " in said
    assert not list(Path().rglob("report.json")) and not Path("study").exists()


def test_students_are_counted() -> None:
    """For the budget: a pair for all, and each part's own; the arms themselves are counted in
    tests/study.
    """
    assert students_of(["leakage"], sibling=True) == 4
    assert students_of(PARTS, sibling=False) == 2 + 2 + 16 + 8 + 7
    assert students_of(PARTS, sibling=True) == students_of(PARTS, sibling=False) + 2
    assert (*PARTS, "all") == PartName.__args__
