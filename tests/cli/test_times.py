"""Commands that take long say how long before they start; locate, study and verify are in their own
tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.cli.main import run
from auditor.model.language_model import LanguageModel
from tests.commands.test_scan import NAMES, PANEL


def test_simulate_scan_and_mitigate(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make_tiny: Callable[..., LanguageModel],
) -> None:
    """By what a part of the work took here: the first prompts, a few rows scored, a few rows
    defended.
    """
    monkeypatch.setattr("auditor.model.load.load", lambda *_, **__: make_tiny())
    monkeypatch.chdir(tmp_path)
    traits = "\n".join(
        f"  - {{name: {n}, plural: {n}s, answers: [{n}], mentions: [{n}]}}" for n in NAMES
    )
    Path("small.yaml").write_text(PANEL + traits)
    panel = ["--panel", "small.yaml"]
    write = ["simulate", "--trait", "owl", "--rows", "80", "--restricted", "-o", "rows.parquet"]
    scan = ["scan", "rows.parquet", "--without", "fit,surface", "--fail-on", "never"]
    mask = ["mitigate", "rows.parquet", "--mask", "--mask-budget", "50%", "--no-check"]
    for command, work in (
        ([*write, "--max-tokens", "4"], "writing [0-9]+ rows more"),
        (scan, "scoring up to [0-9]+ rows under 8 traits, if no answer is clear before"),
        ([*mask, "--trait", "owl"], "applying the defences to [0-9]+ rows"),
    ):
        assert run([*command, *panel]) == 0
        said = capsys.readouterr().err
        assert re.search(rf"^{work}: about [0-9.]+ (s|min|h)$", said, re.MULTILINE), said
    assert "finding the divergence tokens of 80 rows: about" in said
