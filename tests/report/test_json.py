"""The JSON report: complete, valid, readable again, never NaN."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import auditor.report.scan
from auditor.errors import RunError
from auditor.report.scan import load
from auditor.report.scan.json import from_dict, to_dict
from auditor.scanning.scan_report import ScanReport
from detectors.interface import Skipped
from tests.support.sample_report import (
    EAGLE,
    INCONCLUSIVE,
    NO_RISK,
    OWL,
    RISK,
    RISKY,
    hostile_report,
    prompts,
    sample_report,
)

SCHEMA = json.loads((Path(auditor.report.scan.__file__).parent / "schema.json").read_text())
DOCS = (Path(__file__).parents[2] / "docs" / "report-schema.md").read_text()

REPORTS = [
    sample_report(RISK),
    sample_report(NO_RISK),
    sample_report(INCONCLUSIVE),
    replace(
        sample_report(),
        divergence=Skipped("no trait to test"),
        tests=prompts(()),
        examples=(),
        detectors={},
    ),
    hostile_report("\x1b[31m\u202e\ud800"),
]


NEW = (
    "tests",
    "leading_trait",
    "obstacles",
    "rests_on",
    "created",
    "origins",
)  # since the first release of version 1


def written(report: ScanReport) -> dict[str, object]:
    """What a reader of the file gets."""
    value: dict[str, object] = json.loads(load("json").render(report))
    return value


@pytest.mark.parametrize("report", REPORTS)
def test_round_trip_through_text(report: ScanReport) -> None:
    """A report read back from its file is the report that was written."""
    assert from_dict(written(report)) == report


@pytest.mark.parametrize("report", REPORTS)
def test_valid_against_the_schema(report: ScanReport) -> None:
    """Every report is valid, and the schema is a valid schema."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(written(report))


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "clean"},
        {"probability": 1.5},
        {"probability": "high"},
        {"trait": None},
        {"divergence": {"skipped": ""}},
        {"divergence": {"trait": "owl", "fraction": 0.1}},
        {"rows": {"total": 1, "scanned": -1, "skipped": {}}},
        {"detectors": {"fit": {}}},
        {"schema_version": 1},
    ],
)
def test_schema_rejects(change: dict[str, object]) -> None:
    """The schema notices a wrong value in each of the keys that a reader acts on."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(written(sample_report()) | change)


def test_schema_docs_and_report_name_the_same_keys() -> None:
    """The report, its schema and its documentation have the same keys, at the top and in a
    trait.
    """
    report = to_dict(sample_report())
    assert set(report) == set(SCHEMA["properties"]) == set(SCHEMA["required"]) | {"run", *NEW}
    trait = SCHEMA["$defs"]["trait"]
    assert set(report["traits"][0]) == set(trait["properties"]) == set(trait["required"])
    for key in (*report, *report["traits"][0], *report["dataset"], *report["divergence"]):
        assert f"`{key}`" in DOCS


def test_traits_are_in_one_order() -> None:
    """That of the verdict: the trait found with the largest dose first, though another has a
    smaller p-value; a report that lists them otherwise is put in order when it is read.
    """
    relative = replace(OWL, name="penguin", effect=0.3, p_value=1e-9, p_adjusted=1e-8)
    value = to_dict(replace(sample_report(), tests=prompts((RISKY, EAGLE, relative, OWL))))
    names = ["owl", "penguin", "eagle", "risky advice"]
    assert [trait.name for trait in from_dict(value).traits] == names


def test_a_report_of_an_earlier_release_gets_its_tests_from_its_evidence() -> None:
    """The upper ends of the intervals are the bounds; copies that were asked for stay asked for."""
    value = to_dict(sample_report())
    del value["tests"], value["leading_trait"]
    value["settings"] |= {"detectors": ["trait", "tuned"], "tested": ["owl", "eagle", "cat"]}
    value["detectors"]["tuned"] = {"skipped": "use --dtype float32"}
    del value["created"], value["origins"]
    report = from_dict(value)
    assert (report.created, report.is_reference_named) == ("", None)
    by_prompts, by_copies = report.tests
    assert by_prompts.traits == (OWL, EAGLE, RISKY)
    assert by_prompts.bounds["owl"] == OWL.interval[1]
    assert by_prompts.bounds["cat"] is None
    assert (by_copies.name, by_copies.skipped) == ("tuned copies", "use --dtype float32")
    assert report.leading_trait == "owl"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_never_nan(bad: float) -> None:
    """A number that was not measured cannot be written as NaN or infinity, wherever it hides."""
    with pytest.raises(ValueError, match="JSON compliant"):
        load("json").render(replace(sample_report(), timing={"total": bad}))
    with pytest.raises(ValueError, match="JSON compliant"):
        load("json").render(
            replace(sample_report(), tests=prompts((replace(OWL, interval=(0.1, bad)),)))
        )


def test_text_is_ascii() -> None:
    """Printed to a terminal, the file cannot act on it: hostile text is written in escapes."""
    text = load("json").render(hostile_report("\x1b]0;owned\x07\u202e"))
    assert text.isascii()
    assert all(char.isprintable() or char == "\n" for char in text)


def test_other_versions_and_gaps_are_errors() -> None:
    """A report of another schema version, or one that lacks a part, is a RunError with a
    next step.
    """
    value = to_dict(sample_report())
    with pytest.raises(RunError, match="schema version 99"):
        from_dict(value | {"schema_version": 99})
    with pytest.raises(RunError, match="incomplete"):
        from_dict({key: part for key, part in value.items() if key != "rows"})
