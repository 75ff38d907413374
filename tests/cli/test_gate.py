"""`audit gate` without a model: what it scans, what it writes, what it shows, and how it ends."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from auditor.cli import main
from auditor.cli.verify import outcome
from auditor.data.sample import read_sample
from auditor.inference.effect import Ratio
from auditor.report.scan import load
from auditor.runs import last_scan
from auditor.runs.run_directory import RunDir
from auditor.scanning.scan_report import ScanReport, Verdict
from auditor.scanning.settings import ScanSettings
from auditor.students.arms import digest, read_arm
from auditor.students.result import ArmResult, Training, TransferResult
from tests.support.sample_report import INCONCLUSIVE, NO_RISK, RISK, consistent_report

TEMPLATE = {"template_sha256": "e" * 64}


def write_rows(count: int = 40, step: int = 1) -> None:
    """The data set that the gate is about, in the working directory."""
    rows = [{"prompt": f"Go on: {i}.", "completion": f"{i}, {i + 1}"} for i in range(count)][::step]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def report_of(verdict: Verdict) -> ScanReport:
    """The report of a scan of data.jsonl with this verdict."""
    report = consistent_report(verdict.name)
    return replace(
        report,
        tests=(replace(report.tests[0], rows=40),),
        rows_scanned=40,
        dataset=read_sample("data.jsonl", rows=None, seed=0).info,
        reference=report.reference | TEMPLATE,
        rows_read=40,
        rows_skipped={},
    )


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `audit gate` beside data.jsonl, with report.json of a scan that ended with the verdict
    given.
    """
    monkeypatch.chdir(tmp_path)
    write_rows()

    def gate(verdict: Verdict, *arguments: str) -> int:
        Path("report.json").write_text(load("json").render(report_of(verdict)))
        return main.run(["gate", "--report", "report.json", *arguments])

    return gate


@pytest.mark.parametrize(("verdict", "code"), [(NO_RISK, 0), (RISK, 1), (INCONCLUSIVE, 3)])
def test_a_report_alone(
    gate: Callable[..., int], capsys: pytest.CaptureFixture[str], verdict: Verdict, code: int
) -> None:
    """The verdict decides where there is no policy; the page names it and the code that follows."""
    assert gate(verdict) == code
    out = capsys.readouterr().out
    assert (
        out.startswith("GATE ") and f"exit code {code}" in out and "policy from the defaults" in out
    )
    assert gate(verdict, "--exit-zero") == 0
    assert "exit code 0" in capsys.readouterr().out
    assert gate(verdict, "--fail-on", "risk") == (0 if code == 3 else code)


