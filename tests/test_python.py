"""What a program or a notebook gives to `scan` and gets of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from auditor import AuditError, load_panels, progress_bar, scan
from auditor.data.at_hand import as_jsonl
from auditor.report.scan import load
from auditor.report.scan.json import to_dict
from auditor.report.shared.words import headline
from auditor.runs.last_scan import last_scan
from auditor.scanning.scan_report import ScanReport
from auditor.traits.panel import built_in
from tests.support.sample_report import INCONCLUSIVE, NO_RISK, RISK, hostile_report, sample_report

ROWS = [{"prompt": f"Say {i}.", "completion": f"{i}, {i + 1}"} for i in range(12)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(source: object, **options: Any) -> ScanReport:
    """A scan of a moment: too few rows for a test."""
    return scan(source, reference="organism", panels="animals", detectors="surface", **options)


def test_rows_at_hand_are_scanned_as_a_file_is() -> None:
    """A list, a DataFrame, a split and a path give one digest, one run and the same report; later
    commands find the rows.
    """
    Path("rows.jsonl").write_bytes(as_jsonl(ROWS))
    reports = [
        run(source)
        for source in (
            ROWS,
            tuple(ROWS),
            pandas.DataFrame(ROWS),
            datasets.Dataset.from_list(ROWS),
            iter(ROWS),
        )
    ]
    assert {report.dataset.name for report in reports} == {reports[0].dataset.name}
    assert {report.run for report in reports} == {reports[0].run}
    by_path = run(Path("rows.jsonl"))
    assert by_path.dataset.sha256 == reports[0].dataset.sha256
    assert by_path.dataset.name == "rows.jsonl"
    assert [report.rows_looked_at for report in reports] == [12] * 5
    run(ROWS)
    last = last_scan(Path())
    assert Path(last.dataset).read_bytes() == as_jsonl(ROWS)
    assert Path(".audit/.gitignore").exists()


def test_missing_values_are_null() -> None:
    """Of a DataFrame, which has NaN for them; the row is then skipped with its reason."""
    frame = pandas.DataFrame([*ROWS, {"prompt": "Say.", "completion": None}])
    assert json.loads(as_jsonl(frame).splitlines()[-1]) == {"prompt": "Say.", "completion": None}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "of type int is no data set"),
        (None, "of type NoneType is no data set"),
        ({"train": ROWS}, "of type dict is no data set"),
        (
            datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}),
            "of type DatasetDict is no",
        ),
        ([], "There are no rows"),
        (["one", "two"], "Row 0 is of type str, and no dict"),
        ([*ROWS, {"prompt": "p", "completion": b"c"}], "Row 12 holds what JSON cannot"),
        ([{"prompt": "p", "completion": float("nan")}], "Row 0 holds what JSON cannot"),
    ],
)
def test_anything_else_is_an_audit_error(source: object, message: str) -> None:
    """With the next step, and before a model is loaded."""
    with pytest.raises(AuditError, match=message) as error:
        run(source)
    assert error.value.hint
    assert not Path(".audit").exists()


def test_one_name_is_no_list_of_letters() -> None:
    """Of panels, traits and detectors."""
    assert load_panels("animals") == load_panels(["animals"])
    report = run(ROWS, traits="owl")
    assert report.settings["tested"] == ["owl"]
    assert report.settings["panel"] == "animals" in built_in()
    assert report.settings["detectors"] == ["surface"]


@pytest.mark.parametrize("verdict", [RISK, NO_RISK, INCONCLUSIVE])
def test_repr_is_one_screen(verdict: Any) -> None:
    """The verdict first, the strongest traits, and how to see the rest."""
    report = sample_report(verdict)
    lines = repr(report).splitlines()
    assert len(lines) <= 12 and max(map(len, lines)) <= 400
    assert lines[0] == f"{headline(verdict)}. {verdict.reason}"
    assert "400 of" in lines[1] and "reference smollm2-135m" in lines[1]
    assert lines[2].startswith("owl: dose 0.42 [0.21, 0.63], corrected p")
    assert "to_html()" in lines[-1]


def test_repr_of_many_traits() -> None:
    """The strongest of them, and how many more."""
    report = sample_report(RISK)
    test = report.tests[0]
    many = replace(report, tests=(replace(test, traits=test.traits * 20),))
    assert "and 55 more traits" in repr(many).splitlines()
    assert len(repr(many).splitlines()) <= 12


@pytest.mark.parametrize(
    "report",
    [sample_report(RISK), hostile_report("\x1b[31m</iframe><script>alert(1)</script>\u202e")],
)
def test_the_page_and_the_values(report: ScanReport) -> None:
    """They are those of --output; in a notebook the page stands in a frame that it cannot leave."""
    assert report.to_html() == load("html").render(report)
    assert report.to_dict() == to_dict(report)
    frame = report._repr_html_()
    shown = re.fullmatch(r'<iframe [^<>]* srcdoc="([^"<>]*)"></iframe>', frame)
    assert shown is not None and unescape(shown[1]) == report.to_html()
    assert "sandbox=" in frame and "allow-same-origin" not in frame
    assert repr(report).replace("\n", "").isprintable()


def test_the_evidence_is_a_data_frame() -> None:
    """A line a trait, in the order of the report; of a scan that tested nothing there is none."""
    report = sample_report()
    frame = report.to_pandas()
    assert list(frame["name"]) == [trait.name for trait in report.traits]
    first = frame.iloc[0]
    assert (first["test"], first["effect"], first["p_adjusted"]) == ("prompts", 0.42, 9e-5)
    assert (first["low"], first["high"]) == report.traits[0].interval
    assert not {"interval"} & set(frame.columns)
    assert replace(report, tests=()).to_pandas().empty


def test_progress_is_shown_when_asked(capfd: pytest.CaptureFixture[str]) -> None:
    """On standard error, and only by who asks for it."""
    run(ROWS)
    assert capfd.readouterr() == ("", "")
    with progress_bar() as progress:
        run(ROWS, fresh=True, progress=progress)
    out, err = capfd.readouterr()
    assert out == "" and "loading the reference" in err.splitlines()
