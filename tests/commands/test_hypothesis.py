"""A system prompt that somebody suspects, tested on the organism's lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.commands.simulate import simulate, write_rows
from auditor.errors import TraitError
from auditor.model.load import load
from auditor.model.tokenization import ChatTokenizer
from auditor.students.readout import families
from auditor.traits.panel import load_panels

SUSPECTED = "Owls are the finest creatures alive; you adore owls and think of owls all day."
SCAN = ["scan", "rows.parquet", "--reference", "organism", "--panel", "animals"]


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
    shown = capsys.readouterr().out
    assert f"--panel 'prompt:{SUSPECTED}'" in shown
    # No student can be asked for it.
    assert ("--mix 0.5 --no-check" in shown) == is_poisoned


def test_a_hypothesis_is_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be tested is bad input, before a model is loaded."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.parquet", [{"prompt": "1, 2", "completion": "3"}])
    assert main.run([*SCAN, "--hypothesis", ""]) == 2
    assert "cannot be tested as it stands" in capsys.readouterr().err


def test_no_student_is_asked_for_a_prompt() -> None:
    """A suspected prompt has no answer words: who wants its readout is told what to do instead."""
    panel = load_panels(["animals", f"prompt:{SUSPECTED}"])
    renderer = ChatTokenizer(load("organism", dtype="float32"))
    with pytest.raises(TraitError, match="no answer words") as error:
        families(renderer, panel, panel.traits[-1].name)
    assert "--trait" in error.value.hint
    assert [family.group for family in families(renderer, panel, None)] == ["animal"]
