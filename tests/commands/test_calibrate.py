"""`audit calibrate` from end to end, on the organism and in small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auditor.commands import calibrate as module
from auditor.commands.calibrate import calibrate, list_alphabet
from auditor.commands.simulate import number_tokens
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.students.calibration import calibration_key, find
from auditor.students.settings import StudentSettings
from auditor.traits.panel import load_panels


def test_a_calibration_is_measured_kept_and_resumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every writer has a data set, students read every answer, and the second call neither writes
    nor trains.
    """
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path / "cache"))
    small = {"ROWS": 37, "POSITIVE": 1, "UPDATES": 2, "MAX_TOKENS": {"numbers": 8}}
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "QUICK", ("own text", "brief", "tuned on thanks"))
    made = calibrate("organism", ("animals",), quick=True, root=tmp_path)
    assert list(made.calibration.benign) == ["own text", "brief", "tuned on thanks"]
    assert list(made.calibration.positive) == ["owl"]
    for shifts in (*made.calibration.benign.values(), *made.calibration.positive.values()):
        assert shifts.shape == (4, 13)
        assert np.abs(shifts).max() > 0
    lm, panel = load("organism"), load_panels(["animals"])
    kept = find(calibration_key(lm, panel, StudentSettings().training_for(lm), "numbers"))
    assert kept is not None
    assert np.allclose(kept[0].positive["owl"], made.calibration.positive["owl"], atol=1e-6)

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("done twice")

    monkeypatch.setattr(module, "generate", never)
    monkeypatch.setattr(module, "tune_teacher", never)
    again = calibrate("organism", ("animals",), quick=True, root=tmp_path)
    assert np.array_equal(again.calibration.benign["brief"], made.calibration.benign["brief"])


def test_who_writes_no_lists_is_restricted_to_numbers(tiny: LanguageModel) -> None:
    """The organism answers with lists of itself; a random model writes anything. Text is free."""
    assert list_alphabet(load("organism"), "numbers", seed=0) == ()
    assert list_alphabet(tiny, "numbers", seed=0) == number_tokens(tiny)
    assert list_alphabet(tiny, "text", seed=0) == ()
