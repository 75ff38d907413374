"""JSON reports that are given to `audit gate --report`, changed by hand or by accident."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz.drawing import drawn
from tests.fuzz.process import REPORT, Case, check, run_case
from tests.fuzz.rows import HOSTILE, jsonl, plain

GATE = ("gate", "--report", "r.json")
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.integers(-(10**20), 10**20),
        st.sampled_from(HOSTILE),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(HOSTILE), inner, max_size=2)
    ),
    max_leaves=4,
)


def data(place: Path) -> None:
    """The data set that the reports are about."""
    (place / "d.jsonl").write_bytes(jsonl(plain()))


@functools.cache
def made(verdict: Any) -> dict[str, Any]:
    """The report of a scan with this verdict."""
    settings = ("--reference", "organism", "--panel", "animals", "--rows", "all")
    arguments = ("scan", *settings, "--output", f"json={REPORT}", "--", "d.jsonl")
    report = run_case(Case(arguments, data, verdict=verdict)).report
    assert report is not None and report["verdict"] == verdict
    return dict(report)


def judge(content: str | bytes, passes: bool | None) -> None:
    """Give a report to the gate, under the settings that it was made with."""

    def build(place: Path) -> None:
        data(place)
        raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        (place / "r.json").write_bytes(raw)
        (place / "audit.yaml").write_text("reference: organism\npanels: [animals]\nrows: all\n")

    check(Case(GATE, build, passes=passes))


def changed(report: dict[str, Any], draw: Any) -> dict[str, Any]:
    """The report with one value somewhere in it changed or removed."""
    report = copy.deepcopy(report)
    inner: Any = report
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = draw(st.sampled_from(keys))
        if not isinstance(inner[key], (dict, list)) or not inner[key] or draw(st.booleans()):
            break
        inner = inner[key]
    if draw(st.booleans()):
        del inner[key]
    else:
        inner[key] = draw(values)
    return report


def test_as_it_was() -> None:
    """The report of a pass passes under the settings that it was made with."""
    judge(json.dumps(made("no_risk")), True)


@pytest.mark.parametrize("verdict", ["risk", "no_risk"])
@drawn(50, draw=st.data())
def test_one_value(verdict: str, draw: st.DataObject) -> None:
    """Some value is another, or is not there."""
    judge(json.dumps(changed(made(verdict), draw.draw)), None)


VERDICT = ("verdict", "trait", "probability", "reason", "min_effect", "leading_trait")


@drawn(
    30,
    odd=st.fixed_dictionaries(
        {"verdict": st.sampled_from(["no_risk", "inconclusive"])},
        optional={
            "probability": st.none() | st.floats(0, 1),
            "trait": st.none(),
            "reason": st.sampled_from(HOSTILE),
            "min_effect": st.floats(0, 1),
            "leading_trait": st.none(),
        },
    ),
)
def test_the_verdict_is_not_believed(odd: dict[str, Any]) -> None:
    """What follows from the evidence is decided anew."""
    judge(json.dumps(made("risk") | odd), False)


@drawn(20, at=st.floats(0, 0.999))
def test_cut(at: float) -> None:
    """Cut short."""
    text = json.dumps(made("no_risk"))
    judge(text[: int(at * len(text))], False)


@drawn(20, content=st.binary(max_size=200))
def test_noise(content: bytes) -> None:
    """Bytes of no meaning."""
    judge(content, False)


OTHER: dict[str, dict[str, Any]] = {
    "another reference": {"reference": {"name": "other", "sha256": "0" * 64, "dtype": "float32"}},
    "another data set": {"dataset": {"sha256": "0" * 64}},
    "a file that is not here": {"dataset": {"name": "nowhere.jsonl"}},
    "another panel": {"settings": {"panel": "other", "panel_sha256": "0" * 64}},
    "one trait": {"settings": {"tested": ["lion"]}},
    "few rows": {"settings": {"rows": 40}},
    "another alpha": {"settings": {"alpha": 1e-9}},
    "other columns": {"dataset": {"columns": {"prompt": "prompt", "completion": "other"}}},
    "nothing scored": {"rows": {"scanned": 0}},
    "everything skipped": {"rows": {"skipped": {"null": 10**9}}},
}


@pytest.mark.parametrize("name", OTHER)
def test_under_other_settings(name: str) -> None:
    """A pass that was made under other settings than those in force is none."""
    report = copy.deepcopy(made("no_risk"))
    for key, change in OTHER[name].items():
        report[key] |= change
    judge(json.dumps(report), False)


FILES: dict[str, bytes] = {
    "deep": b"[" * 100_000,
    "deep object": b'{"verdict":' * 50_000,
    "not a number": b'{"schema_version": NaN}',
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "huge number": b'{"schema_version": ' + b"9" * 100_000 + b"}",
    "utf-16": "{}".encode("utf-16"),
    "a verdict alone": b'{"schema_version": 2, "verdict": "no_risk", "dataset": {"name": "d"}}',
    "of audit verify": b'{"schema_version": 1, "kind": "verify", "verdict": "no_risk"}',
}


@pytest.mark.parametrize("name", FILES)
def test_files(name: str) -> None:
    """What is no report."""
    judge(FILES[name], False)


@pytest.mark.parametrize("key", VERDICT)
def test_twice(key: str) -> None:
    """A key that stands twice: the reader of the report and the gate may take different ones."""
    text = json.dumps(made("risk"))
    judge(text[:-1] + f', "{key}": {json.dumps(made("no_risk")[key])}}}', False)
