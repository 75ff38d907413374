"""What `audit --help` and the help of the commands say, and the short options."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from typer.main import get_command

from auditor.cli import main
from auditor.cli.parsing import Target, parse_file, parse_targets
from auditor.errors import AuditError
from auditor.report.scan import FORMATS


def help_of(capsys: pytest.CaptureFixture[str], *command: str, flag: str = "--help") -> str:
    assert main.run([*command, flag]) == 0
    return capsys.readouterr().out


def test_commands_are_listed_in_groups_by_whole_sentences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command once, under a heading, and no sentence is cut."""
    text = help_of(capsys)
    assert "..." not in text.split("ARGS]...", 1)[1]
    listed = text[text.index("Audit and defend:") :]
    groups = re.findall(r"^(\S.*):$", listed, re.MULTILINE)
    assert groups == ["Audit and defend", "What is kept here", "Try it", "Research"]
    names = re.findall(r"^  (\S+) ", listed, re.MULTILINE)
    assert sorted(names) == sorted(get_command(main.app).commands)  # type: ignore[attr-defined]
    sentences = re.split(r"\n(?=  \S|\n|$)", listed)
    assert all(entry.rstrip().endswith((".", ":")) for entry in sentences if entry.strip())


@pytest.mark.parametrize("command", [[], ["scan"], ["config", "show"], ["models"]])
def test_short_options(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """-h is --help everywhere, and -V is --version."""
    assert help_of(capsys, *command, flag="-h") == help_of(capsys, *command)
    assert help_of(capsys, flag="-V") == help_of(capsys, flag="--version")


@pytest.mark.parametrize("arguments", [["--no-color", "traits"], ["traits", "--no-color"]])
def test_no_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Before and after the name of the command, against colours that are forced."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "")
    assert main.run(["config", "show"]) == 0
    assert main.run(arguments) == 0
    assert os.environ["NO_COLOR"] == "1"
    # Colours are the codes from 30 on; what is bold or dim stays.
    assert not re.search(
        "\x1b\\[[0-9;]*3[0-9]", capsys.readouterr().out.split("policy.baseline")[1]
    )


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("scan", FORMATS),
        ("gate", FORMATS),
        ("scan", ("messages", "prompt_completion", "alpaca", "sharegpt", "text")),
        ("verify", ("messages", "prompt_completion", "alpaca", "sharegpt", "text")),
        ("scan", ("trait", "tuned", "divergence", "fit", "surface")),
        ("scan", ("default", "animals", "trees", "broad")),
        ("traits", ("default", "animals", "trees", "broad")),
    ],
)
def test_values_are_listed(
    capsys: pytest.CaptureFixture[str], command: str, values: tuple[str, ...]
) -> None:
    """Where an option takes some words only, its help names them."""
    assert ", ".join(values) in " ".join(help_of(capsys, command).split())


def test_the_suffix_says_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a path alone; where it says nothing, the error names the formats."""
    monkeypatch.chdir(tmp_path)
    paths = ["a.html", "b.JSON", "c.md", "d.sarif", "e.xml", "f.csv", "card=g.md"]
    formats = ["html", "json", "markdown", "sarif", "junit", "csv", "card"]
    targets = parse_targets(paths)
    assert [target.format for target in targets] == formats
    assert targets[1] == Target("json", "b.JSON") and targets[6].path == "g.md"
    assert parse_file("curve.svg", ("html", "json", "svg")) == ("svg", Path("curve.svg"))
    for value in ("report", "report.pdf", "x.svg", ".html", "-"):
        with pytest.raises(AuditError, match="not FORMAT=PATH") as error:
            parse_targets([value])
        assert ", ".join(FORMATS) in error.value.hint
    with pytest.raises(AuditError, match="none of html=PATH"):
        parse_file("a.csv", ("html", "json", "svg"))
    with pytest.raises(AuditError, match="Unknown report format"):
        parse_targets(["pdf=a.html"])


def test_a_report_by_its_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real command writes the same as with the format named."""
    from auditor.report.scan import load
    from tests.support.sample_report import RISK, sample_report

    monkeypatch.chdir(tmp_path)
    Path("kept.json").write_text(load("json").render(sample_report(RISK)))
    outputs = ["--output", "a.html", "--output", "html=b.html", "--output", "c.json"]
    assert main.run(["report", "kept.json", *outputs]) == 0
    assert Path("a.html").read_text() == Path("b.html").read_text()
    assert json.loads(Path("c.json").read_text())["verdict"] == "risk"
