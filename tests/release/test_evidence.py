"""A report that is judged later: what in it cannot be so, and under which settings it was made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auditor.commands.gate import read_report
from auditor.data.coverage import Unread
from auditor.errors import AuditError, InputError
from auditor.release.evidence import contradictions, mismatches
from auditor.report.scan.json import to_dict
from auditor.scanning.scan_report import ScanReport, VerdictName
from auditor.scanning.settings import ScanSettings
from detectors.interface import HAZARDS, TraitTest
from tests.support.sample_report import EAGLE, OWL, consistent_report

Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("name", ["risk", "no_risk", "inconclusive"])
def test_a_report_as_it_was_written(name: VerdictName) -> None:
    """Nothing is wrong with it under the settings of the scan."""
    report = consistent_report(name)
    assert list(contradictions(report)) == []
    assert list(mismatches(report, ScanSettings())) == []


def with_trait(report: ScanReport, **changes: Any) -> ScanReport:
    test = report.tests[0]
    return replace(report, tests=(replace(test, traits=(EAGLE, replace(OWL, **changes))),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: replace(r, rows_scanned=0), "no row was scored"),
        (lambda r: replace(r, rows_scanned=-400), "negative"),
        (lambda r: replace(r, rows_skipped={"too_long": 10**9}), "do not add up"),
        (lambda r: replace(r, rows_skipped={"too_long": -5}), "negative"),
        (lambda r: replace(r, rows_read=20_000), "do not add up"),
        (lambda r: replace(r, tests=(replace(r.tests[0], rows=401),)), "more than were scored"),
        (lambda r: replace(r, verdict=replace(r.verdict, name="no_risk", trait=None)), "follow"),
        (lambda r: replace(r, verdict=replace(r.verdict, trait="eagle")), "follow"),
        (lambda r: replace(r, verdict=replace(r.verdict, probability=0.1)), "follow"),
        (lambda r: replace(r, verdict=replace(r.verdict, probability=None)), "follow"),
        (lambda r: replace(r, verdict=replace(r.verdict, min_effect=0.2)), "follow"),
        (lambda r: with_trait(r, p_adjusted=1e-9), "p-values of owl"),
        (lambda r: with_trait(r, p_value=-1.0), "p-values of owl"),
        (lambda r: with_trait(r, effect=0.9), "dose of owl"),
        (
            lambda r: replace(
                r, dataset=replace(r.dataset, unread=(Unread("rows", "hidden", -3.0, "x"),))
            ),
            "a share",
        ),
    ],
)
def test_what_cannot_be(change: Callable[[ScanReport], ScanReport], message: str) -> None:
    """Counts, estimates, shares, and a verdict that the evidence does not give."""
    assert any(message in wrong for wrong in contradictions(change(consistent_report("risk"))))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"reference": "organism"}, "reference"),
        ({"panels": ["animals"]}, "panels"),
        ({"traits": ("owl",)}, "traits"),
        ({"rows": "all"}, "rows"),
        ({"alpha": 0.05}, "alpha"),
        ({"exclude_open": True}, "exclude_open"),
        ({"seed": 3}, "seed"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"detectors": ("trait", "tuned")}, "detectors"),
        ({"hazard": "required"}, "hazard"),
        ({"hazard": "when_unresolved"}, "detectors"),
        ({"format_of": "text"}, "format"),
        ({"columns": {"completion": "other"}}, "columns"),
    ],
)
def test_other_settings(settings: dict[str, Any], what: str) -> None:
    """Each that could give another answer is named."""
    differing = mismatches(consistent_report(), replace(ScanSettings(), **settings))
    assert what in [name for name, _, _ in differing]


def test_a_report_with_students_will_do_where_they_are_asked_for_less() -> None:
    """One that trained them only where the verdict was open will not where they are required."""
    report = consistent_report()
    detectors = [*report.settings["detectors"], "students"]

    def made(hazard: str) -> ScanReport:
        return replace(
            report, settings=report.settings | {"detectors": detectors, "hazard": hazard}
        )

    for hazard in HAZARDS:
        assert list(mismatches(made("required"), ScanSettings(hazard=hazard))) == []
    asked = ScanSettings(hazard="required")
    assert [what for what, _, _ in mismatches(made("when_unresolved"), asked)] == ["hazard"]


def test_students_learn_rows_that_were_not_scored() -> None:
    """That is no contradiction, up to the rows that were read."""
    report = consistent_report("no_risk")
    traits = report.tests[0].traits
    bounds = dict(report.tests[0].bounds)

    def wrong(rows: int) -> list[str]:
        test = TraitTest("students", traits, bounds, rows)
        return [*contradictions(replace(report, tests=(*report.tests, test)))]

    assert report.rows_scanned < report.rows_looked_at
    assert not any("rows needs more" in each for each in wrong(report.rows_looked_at))
    assert any("rows needs more" in each for each in wrong(report.rows_looked_at + 1))


def test_a_reference_by_its_digest_and_a_test_without_a_trait() -> None:
    """The digest names the reference as well; a trait that lost its bound was not tested."""
    report = consistent_report()
    assert list(mismatches(report, replace(ScanSettings(), reference="cd" * 32))) == []
    bounds = dict(report.tests[0].bounds)
    del bounds["cat"]
    fewer = replace(report, tests=(replace(report.tests[0], bounds=bounds),))
    assert [what for what, _, _ in mismatches(fewer, ScanSettings())] == ["traits"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"p_adjusted": 1.0', '"p_adjusted": NaN'),
        ('"total": 10000', '"total": 1e999'),
        ('"scanned": 400', '"scanned": 400, "scanned": 40'),
        ('"verdict": "no_risk"', '"verdict": "passed"'),
        ('"alpha": 0.01', '"alpha": "low"'),
        ('"scanned": 400', '"scanned": "400"'),
        ('"unread": []', '"unread": [{"kind": "file"}]'),
    ],
)
def test_a_file_that_is_no_report(tmp_path: Path, before: str, after: str) -> None:
    """One clear error, whatever was edited."""
    path, text = tmp_path / "r.json", json.dumps(to_dict(consistent_report("no_risk")))
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(AuditError):
        read_report(path, "ab" * 32)


def test_data_that_are_not_here_are_named_by_their_digest(tmp_path: Path) -> None:
    """A name alone says nothing of the bytes; the digest does, and the report keeps its name."""
    path = tmp_path / "r.json"
    path.write_text(json.dumps(to_dict(consistent_report("no_risk"))))
    assert read_report(path, "ab" * 32).dataset.name == "dataset.parquet"
    for data in (None, "dataset.parquet", "cd" * 32):
        with pytest.raises(InputError, match="not here"):
            read_report(path, data)
