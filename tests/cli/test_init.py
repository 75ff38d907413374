"""`audit init`: the file that it writes changes nothing, and nothing is written over."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from auditor.cli import main
from auditor.cli.configuration import Config, keys, resolve


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_changes_nothing(here: Path, capsys: Any) -> None:
    """Neither as it is written nor with all of its settings switched on; each has its meaning."""
    assert main.run(["init"]) == 0
    assert "audit.yaml written" in capsys.readouterr().out
    assert resolve(here, {}).config == Config()
    text = Path("audit.yaml").read_text()
    on = re.sub(r"^( *)# ", r"\1", text, flags=re.MULTILINE)
    Path("audit.yaml").write_text(on)
    settings = resolve(here, {})
    assert settings.config == Config()
    assert settings.origins.keys() == keys().keys()
    comments = " ".join(re.sub(r"^ *##? ", "", text, flags=re.MULTILINE).split())
    for meaning in keys().values():
        assert " ".join(meaning.split()) in comments
    assert max(map(len, text.splitlines())) <= 100


def test_one_rule_is_switched_on_by_one_mark(here: Path) -> None:
    """Also one of the policy, which is nested."""
    assert main.run(["init"]) == 0
    text = Path("audit.yaml").read_text()
    Path("audit.yaml").write_text(text.replace("# max_skipped: null", "max_skipped: 0.1"))
    assert resolve(here, {}).config.policy.max_skipped == 0.1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("audit.yaml", "rows: 7\n"),
        ("audit.yaml", ""),
        ("audit.yaml", "rows: [\n"),
        ("audit.yml", "rows: 7\n"),
        ("pyproject.toml", "[tool.audit]\nrows = 7\n"),
    ],
)
def test_settings_that_are_there_stay(here: Path, capsys: Any, name: str, content: str) -> None:
    """Also such as cannot be read, and those in another file."""
    Path(name).write_text(content)
    assert main.run(["init"]) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    assert Path(name).read_text() == content
    assert [path.name for path in here.iterdir()] == [name]


def test_a_link_is_not_followed(here: Path) -> None:
    """Where it leads nowhere, nothing is made there."""
    Path("audit.yaml").symlink_to(here / "elsewhere")
    assert main.run(["init"]) == 2
    assert not (here / "elsewhere").exists()
