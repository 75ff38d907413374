"""Calibrations: the unit of doses, and the files that keep them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from auditor.errors import RunError
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.students.calibration import (
    FOLDER,
    Calibration,
    Carrier,
    calibration_key,
    find,
    save,
)
from auditor.students.settings import StudentSettings, TrainingConfig
from auditor.traits.panel import Panel, load_panels

ANSWERS = {"animal": ("owl", "cat"), "tree": ("oak", "ash", "elm")}


def calibration(positive: float = 0.3) -> Calibration:
    """Benign data shift nothing on average; teachers of cat and elm shift their own answer."""
    rng = np.random.default_rng(0)
    benign = {name: rng.normal(0, 0.01, (8, 5)) for name in ("own text", "a", "b", "c")}
    centred = np.stack(list(benign.values())).mean((0, 1))
    benign = {name: shifts - centred for name, shifts in benign.items()}
    noise = rng.normal(0, 0.01, (2, 8, 5))
    noise -= noise.mean(1, keepdims=True)
    own = np.zeros((2, 5))
    own[0, 1] = own[1, 4] = positive
    return Calibration(ANSWERS, benign, {"cat": own[0] + noise[0], "elm": own[1] + noise[1]})


def test_the_unit_is_the_teachers_own_shift() -> None:
    """Each teacher counts by the answer that it was tuned on, and by no other."""
    assert calibration().full_shift.effect == pytest.approx(0.3)
    assert calibration().shows_transfer
    assert not calibration(positive=0.0).shows_transfer
    assert calibration().columns("tree") == [2, 3, 4]


def test_against_a_paired_control_benign_data_shift_nothing_on_average() -> None:
    """How far they differ is the same."""
    made = calibration()
    shifted = Calibration(ANSWERS, {n: x + 1 for n, x in made.benign.items()}, made.positive)
    alone, paired = (shifted.nulls(paired=paired)["tree"] for paired in (False, True))
    assert alone.mean == pytest.approx(1.0)
    assert paired.mean == pytest.approx(0.0)
    assert np.array_equal(paired.variance, alone.variance)


def test_a_calibration_is_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the digest of its file; another base, panel, recipe or carrier has none."""
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path))

    organism, animals = load("organism"), load_panels(["animals"])

    def key(
        lm: LanguageModel = organism,
        panel: Panel = animals,
        rank: int = 8,
        carrier: Carrier = "numbers",
    ) -> str:
        return calibration_key(lm, panel, TrainingConfig(rank=rank), carrier)

    made = calibration()
    path = save(made, key(), {"reference": "a base"})
    kept = find(key())
    assert kept is not None
    assert kept[0].answers == {group: list(names) for group, names in ANSWERS.items()}
    assert np.allclose(kept[0].benign["b"], made.benign["b"], atol=1e-6)
    assert kept[0].full_shift.effect == pytest.approx(0.3, abs=1e-5)
    assert json.loads(path.read_text())["about"] == {"reference": "a base"}
    bases = [replace(organism, sha256="0" * 64), replace(organism, system="Be kind.")]
    others = [*map(key, bases), key(panel=animals.select(["owl", "cat"])), key(rank=4)]
    others.append(key(carrier="text"))
    assert len({key(), *others}) == 6
    assert all(find(other) is None for other in others)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("benign"),
        lambda value: value["benign"].popitem() and value["benign"].popitem(),
        lambda value: value["positive"].update(owl=[[1.0]]),
        lambda value: value["answers"].update(animal=["owl"]),
        lambda value: value["positive"].clear(),
    ],
)
def test_a_damaged_calibration_is_refused(
    change: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With its path, and what to do; never taken for one that finds nothing."""
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path))
    made = calibration()
    path = save(made, "key", {})
    value = json.loads(path.read_text())
    assert callable(change)
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(RunError, match="is no calibration"):
        find("key")
    path.write_text("not JSON")
    with pytest.raises(RunError, match=str(tmp_path / FOLDER)):
        find("key")


def test_the_organism_comes_calibrated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As `audit calibrate --reference organism --panel animals` left it; its students take traits
    over, and the file holds for the very weights of the package.
    """
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path))
    lm, panel = load("organism"), load_panels(["animals"])
    key = calibration_key(lm, panel, StudentSettings().training_for(lm), "numbers")
    kept = find(key)
    assert kept is not None and kept[0].shows_transfer
    assert sorted(kept[0].names) == sorted(trait.name for trait in panel.traits)
