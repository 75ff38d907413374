"""The limits of what is read are settings, and hold for every command that reads a data set."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.cli import main
from auditor.data.example import DatasetInfo
from auditor.data.files import digest_of
from auditor.data.limits import IN_FORCE, Limits
from auditor.report.scan.json import to_dict
from tests.support.sample_report import NO_RISK, sample_report

ROW = {"prompt": "A", "completion": "x" * 4000}
LONG = {"prompt": "A", "completion": "x" * Limits().row_bytes}
COMMANDS = {
    "scan": ["scan", "DATA"],
    "gate": ["gate", "DATA"],
    "verify": ["verify", "DATA", "--trait", "owl"],
    "locate": ["locate", "DATA", "--trait", "owl"],
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A command that comes as far as the model has read the data.
    monkeypatch.setenv("AUDIT_REFERENCE", "./no-such-model")


def outcome(capsys: pytest.CaptureFixture[str], command: str, data: str) -> str:
    """The error with which a command over a data set ends."""
    assert main.run([data if word == "DATA" else word for word in COMMANDS[command]]) == 2
    assert IN_FORCE.get() == Limits()  # they end with the command
    error = capsys.readouterr().err
    return next(line for line in error.splitlines() if line.startswith("Error: "))


def lines(row: dict[str, str]) -> str:
    return (json.dumps(row) + "\n") * 40


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_obeys(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What passes under the default does not under a smaller limit."""
    # Rows that differ, and enough of them: too few are refused before the model is looked for.
    rows = [ROW | {"prompt": f"{i} {ROW['prompt']}"} for i in range(300)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "no-such-model" in outcome(capsys, command, "data.jsonl")
    monkeypatch.setenv("AUDIT_LIMITS_ROW_BYTES", "2000")
    assert "a line has more than 2,000 bytes" in outcome(capsys, command, "data.jsonl")


def test_a_mitigation_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    """It loads the model first."""
    Path("data.jsonl").write_text(lines(ROW))
    Path("audit.yaml").write_text("limits: {row_bytes: 2000}\n")
    command = ["mitigate", "data.jsonl", "--mask", "--trait", "owl", "--reference", "organism"]
    assert main.run(command) == 2
    assert "a line has more than 2,000 bytes" in capsys.readouterr().err


def test_a_comparison_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    """It reads the rows of both scans again."""
    for name in "ab":
        Path(f"{name}.jsonl").write_text(lines(ROW | {"prompt": name}))
        info = DatasetInfo(
            name=f"{name}.jsonl",
            format="prompt_completion",
            columns={"prompt": "prompt", "completion": "completion"},
            sha256=digest_of(f"{name}.jsonl"),
            total=40,
            sampling="all 40 rows",
        )
        report = to_dict(replace(sample_report(NO_RISK), dataset=info))
        Path(f"{name}.json").write_text(json.dumps(report))
    assert main.run(["diff", "a.json", "b.json"]) == 0
    assert "a line has more than" not in capsys.readouterr().out
    Path("audit.yaml").write_text("limits: {row_bytes: 2000}\n")
    assert main.run(["diff", "a.json", "b.json"]) == 0
    assert "a line has more than 2,000 bytes" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv"])
def test_a_larger_limit_takes_what_the_default_refuses(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In audit.yaml; the error names the key."""
    content = {
        "data.jsonl": json.dumps(LONG),
        "data.json": f"[{json.dumps(LONG)}]",
        "data.csv": f"prompt,completion\nA,{LONG['completion']}\n",
    }
    Path(name).write_text(content[name])
    assert main.run(["scan", name]) == 2
    assert "limits.row_bytes" in capsys.readouterr().err
    Path("audit.yaml").write_text(f"limits: {{row_bytes: {40 << 20}}}\n")
    assert "no-such-model" in outcome(capsys, "scan", name)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ("{expansion: 10, expanded_bytes: 100000}", "more than 10 times its size"),
        ("{expansion: 10}", "no-such-model"),
        ("{expansion: 1000, expanded_bytes: 100000}", "no-such-model"),
    ],
)
def test_unpacked_bytes(settings: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A packed file is refused where it exceeds both limits."""
    Path("data.jsonl.gz").write_bytes(gzip.compress(lines(ROW).encode()))
    Path("audit.yaml").write_text(f"limits: {settings}\n")
    assert error in outcome(capsys, "scan", "data.jsonl.gz")


def test_dictionaries(capsys: pytest.CaptureFixture[str]) -> None:
    """A value of a Parquet dictionary may be named by every row."""
    table = pa.table({"text": pa.array(["x" * 100_000] * 40).dictionary_encode()})
    pq.write_table(table, "data.parquet")
    assert "no-such-model" in outcome(capsys, "scan", "data.parquet")
    Path("audit.yaml").write_text("limits: {batch_bytes: 1000000}\n")
    assert "dictionaries of a row group" in outcome(capsys, "scan", "data.parquet")


@pytest.mark.parametrize("key", ["row_bytes", "expansion", "expanded_bytes", "batch_bytes"])
def test_no_limit_can_be_switched_off(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no value for none."""
    for value in ("0", "-1", ".inf", "null"):
        Path("audit.yaml").write_text(f"limits: {{{key}: {value}}}\n")
        assert main.run(["config", "show"]) == 2
        assert f"audit.yaml: limits.{key}:" in capsys.readouterr().err


def test_settings_beside_the_data_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Who writes the data does not choose the limits."""
    Path("data").mkdir()
    Path("data/audit.yaml").write_text(f"limits: {{row_bytes: {40 << 20}}}\n")
    Path("data/data.jsonl").write_text(json.dumps(LONG))
    assert "more than 16,777,216 bytes" in outcome(capsys, "scan", "data")