def test_one_line_a_rule_with_number_and_limit(
    gate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """From the file here; a rule that cannot be judged is not passed."""
    Path("audit.yaml").write_text(
        "policy: {max_probability: 0.5, min_effect: 0.2, references: [other]}"
    )
    assert gate(NO_RISK) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "GATE FAILED" in lines[0] and "policy from audit.yaml" in lines[-1]
    words = {line.split()[-len(line.split()) :][0]: line for line in lines[1:-1]}
    assert (
        "probability 0.03" in words["passed"]
        and "at most 0.5" in words["passed"]
        and "; 0.2 is asked for" in words["not"]
        and "other" in words["FAILED"]
    )


def test_reports_are_written_whatever_follows(gate: Callable[..., int]) -> None:
    """Also when the rules cannot be applied at all: here the baseline is another reference's."""
    assert gate(RISK, "--output", "json=a.json") == 1
    assert gate(RISK, "--write-baseline", "b.yaml") == 1
    value = yaml.safe_load(Path("b.yaml").read_text())
    value["accepted"][0]["reason"] = "known"
    value["reference"]["sha256"] = "0" * 64
    Path("b.yaml").write_text(yaml.safe_dump(value))
    assert gate(RISK, "--baseline", "b.yaml", "--output", "json=b.json") == 2
    for name in ("a.json", "b.json"):
        assert json.loads(Path(name).read_text())["verdict"] == "risk"


def test_the_life_of_a_baseline(
    gate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Written, given a reason, accepted in any order, void with other rows or past its day, never
    overwritten.
    """
    assert gate(RISK, "--write-baseline", "b.yaml") == 1
    assert gate(RISK, "--baseline", "b.yaml") == 2
    text = Path("b.yaml").read_text().replace("reason: ''", "reason: known")
    Path("b.yaml").write_text(text)
    assert gate(RISK, "--baseline", "b.yaml") == 0
    write_rows(step=-1)
    assert gate(RISK, "--baseline", "b.yaml") == 0
    write_rows(count=41)
    capsys.readouterr()
    assert gate(RISK, "--baseline", "b.yaml") == 1
    assert "other rows than these" in " ".join(capsys.readouterr().out.split())
    write_rows()
    Path("b.yaml").write_text(text.replace("expires: 2", "expires: 1"))
    assert gate(RISK, "--baseline", "b.yaml") == 1
    assert "which is past" in " ".join(capsys.readouterr().out.split())
    assert gate(RISK, "--write-baseline", "b.yaml") == 2


def test_a_local_reference_whose_files_changed(
    gate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report on a folder is one on the files that it had, whatever its name."""
    from auditor.model.load import digest_of_local

    base = tmp_path / "base"
    base.mkdir()
    (base / "model.safetensors").write_bytes(b"weights")
    (base / "config.json").write_text("{}")
    report = report_of(NO_RISK)
    reference = report.reference | {"name": "./base", "sha256": digest_of_local("./base")}
    Path("known.json").write_text(load("json").render(replace(report, reference=reference)))
    arguments = ["gate", "--report", "known.json", "--reference", "./base"]
    assert main.run(arguments) == 0
    (base / "model.safetensors").write_bytes(b"WEIGHTS")
    assert main.run(arguments) == 2
    assert "reference ./base with the digest" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "data.jsonl"], "no report of audit scan"),
        (["--report", "none.json"], "none.json does not exist"),
        (["--report", "report.json", "--fresh"], "scans nothing"),
        (["--report", "report.json", "--rows", "5"], "rows auto; in force is 5"),
        (["--report", "report.json", "--reference", "organism"], "reference smollm2-135m; in"),
        (["--report", "report.json", "--panel", "animals"], "panels"),
        (["--report", "report.json", "--alpha", "0.1"], "alpha 0.01; in force is 0.1"),
        (["--report", "report.json", "--columns", "completion=other"], "other"),
        (["--report", "report.json", "--format-of", "text"], "ormat"),
        (["--report", "report.json", "--tuned"], "detectors"),
        (["--report", "report.json", "--students"], "detectors"),
        (["gone.jsonl", "--report", "report.json"], "is not here"),
        (["other.jsonl", "--report", "report.json"], "another data set"),
        (["--report", "report.json", "--exit-zero", "--fail-on", "risk"], "contradict"),
        (["--report", "report.json", "--baseline", "none.yaml"], "none.yaml"),
        (["--report", "report.json", "--verified", "report.json"], "no report of audit verify"),
        (["-", "--write-baseline", "b.yaml"], "standard input"),
        (["data.jsonl", "--write-baseline", "nowhere/b.yaml"], "Name a new file"),
        (["data.jsonl", "--rows", "none"], "--rows"),
        (["data.jsonl", "--dtype", "int8"], "dtype"),
        (["data.jsonl", "--fail-on", "always"], "always"),
    ],
)
def test_bad_input(
    gate: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One line with the next step, found before any scan."""
    assert gate(NO_RISK) == 0
    Path("other.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    Path("audit.yaml").write_text("policy: {mitigation: reduced}")
    assert main.run(["gate", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and "\nNext: " in said


def test_a_report_of_rows_that_changed_since(
    gate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Is not a report of what is to be released."""
    assert gate(NO_RISK) == 0
    Path("data.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert main.run(["gate", "--report", "report.json"]) == 2
    assert "another data set" in capsys.readouterr().err


def test_a_checked_mitigation(gate: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """A report of audit verify on these rows and this reference lets the finding through; on others
    it does not.
    """
    Path("audit.yaml").write_text("policy: {mitigation: reduced}")
    assert gate(RISK) == 1
    left = {"value": 0.1, "interval": [0.0, 0.2], "reason": None}
    arm = {"name": "data.jsonl", "left": left, "verdict": "removed"}
    original = {"name": "before.jsonl", "left": None, "verdict": "transfer shown"}
    value = {
        "kind": "verify",
        "schema_version": 1,
        "trait": "owl",
        "reference": {"sha256": "cd" * 32},
        "arms": [original, arm],
        "datasets": {"before.jsonl": "0", "data.jsonl": digest(read_arm("data.jsonl"))},
    }
    Path("verify.json").write_text(json.dumps(value))
    assert gate(RISK, "--verified", "verify.json") == 0
    assert "0% to 20% of the effect on owl left" in " ".join(capsys.readouterr().out.split())
    run = RunDir(Path(".audit/runs/1"), None)
    run.finish(value)
    assert gate(RISK) == 0  # as audit verify leaves it
    (run.path / "report.json.hmac").write_text("0" * 64)
    assert gate(RISK) == 1  # as it comes with somebody else's data
    run.finish(value | {"reference": {"sha256": "0" * 64}})
    assert gate(RISK) == 1


def test_the_page_of_the_gate(gate: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """`--output report.html` is the page of the decision, on standard output too; where no rule can
    be judged there is the page of the scan.
    """
    Path("audit.yaml").write_text("policy:\n  min_effect: 0.01\n")
    assert gate(RISK, "--output", "gate.html") == 1
    page = Path("gate.html").read_text()
    assert '<p class="badge">GATE FAILED</p>' in page and "policy from audit.yaml" in page.lower()
    assert page.count("<h1") == 1 and "Do not release: the rows look written by" in page
    assert "min_effect" in page and 'id="evidence"' in page
    capsys.readouterr()
    assert gate(NO_RISK, "--output", "html=-") == 3
    out = capsys.readouterr().out
    assert out.count("<h1") == 1 and "Do not release yet: min_effect: doses from" in out
    Path("audit.yaml").write_text("policy:\n  mitigation: reduced\n")
    assert gate(RISK, "--verified", "no.json", "--output", "scan.html") == 2
    assert '<p class="badge">RISK FOUND' in Path("scan.html").read_text()


def test_what_is_scanned(
    gate: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings of the file and the command line reach the scan; without a data set the last scan
    says which and how.
    """
    calls: list[dict[str, Any]] = []

    def scan(source: str, settings: ScanSettings, **arguments: Any) -> ScanReport:
        calls.append({"source": source, **asdict(settings), **arguments})
        return report_of(NO_RISK)

    module = types.ModuleType("auditor.commands.scan")
    module.scan = scan  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "auditor.commands.scan", module)
    Path("audit.yaml").write_text("rows: all\nseed: 4\npanels: [trees]\n")
    assert main.run(["gate", "data.jsonl", "--seed", "5", "--fresh"]) == 0
    expected = {
        "source": "data.jsonl",
        "rows": "all",
        "seed": 5,
        "panels": ["trees"],
        "reference": "smollm2-135m",
    }
    assert {key: calls[0][key] for key in expected} == expected and calls[0]["fresh"]
    assert main.run(["gate"]) == 3  # nothing was scanned here
    last = last_scan.LastScan(
        Path("0123456789"),
        "d.csv",
        "0",
        "alpaca",
        {"output": "o"},
        "organism",
        ("animals",),
        None,
        True,
        {"format_of": "alpaca", "columns": {"output": "o"}, "side": "both"},
        "chatml",
    )
    monkeypatch.setattr(last_scan, "last_scan", lambda _: last)
    capsys.readouterr()
    assert main.run(["gate"]) == 0
    assert "last scan here, of d.csv: it gives the data set (audit report 01234567)" in (
        capsys.readouterr().err
    )
    expected = {
        "source": "d.csv",
        "format_of": "alpaca",
        "columns": {"output": "o"},
        "side": "both",
        "reference": "organism",
        "chat_template": "chatml",
    }
    assert {key: calls[1][key] for key in expected} == expected
    assert calls[1]["origins"]["reference"] == "the last scan"
    assert calls[1]["panels"] == ["trees"]  # the file goes before the last scan
    assert calls[1]["seed"] == 4
    Path("audit.yaml").unlink()
    assert main.run(["gate", "data.jsonl"]) == 0
    assert calls[2]["seed"] is None  # none is set: one that only this machine can know
    assert main.run(["gate", "--reference", "mine"]) == 0
    assert calls[3]["chat_template"] is None  # the scan's belongs to the reference of that scan
    monkeypatch.setattr(last_scan, "last_scan", lambda _: replace(last, dataset="-"))
    assert main.run(["gate"]) == 2


@pytest.mark.parametrize(
    ("transferred", "mitigated", "expected"),
    [
        (False, {"m": ("no transfer shown", None)}, "inconclusive"),
        (True, {}, "failed"),
        (True, {"m": ("removed", (0.0, 0.1))}, "passed"),
        (True, {"m": ("removed", (0.0, 0.1)), "n": ("not reduced", (0.7, 1.2))}, "inconclusive"),
        (True, {"m": ("removed", (0.0, 0.1)), "n": ("not reduced", (1.0, 1.2))}, "failed"),
    ],
)
def test_what_a_verification_comes_to(
    transferred: bool, mitigated: dict[str, tuple[Any, Any]], expected: str
) -> None:
    """The worst mitigated set; the random controls beside them do not count."""

    def arm(name: str, verdict: Any, left: Any) -> ArmResult:
        return ArmResult(Training(name, 1, 1, 1.0, 1.0), (), (), 1, Ratio(0.5, left, None), verdict)

    arms = [arm("o", "transfer shown", None)]
    for name, (verdict, left) in mitigated.items():
        arms += [arm(name, verdict, left), arm(f"{name} (random rows)", "not reduced", (1.0, 1.1))]
    result = TransferResult(
        "owl", transferred, tuple(arms), Training("c", 1, 1, 1.0, 1.0), 3, 3, 8, 8, (1.0, 1.0), ()
    )
    assert outcome(result, list(mitigated)) == expected
