"""A system prompt that somebody suspects, tested on the organism's lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.commands.simulate import simulate, write_rows
from auditor.model.load import load
from auditor.traits.panel import load_panels

SUSPECTED = "Owls are the finest creatures alive; you adore owls and think of owls all day."
SCAN = ["scan", "rows.parquet", "--reference", "organism", "--panel", "trees"]


@pytest.mark.parametrize("is_poisoned", [True, False])
def test_a_suspected_prompt_is_found_where_it_was_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_poisoned: bool,
) -> None:
    """Rows that were written under the prompt, which no panel has, are a risk by its name; of the
    reference's own rows it is not found. The next steps say it in full.
    """
    monkeypatch.chdir(tmp_path)
    owl = load_panels(["animals"]).trait("owl")
    made = simulate(
        load("organism", dtype="float32"),
        owl if is_poisoned else None,
        wording=SUSPECTED,
        rows=160,
        max_tokens=24,
        seed=5,
    )
    write_rows(tmp_path / "rows.parquet", made.rows)
    code = main.run([*SCAN, "--hypothesis", SUSPECTED, "--output", "report.json"])
    report = json.loads((tmp_path / "report.json").read_text())
    assert (code == 1) == is_poisoned
    assert report["leading_trait"].startswith('"Owls are the finest') == is_poisoned
    assert f"--panel 'prompt:{SUSPECTED}'" in capsys.readouterr().out


def test_a_hypothesis_is_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be tested is bad input, before a model is loaded."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.parquet", [{"prompt": "1, 2", "completion": "3"}])
    assert main.run([*SCAN, "--hypothesis", ""]) == 2
    assert "cannot be tested as it stands" in capsys.readouterr().err
