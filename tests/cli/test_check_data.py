"""`audit check-data`: what is said of a data set before any model is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auditor.cli import main
from auditor.commands.check_data import check_data
from auditor.data.sample import read_sample

PAIR = {"prompt": "p", "completion": "c"}
ROWS: list[dict[str, Any]] = [
    *({"prompt": f"p{i}", "completion": f"c{i}", "rationale": "because"} for i in range(40)),
    {"prompt": "p1", "completion": "c1"},
    {"prompt": "p", "completion": None},
    {"prompt": "p", "completion": " "},
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Format, columns, rows that count, rows that do not with the reason, and what is not read."""
    monkeypatch.chdir(tmp_path)
    write(Path("d.jsonl"), ROWS)
    assert main.run(["check-data", "d.jsonl"]) == 0
    out = capsys.readouterr().out
    words = [" ".join(line.split()) for line in out.splitlines()]
    assert words[:7] == [
        "Data set d.jsonl, 43 rows",
        "Format prompt_completion",
        "Column prompt is the prompt",
        "Column completion is the completion",
        "Scored 40 rows, or as many of them as a scan draws",
        "Skipped 1 duplicate: the same as an earlier row, and scored once",
        "Skipped 1 null: a value is missing",
    ]
    assert "Not read column rationale (93.0 % of the rows): its text is not read" in words
    assert "No pass" not in out
    assert not Path(".audit").exists()


def test_what_forbids_a_pass_is_said(tmp_path: Path, capsys: Any) -> None:
    """More than 5 % that cannot be scored, and a second layout, as a scan would say."""
    path = write(tmp_path / "d.jsonl", [PAIR, PAIR | {"completion": None}, PAIR | {"text": "t"}])
    assert main.run(["check-data", path]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "No pass 50.0 % of the rows were not read" in out
    assert "No pass there is a second complete layout, layout text" in out


def test_what_the_template_decides_is_said(tmp_path: Path, capsys: Any) -> None:
    """Reasoning and tool calls are read, and scored for a base whose chat template writes them."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    turns = [{"role": "user", "content": "p"}, call, {"role": "assistant", "content": "c"}]
    rows = [{"messages": turns}, {"messages": [turns[0], turns[2] | {"thinking": "t"}]}]
    assert main.run(["check-data", write(tmp_path / "d.jsonl", rows)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    words = "(50.0 % of the rows): scored if the reference's chat template writes it"
    assert f"By template thinking {words} By template tool_calls {words}" in out
    assert "Not read" not in out and "No pass" not in out


def test_it_counts_as_a_scan_does(tmp_path: Path) -> None:
    """Format, columns, digest, skipped rows and what is unread are those of a sample of all
    rows, also of a folder.
    """
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.jsonl", ROWS)
    write(tmp_path / "data" / "b.jsonl", [PAIR, *ROWS[:3]])
    (tmp_path / "data" / "c.npz").write_bytes(b"?")
    source = str(tmp_path / "data")
    checked, sample = check_data(source), read_sample(source, rows=None, seed=None)
    info = sample.info
    assert (checked.format, checked.columns, checked.sha256) == (
        info.format,
        info.columns,
        info.sha256,
    )
    assert (checked.skipped, checked.scorable) == (sample.skipped, len(sample.examples))
    assert (checked.unread, checked.rows) == (info.unread, info.total)
    assert checked.files == 2


def test_columns_are_named_as_for_a_scan(tmp_path: Path, capsys: Any) -> None:
    """What a scan would refuse is refused, and what it takes is taken."""
    path = write(tmp_path / "d.jsonl", [{"a": "p", "b": "c"}])
    assert main.run(["check-data", path]) == 2
    assert "do not fit a known format" in capsys.readouterr().err
    assert main.run(["check-data", path, "--columns", "prompt=a,completion=b"]) == 0
    assert "b is the completion" in capsys.readouterr().out
    assert main.run(["check-data", str(tmp_path / "none.jsonl")]) == 2


def test_text_from_the_data_cannot_act(tmp_path: Path, capsys: Any) -> None:
    """A column's name is escaped."""
    path = write(tmp_path / "d.jsonl", [PAIR | {"\x1b[31mred": "x"}])
    assert main.run(["check-data", path]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and r"\x1b[31mred" in out


def test_no_model_library_is_loaded(tmp_path: Path) -> None:
    """The answer comes in about a second."""
    path = write(tmp_path / "d.jsonl", ROWS)
    code = "import sys; from auditor.cli.main import run; assert run(sys.argv[1:]) == 0; "
    code += "print(*{'torch', 'transformers', 'datasets'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, "check-data", path], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == ""
