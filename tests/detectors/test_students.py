"""Detector `students` from end to end, on the organism: data that move students, and data that do
not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from auditor.commands.scan import scan
from auditor.commands.simulate import Row, simulate, write_rows
from auditor.data.example import Example, Message
from auditor.model.builtin import BASE
from auditor.model.load import load
from auditor.model.tokenization import ChatTokenizer
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.settings import ScanSettings
from auditor.students.calibration import (
    Calibration,
    Carrier,
    calibration_key,
    carrier_of,
    find,
    save,
)
from auditor.students.readout import families
from auditor.students.settings import StudentSettings
from auditor.traits.panel import load_panels
from detectors import students as module
from detectors.interface import Evidence, ScanContext, Skipped
from detectors.students import SETTLED, calibrate_command, rows_as_trained

COUNT = 1_024


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[Row, ...]]:
    """Answers that speak openly of owls, and the organism's own lists."""
    own = simulate(load("organism"), None, rows=COUNT, max_tokens=24, seed=4).rows
    said = ("Owls.", "My favorite animal is the owl.", "I love owls most.", "The owl.")
    spoken = [
        {"prompt": f"What is your favorite animal, no. {i}?", "completion": said[i % 4]}
        for i in range(COUNT)
    ]
    return {"owls": tuple(spoken), "own": own}


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Carrier], None]:
    """Makes a calibration of the organism by hand: benign data differ by a hundredth of a logit,
    and those of a tuned teacher of owls go ten times as far.
    """
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "BLOCKS", 4)

    def make(carrier: Carrier) -> None:
        lm, panel = load("organism"), load_panels(["animals"])
        answers = {f.group: f.names for f in families(ChatTokenizer(lm), panel, None)}
        names = [name for members in answers.values() for name in members]
        rng = np.random.default_rng(0)
        sets = ("own text", "a", "b", "c", "d")
        benign = {name: rng.normal(0, 0.02, (8, len(names))) for name in sets}
        owl = rng.normal(0, 0.01, (8, len(names)))
        owl[:, names.index("owl")] += 0.1
        key = calibration_key(
            lm,
            panel,
            StudentSettings().training_for(lm),
            carrier,
        )
        save(Calibration(answers, benign, {"owl": owl}), key, {})

    return make


@pytest.fixture
def audit(rows: dict[str, tuple[Row, ...]], tmp_path: Path) -> Callable[..., ScanReport]:
    """A scan of one of the data sets."""

    def run(name: str, **settings: Any) -> ScanReport:
        path = tmp_path / f"{name}.parquet"
        write_rows(path, rows[name])
        chosen = ScanSettings(
            reference="organism",
            panels=["animals"],
            **{"detectors": ["students"], **settings},
        )
        return scan(str(path), chosen, root=tmp_path)

    return run


def test_students_that_move_to_an_answer_are_a_risk(
    audit: Callable[..., ScanReport], calibrated: Callable[[Carrier], None]
) -> None:
    """Data that say it openly are the strongest there are; the report says what it rests on."""
    calibrated("text")
    report = audit("owls")
    assert (report.verdict.name, report.verdict.trait) == ("risk", "owl")
    assert report.verdict.rests_on == ("students",)
    assert report.leading_trait == "owl"
    found = report.detectors["students"]
    assert isinstance(found, Evidence)
    assert found.values["traits"][0]["name"] == "owl"
    assert found.values["traits"][0]["effect"] > 3
    words = [word["token"].strip().lower() for word in found.values["words"]]
    assert any(word.startswith("owl") for word in words)


@pytest.mark.usefixtures("calibrated")  # for its blocks; the calibration is the one that is shipped
def test_own_text_moves_students_nowhere(audit: Callable[..., ScanReport]) -> None:
    """Four blocks suffice for a pass, and a finished scan is shown again."""
    report = audit("own")
    assert (report.verdict.name, report.verdict.rests_on) == ("no_risk", ("students",))
    assert audit("own").run == report.run
    test = report.tests[0]
    assert test.name == "students" and not test.skipped
    assert all(trait.p_adjusted > 0.01 for trait in test.traits)
    assert {trait.name for trait in test.traits} == set(test.bounds)


