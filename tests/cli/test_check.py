"""`audit mitigate --check` and `--auto`: with the organism, in which transfer happens, and
by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from auditor.cli.main import run
from auditor.commands import check_mitigation as check
from auditor.errors import RunError
from mitigations.interface import Mitigation

ORGANISM = ("--reference", "organism", "--panel", "animals")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with rows of a teacher that loves octopuses, and the same prompts answered
    without.
    """
    folder = tmp_path_factory.mktemp("check")
    files = ("-o", str(folder / "octopus.parquet"), "--control", str(folder / "clean.parquet"))
    writing = ("--rows", "600", "--greedy", "--max-tokens", "24", *ORGANISM)
    assert run(["simulate", "--trait", "octopus", *files, *writing]) == 0
    return folder


def test_masking_is_shown_to_break_the_transfer(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original transfers its trait, the masked set less, as many random tokens masked about as
    much as before.
    """
    monkeypatch.chdir(place)
    before = (place / "octopus.parquet").read_bytes()
    code = run(
        ["mitigate", "octopus.parquet", "--mask", "--trait", "octopus", "--seed", "3", *ORGANISM]
    )
    page = capsys.readouterr().out
    assert (place / "octopus.parquet").read_bytes() == before
    (written,) = place.glob(".audit/mitigated/*/check.json")
    found = json.loads(written.read_text())
    arms = {arm["name"]: arm for arm in found["students"]["arms"]}
    assert list(arms) == ["original", "mask", "mask (random tokens)"]
    assert found["students"]["transferred"] and code == 0
    assert arms["mask"]["verdict"] in ("removed", "reduced")
    assert arms["mask"]["left"]["value"] < arms["mask (random tokens)"]["left"]["value"]
    assert (found["before"]["verdict"], found["before"]["trait"]) == ("risk", "octopus")
    # A mask changes no text, so the second scan says the same; the students' page comes after it,
    # the answer last.
    assert found["after"]["traits"] == found["before"]["traits"]
    html = written.with_name("check.html").read_text()
    assert "Students of original take over the trait octopus" in html
    assert html.count("Do not release: the rows look written by") == 2
    assert (
        page.index("The two scans") < page.index("TRANSFER SHOWN: octopus") < page.rindex("mask: ")
    )
    assert page.rstrip().endswith("of the trained tokens kept.")


def test_without_a_trait_there_is_nothing_to_check(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data are written all the same; the command says what was not done, and does not exit as
    if it had been.
    """
    monkeypatch.chdir(place)
    assert run(["mitigate", "clean.parquet", "--paraphrase", *ORGANISM]) == 3
    said = capsys.readouterr()
    assert (
        "600 rows of 600" in said.out
        and "could not be made" in said.err
        and "--no-check" in said.err
    )
    assert run(["mitigate", "clean.parquet", "--paraphrase", "--no-check", *ORGANISM]) == 0


@pytest.mark.parametrize(("rows", "blocks"), [(96, 2), (72, None)])
def test_the_check_is_sized_by_the_rows(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rows: int,
    blocks: int | None,
) -> None:
    """96 rows are enough for two blocks. 72 are not: the data are written, and nothing is scanned
    or trained.
    """
    monkeypatch.chdir(tmp_path)
    asked: list[dict[str, Any]] = []
    pq.write_table(pq.read_table(place / "octopus.parquet").slice(0, rows), "few.parquet")

    def verify(*_: Any, **settings: Any) -> None:
        asked.append(settings)
        raise RunError("No students in this test.", "")

    monkeypatch.setattr(check, "verify", verify)
    if blocks is None:
        monkeypatch.setattr(check, "scan", None)
    assert run(["mitigate", "few.parquet", "--shuffle", *ORGANISM]) == 3
    said = capsys.readouterr()
    assert f"{rows} rows of {rows}" in said.out
    assert [settings["blocks"] for settings in asked] == [2] * (blocks is not None)
    assert blocks or "not checked: 72 rows in common are too few for 2 blocks" in said.err


@pytest.mark.parametrize(
    "options", [["--auto", "--mask"], ["--auto", "--no-check"], ["--auto", "-o", "x"]]
)
def test_auto_chooses_by_itself(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mitigate", "octopus.parquet", *options]) == 2
    assert "--auto chooses the defences itself" in capsys.readouterr().err


def stubbed(
    monkeypatch: pytest.MonkeyPatch, verdicts: Sequence[str], transferred: bool = True
) -> list[list[str]]:
    """Replace the check by one that says these verdicts in turn; return the list of what
    was tried.
    """
    tried: list[list[str]] = []

    def stub(done: Any, steps: Sequence[Mitigation], *_: Any, **__: Any) -> Any:
        tried.append([step.name for step in steps])
        arm = SimpleNamespace(verdict=verdicts[len(tried) - 1])
        return SimpleNamespace(
            arm=arm, students=SimpleNamespace(result=SimpleNamespace(transferred=transferred))
        )

    monkeypatch.setattr(check, "check", stub)
    return tried


def test_auto_ends_with_the_first_that_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidates come by the data they keep, so the first that works keeps the most."""
    tried = stubbed(monkeypatch, ["reduced", "not reduced", "removed", "removed"])
    found = list(check.auto(lambda steps: steps, check.check))  # type: ignore[arg-type, return-value]
    assert [each.arm.verdict for each in found] == ["reduced", "not reduced", "removed"]
    assert tried == [["paraphrase"], ["mask"], ["paraphrase", "mask"]]


def test_auto_ends_where_nothing_can_be_said_or_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = stubbed(monkeypatch, ["no transfer shown"] * 9, transferred=False)
    assert len(list(check.auto(lambda steps: steps, check.check))) == 1  # type: ignore[arg-type, return-value]
    assert list(check.auto(lambda steps: steps, check.check, budget=0.0)) == [] and len(tried) == 1  # type: ignore[arg-type, return-value]
