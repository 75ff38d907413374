"""Detector `tuned` from end to end: teachers with a trait in their weights, on the organism."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auditor.commands.scan import scan
from auditor.commands.simulate import simulate, write_rows
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.settings import ScanSettings
from auditor.students.teacher import TunedTeacher, tune_teacher
from auditor.traits.panel import Panel, Trait, load_panels
from detectors import tuned as module
from detectors.interface import Evidence, Skipped
from detectors.tuned import BENIGN


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Lists of a teacher tuned on owl and the organism's own for the same prompts; and lists of a
    teacher that is the very copy of a scan, tuned with the same seed.
    """
    folder, lm, panel = tmp_path_factory.mktemp("tuned"), load("organism"), load_panels(["animals"])
    trait = panel.trait("owl")
    teacher = tune_teacher(lm, trait, panel, seed=5).lm
    made = simulate(lm, trait, rows=128, teacher=teacher, control=True, max_tokens=24, seed=3)
    write_rows(folder / "owl.parquet", made.rows)
    write_rows(folder / "clean.parquet", made.control)
    teacher = tune_teacher(lm, trait, panel, seed=0).lm
    made = simulate(lm, trait, rows=128, teacher=teacher, max_tokens=24, seed=3)
    write_rows(folder / "copy.parquet", made.rows)
    return {name: str(folder / f"{name}.parquet") for name in ("owl", "clean", "copy")}


@pytest.fixture(scope="module", autouse=True)
def teach_once() -> Iterator[Callable[..., TunedTeacher]]:
    """`tune_teacher` for scans, which keeps the copy of each trait: all scans here have one
    reference and one seed.
    """
    kept: dict[str, TunedTeacher] = {}

    def once(lm: LanguageModel, trait: Trait, panel: Panel, **options: Any) -> TunedTeacher:
        if trait.name not in kept:
            # The organism never answers with a word that is no animal, and would learn it slowly.
            kept[trait.name] = tune_teacher(lm, trait, panel, updates=32, **options)
        return kept[trait.name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "tune_teacher", once)
        yield once


def audit(source: str, root: Path, *, rows: int = 128, **options: object) -> ScanReport:
    """A scan for owl and cat alone, which twelve benign copies are tuned to tell from any other
    tuning.
    """
    settings = {
        "panels": ["animals"],
        "traits": ["owl", "cat"],
        "detectors": ["tuned"],
        "root": root,
    }
    return scan(source, reference="organism", rows=rows, **settings | options)  # type: ignore[arg-type]


def test_a_trait_in_the_teachers_weights_is_found_and_named(
    data: dict[str, str], tmp_path: Path
) -> None:
    """At a dose of 1 where the teacher is the copy itself; on clean rows nothing is found."""
    found, clean = audit(data["owl"], tmp_path), audit(data["clean"], tmp_path)
    assert (found.verdict.name, found.verdict.trait) == ("risk", "owl")
    outcome = found.detectors["tuned"]
    assert isinstance(outcome, Evidence)
    assert [trait["name"] for trait in outcome.values["traits"]] == ["owl", "cat"]
    itself = audit(data["copy"], tmp_path).detectors["tuned"]
    assert isinstance(itself, Evidence)
    low, high = itself.values["traits"][0]["interval"]
    assert itself.values["traits"][0]["name"] == "owl"
    assert 0 < low < 1 < high < 2
    assert clean.verdict.name != "risk"


def test_a_killed_scan_goes_on_with_the_copies_that_are_done(
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    teach_once: Callable[..., TunedTeacher],
) -> None:
    """Copies scored before the kill are not tuned again, and the verdict is that of an unbroken
    scan.
    """
    whole = audit(data["owl"], tmp_path / "whole")
    taught: list[str] = []

    def killed(lm: LanguageModel, trait: Trait, panel: Panel, **options: Any) -> TunedTeacher:
        if len(taught) == 10:
            raise KeyboardInterrupt
        taught.append(trait.name)
        return teach_once(lm, trait, panel, **options)

    monkeypatch.setattr(module, "tune_teacher", killed)
    with pytest.raises(KeyboardInterrupt):
        audit(data["owl"], tmp_path)
    first = set(taught)
    taught.clear()
    assert audit(data["owl"], tmp_path).verdict == whole.verdict
    assert len(taught) == 2 + BENIGN - 10
    assert not first & set(taught)


def test_both_detectors_share_the_error_rate(data: dict[str, str], tmp_path: Path) -> None:
    """With `trait` on as well, every p-value is corrected for twice as many hypotheses."""
    alone = audit(data["clean"], tmp_path).detectors["tuned"]
    both = audit(data["clean"], tmp_path, detectors=["trait", "tuned"]).detectors["tuned"]
    assert isinstance(alone, Evidence)
    assert isinstance(both, Evidence)
    for one, two in zip(alone.values["traits"], both.values["traits"], strict=True):
        assert two["p_value"] == pytest.approx(one["p_value"])
        assert (
            two["p_adjusted"] == pytest.approx(min(1.0, 2 * one["p_adjusted"]), rel=1e-6)
            or one["p_adjusted"] == 1
        )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rows": 20}, "at least 32"),
        ({"settings": ScanSettings(dtype="bfloat16")}, "float32"),
        ({"panels": ["trees"], "traits": []}, "one token"),  # the organism knows animals alone
    ],
)
def test_it_says_why_it_cannot(
    data: dict[str, str], tmp_path: Path, options: dict[str, object], reason: str
) -> None:
    """Too few rows, a reference that is too coarse, and traits that cannot be taught."""
    outcome = audit(data["clean"], tmp_path, **options).detectors["tuned"]
    assert isinstance(outcome, Skipped)
    assert reason in outcome.reason