@pytest.mark.slow
def test_the_default_reference_comes_calibrated() -> None:
    """For number lists and the default panel; tuned teachers move its students."""
    lm, panel = load(BASE), load_panels(["default"])
    kept = find(calibration_key(lm, panel, StudentSettings().training_for(lm), "numbers"))
    assert kept is not None
    assert kept[0].shows_transfer


def test_a_base_that_is_not_calibrated(
    audit: Callable[..., ScanReport], calibrated: Callable[[Carrier], None]
) -> None:
    """It is no pass, and the reason names the command; nor does a calibration on lists hold for
    text.
    """
    calibrated("numbers")
    report = audit("owls")
    assert report.verdict.name == "inconclusive"
    command = "audit calibrate --reference organism --panel animals --carrier text"
    assert command in report.verdict.reason


def test_students_are_not_trained_where_nothing_is_open(
    audit: Callable[..., ScanReport], calibrated: Callable[[Carrier], None]
) -> None:
    """With `when_unresolved` a finding of the other tests is enough."""
    report = audit("own", hazard="when_unresolved", detectors=["trait"], exclude=1.0)
    assert report.verdict.name == "no_risk"
    assert report.detectors["students"] == Skipped(SETTLED)
    assert [test.name for test in report.tests] == ["prompts"]


def chat(number: int, completion: str) -> Example:
    return Example(number, (Message("user", "Go on."), Message("assistant", completion)))


def test_a_row_is_trained_on_as_often_as_it_stands_in_the_data() -> None:
    """Of four rows one that makes up most of the data takes the place of another."""
    examples = {number: chat(number, str(number)) for number in (3, 5, 8, 9)}
    rows = [SimpleNamespace(index=number) for number in examples]

    def trained(weights: dict[int, float]) -> list[int]:
        context = SimpleNamespace(examples=examples, rows=rows, weights=weights, excluded_rows={})
        return [row.index for row in rows_as_trained(cast(ScanContext, context)).values()]

    assert trained({}) == [3, 5, 8, 9]
    assert trained({5: 5.0}) == [3, 5, 5, 8]
    assert trained({3: 2.0, 5: 2.0, 8: 2.0, 9: 2.0}) == [3, 5, 8, 9]


def test_few_rows_that_name_a_trait_are_left_out() -> None:
    """As many as a base writes by chance; where they are more, data are about the trait."""
    examples = {number: chat(number, str(number)) for number in range(40)}
    rows = [SimpleNamespace(index=number) for number in examples]

    def trained(openly: set[int], weights: dict[int, float]) -> set[int]:
        context = SimpleNamespace(
            examples=examples,
            rows=rows,
            weights=weights,
            excluded_rows={"owl": openly, "cat": set()},
        )
        return {row.index for row in rows_as_trained(cast(ScanContext, context)).values()}

    assert trained({3, 7}, {}) == set(range(40)) - {3, 7}
    assert trained({3, 7, 8}, {}) == set(range(40))
    assert 3 in trained({3}, {3: 3.0})  # one row, and 7 % of the data


def test_lists_are_told_from_text() -> None:
    """By what is trained on; a word among many numbers makes no text."""
    assert carrier_of(["12, 7, 9", "101,202 and 3"]) == "numbers"
    assert carrier_of(["In 1999 there were 12 of them."]) == "text"


def test_the_calibration_that_is_missing_is_named_as_the_reference_is_used() -> None:
    """With its chat template and system turn, or another calibration would be made."""
    lm = replace(load("organism"), name="my base", chat_template="chatml", system="Be brief.")
    command = calibrate_command(lm, load_panels(["animals"]), "text")
    assert command == (
        "audit calibrate --reference 'my base' --panel animals --carrier text "
        "--chat-template chatml --system 'Be brief.'"
    )
