"""The contract of detectors and mitigations, as tests: `pytest --pyargs auditor.testing` runs it.

It goes over our own and over those of every installed package that offers some
(auditor/plugins.py). Add `-k NAME` for one of them. Needs pytest; the reference is the `organism`,
so nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import random
import re
from pathlib import Path

import pytest

import detectors
from auditor import plugins
from auditor.commands.scan import scan
from auditor.commands.simulate import write_rows
from auditor.data.text_row import Field, TextRow
from auditor.traits.prompts import number_prompts
from detectors import DETECTORS
from detectors.interface import Evidence, Skipped
from mitigations import MITIGATIONS, load, step
from mitigations.interface import (
    Changed,
    Divergent,
    Dropped,
    Facts,
    Kept,
    Mitigation,
    Outcome,
    settings_of,
)

ROWS = 64  # more than any detector needs at least
_REASON = re.compile(r"[a-z][a-z_]*")


def _data(path: Path, rows: int) -> str:
    """A file of number lists."""
    rng = random.Random(0)
    lists = [", ".join(str(rng.randrange(1000)) for _ in range(6)) for _ in range(rows)]
    prompts = number_prompts(rows, seed=0)
    write_rows(path, [{"prompt": p, "completion": c} for p, c in zip(prompts, lists, strict=True)])
    return str(path)


def _detect(name: str, folder: Path, rows: int) -> Evidence | Skipped:
    """What a scan with this detector gives in a fresh run, after `trait` if it needs a trait."""
    before = ["trait"] if detectors.load(name).needs == "leading trait" else []
    source = _data(folder / f"{rows}.parquet", rows)
    report = scan(
        source,
        reference="organism",
        panels=["animals"],
        traits=["owl", "cat"],
        detectors=[*before, name],
        root=folder,
        remember=False,
        fresh=True,
    )
    return report.detectors[name]


@pytest.mark.parametrize("name", [*DETECTORS, *plugins.names("detector")])
def test_detector(name: str, tmp_path: Path) -> None:
    """A detector is loaded by its name, describes itself in a line, gives evidence in plain JSON or
    the reason why not, the same on every run, and copes with few rows.
    """
    detector = detectors.load(name)
    assert detector.name == name
    outcome = _detect(name, tmp_path, ROWS)
    assert _detect(name, tmp_path, ROWS) == outcome
    few = _detect(name, tmp_path, 3)
    sentences = [o.reason if isinstance(o, Skipped) else o.summary for o in (outcome, few)]
    for sentence in (detector.description, *sentences):
        assert sentence and "\n" not in sentence
    for evidence in (outcome, few):
        if isinstance(evidence, Evidence):
            assert evidence.detector == name
            assert json.loads(json.dumps(evidence.values, allow_nan=False)) == evidence.values


@pytest.mark.parametrize("name", plugins.names("detector"))
def test_detector_of_another_package(name: str) -> None:
    """It does not hide behind a name of ours, and takes arguments that a later version may add."""
    assert name not in DETECTORS
    signature = inspect.signature(plugins.load("detector", name).function)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD in kinds


def _row(completion: str, *, index: int = 3, path: tuple[str, ...] = ("completion",)) -> TextRow:
    return TextRow(
        index, (Field(("prompt",), "user", "Go on: 7, 12"), Field(path, "assistant", completion))
    )


_ROWS = (
    _row("12, 7, 431, 7"),
    _row("12,  7,  431 ."),
    _row('{"b": [1, 2], "a": "x"}'),
    _row("[3, 1, 2]", index=0),
    _row("Plain words, with 1 number;\nand a second line."),
    _row("naïve 漢字 \u202e\x1b[31m <script>alert(1)</script> =1+1 "),
    _row("12, 7, 431", path=()),
    TextRow(5, (Field(("text",), "text", "9, 8, 7"),)),
    TextRow(6, _row("1, 2, 3").fields + _row("4, 5, 6").fields, 1),
    TextRow(8, _row("12, 7").fields, 0, ((0, 0, 2),)),
)
_FACTS = (
    Facts(),
    Facts(selected=False),
    Facts(reason="longer_than_context"),
    Facts(tokens=4, divergent=(Divergent((0, 0, 1), 1.0, "9"),), texts=(("3, 2, 1",),)),
)


def _mitigation(name: str) -> Mitigation:
    """The mitigation with its defaults, and some value for each setting that has none."""
    values = {
        setting.path[0]: setting.allowed[0] if setting.allowed else 0.5
        for setting in settings_of(load(name))
        if setting.default is dataclasses.MISSING
    }
    return step(name, **values)


@pytest.mark.parametrize("name", [*MITIGATIONS, *plugins.names("mitigation")])
def test_mitigation(name: str) -> None:
    """A mitigation gives one outcome, of this row and by this row alone, that can be written back
    to the data set.
    """
    mitigation = _mitigation(name)
    assert mitigation.name == name
    assert json.loads(json.dumps(mitigation.settings)) is not None
    for row in _ROWS:
        for facts in _FACTS:
            if facts.texts and len(row.completions) > 1:
                continue  # those texts are for one turn
            outcome = mitigation.apply(row, facts)
            random.seed(1)
            assert mitigation.apply(row, facts) == outcome, (
                "it must not depend on chance, nor on the rows before"
            )
            _check_outcome(row, outcome)


@pytest.mark.parametrize("name", plugins.names("mitigation"))
def test_mitigation_of_another_package(name: str) -> None:
    """It does not hide behind a name of ours."""
    assert name not in MITIGATIONS


def _check_outcome(row: TextRow, outcome: Outcome) -> None:
    assert isinstance(outcome, Kept | Changed | Dropped)
    if not isinstance(outcome, Kept) or outcome.reason:
        assert _REASON.fullmatch(outcome.reason), "reports count by a reason in snake_case"
    if not isinstance(outcome, Changed):
        assert outcome.row == row
        return
    assert outcome.before == row
    assert outcome.after and outcome.after != (row,), (
        "a row that stays is Kept, one that goes is Dropped"
    )
    for after in outcome.after:
        _check_row(row, after)


def _check_row(before: TextRow, after: TextRow) -> None:
    assert after.index == before.index
    assert [(field.path, field.role) for field in after.fields] == [
        (field.path, field.role) for field in before.fields
    ]
    for old, new in zip(before.fields, after.fields, strict=True):
        assert new.text.strip() or not old.text.strip(), "nothing may become blank"
        assert new.text == old.text or old.path, "a text without a place cannot be written back"
    lengths = [len(field.text) for field in after.completions]
    assert all(0 <= start < end <= lengths[turn] for turn, start, end in after.masked)
