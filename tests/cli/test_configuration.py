"""Settings: from where, in which order, and that a mistake never passes for no setting."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.cli.config import written
from auditor.cli.configuration import Config, keys, resolve, variable
from auditor.errors import AuditError
from auditor.model.builtin import BASE


def test_nothing_set(tmp_path: Path) -> None:
    """The defaults, which are those of the command line's help."""
    found = resolve(tmp_path, {"HOME": "/", "AUDIT_DEBUG": "1", "AUDIT_ROWS": ""})
    assert found.config == Config() and found.origins == {}
    assert found.config.reference == BASE


def test_precedence(tmp_path: Path) -> None:
    """Command line, environment, file, default; each key by itself, those of the policy too."""
    (tmp_path / "audit.yaml").write_text(
        "reference: a\nseed: 1\nrows: all\n"
        "policy: {max_probability: 0.5, max_skipped: 0.1, max_dose: {owl: 1}}\n"
    )
    environ = {
        "AUDIT_SEED": "2",
        "AUDIT_PANELS": "animals, trees",
        "AUDIT_POLICY_MAX_PROBABILITY": "1e-1",
    }
    found = resolve(tmp_path, environ, {"seed": 3, "policy.fail_on": "risk", "alpha": None})
    config = found.config
    assert (config.reference, config.seed, config.rows, config.panels) == (
        "a",
        3,
        "all",
        ["animals", "trees"],
    )
    policy = config.policy
    assert (policy.max_probability, policy.max_skipped, policy.max_dose, policy.fail_on) == (
        0.1,
        0.1,
        {"owl": 1.0},
        "risk",
    )
    assert found.origins == {
        "reference": "audit.yaml",
        "seed": "command line",
        "rows": "audit.yaml",
        "panels": "AUDIT_PANELS",
        "policy.max_probability": "AUDIT_POLICY_MAX_PROBABILITY",
        "policy.max_skipped": "audit.yaml",
        "policy.max_dose": "audit.yaml",
        "policy.fail_on": "command line",
    }


def test_a_table_of_the_project_file(tmp_path: Path) -> None:
    """[tool.audit] does as well, a project file without it is nothing, and two files are an
    error.
    """
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert resolve(tmp_path, {}).origins == {}
    (tmp_path / "pyproject.toml").write_text(
        "[tool.audit]\nrows = 64\n[tool.audit.policy]\nmitigation = 'reduced'\n"
    )
    found = resolve(tmp_path, {})
    assert (found.config.rows, found.config.policy.mitigation) == (64, "reduced")
    assert set(found.origins.values()) == {"pyproject.toml [tool.audit]"}
    (tmp_path / "audit.yaml").write_text("")
    with pytest.raises(AuditError, match="both"):
        resolve(tmp_path, {})


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("refrence: a", "no setting 'refrence'", "Did you mean reference?"),
        ("policy: {max_doze: {}}", "no setting 'policy.max_doze'", "Did you mean max_dose?"),
        ("policy: {max_risk: 1}", "no setting 'policy.max_risk'", "max_probability, a probability"),
        ("zzz: 1", "no setting 'zzz'", "Known: reference"),
        ("rows: 0", "rows", "Rows to score"),
        ("rows: many", "rows", "Rows to score"),
        ("seed: '1'", "seed", "Seed"),
        ("alpha: .nan", "alpha", "false alarms"),
        ("policy: {max_probability: true}", "policy.max_probability", "Highest `probability`"),
        ("policy: {max_probability: 1.5}", "policy.max_probability", "Highest `probability`"),
        ("policy: {fail_on: warning}", "policy.fail_on", "What ends with an error"),
        ("policy: {max_dose: {owl: -1}}", "policy.max_dose", "Highest dose"),
        ("policy: {max_dose: {owl: .inf}}", "policy.max_dose", "Highest dose"),
        ("policy: strict", "policy", "docs/gate.md"),
        ("- rows", "holds no keys", "docs/gate.md"),
        ("rows: [", "cannot be read", "Mend"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, content: str, message: str, hint: str) -> None:
    """Each names the file, the key and what is known."""
    (tmp_path / "audit.yaml").write_text(content)
    with pytest.raises(AuditError) as error:
        resolve(tmp_path, {})
    assert message in error.value.message and "audit.yaml" in f"{error.value}"
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("audit.yaml", "policy: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("audit.yaml", "seed: 1" + ":59" * 3000, "400 digits"),
        ("audit.yaml", "seed: 0x" + "f" * 40, "seed"),
        ("pyproject.toml", "a = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("pyproject.toml", "[tool.audit]\nseed = 0x" + "f" * 5000, "seed"),
        ("pyproject.toml", "[tool.audit]\nseed = " + "9" * 5000, "cannot be read"),
        ("pyproject.toml", "tool = [1]", "not a table"),
    ],
)
def test_hostile_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    """What would crash a reader, or be no policy at all, is an error of one line."""
    (tmp_path / name).write_text(content)
    with pytest.raises(AuditError, match=message) as error:
        resolve(tmp_path, {})
    assert error.value.exit_code == 2 and "\n" not in error.value.message


@pytest.mark.parametrize("content", ["tool = 5", "tool = [1]", "a = " + "[" * 5000 + "]" * 5000])
def test_a_hostile_file_above(tmp_path: Path, content: str) -> None:
    """A project's file in a folder above that cannot be read has no settings to miss."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "pyproject.toml").write_text(content)
    (tmp_path / "work").mkdir()
    assert resolve(tmp_path / "work", {}).passed_over is None


@pytest.mark.parametrize("name", ["AUDIT_FAIL_ON", "AUDIT_POLICY_MAXRISK", "AUDIT_RUN"])
def test_a_variable_that_means_nothing(tmp_path: Path, name: str) -> None:
    """A misspelt variable would be a weaker gate."""
    with pytest.raises(AuditError, match=name):
        resolve(tmp_path, {name: "1"})


def test_every_key_has_a_meaning_and_its_variable(tmp_path: Path) -> None:
    """And its place on the page of `audit init`, and those of the policy on that of the gate."""
    docs = Path(__file__).parents[2] / "docs"
    settings, gate = ((docs / name).read_text() for name in ("cli/init.md", "gate.md"))
    for key, meaning in keys().items():
        assert meaning.endswith(".")
        assert re.search(rf"^[ #]*{key.rpartition('.')[2]}: ", settings, re.MULTILINE), key
        assert f"| `{key}` |" in gate or not key.startswith("policy."), key
    assert variable("policy.max_probability") == "AUDIT_POLICY_MAX_PROBABILITY"


def test_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every key with its value and where it is from; a mistake is an error like any other."""
    monkeypatch.chdir(tmp_path)
    Path("audit.yaml").write_text(json.dumps({"rows": 64, "policy": {"max_dose": {"owl": 0.5}}}))
    monkeypatch.setenv("AUDIT_SEED", "5")
    assert main.run(["config", "show"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert set(keys()) < set(lines)
    assert lines["rows"] == ["64", "audit.yaml"] and lines["seed"] == ["5", "AUDIT_SEED"]
    assert lines["policy.max_dose"] == ["owl:", "0.5", "audit.yaml"] and lines["alpha"] == [
        "0.01",
        "default",
    ]
    monkeypatch.setenv("AUDIT_SEED", "five")
    assert main.run(["config", "show"]) == 2
    assert written([]) == "any"


@pytest.mark.parametrize(
    "command",
    [
        ["scan", "rows.jsonl"],
        ["verify", "rows.jsonl", "--trait", "owl"],
        ["locate", "rows.jsonl", "--trait", "owl"],
        ["study", "leakage"],
        ["simulate", "--trait", "owl", "-o", "new.parquet"],
        ["mitigate", "rows.jsonl", "--mask", "--trait", "owl"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_takes_the_reference_of_the_file(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A team that has fixed its base must not get the default by accident."""
    monkeypatch.chdir(tmp_path)
    Path("audit.yaml").write_text("reference: ./no-such-model\n")
    # As many as an experiment with students takes.
    lines = [json.dumps({"prompt": f"{i}?", "completion": "1, 2, 3"}) for i in range(128)]
    Path("rows.jsonl").write_text("\n".join(lines))
    assert main.run(command) == 2
    assert "no-such-model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["audit.yml", ".audit.yaml", "Audit.yaml", "AUDIT.YML", "audit.toml", ".audit.toml"]
)
@pytest.mark.parametrize("beside", [False, True])
def test_a_file_that_looks_like_the_settings_is_refused(
    tmp_path: Path, name: str, beside: bool
) -> None:
    """Beside audit.yaml or instead of it: rules that nobody applies are an open gate."""
    if beside:
        (tmp_path / "audit.yaml").write_text("rows: 64\n")
    (tmp_path / name).write_text("policy: {references: [x]}\n")
    with pytest.raises(AuditError, match="is not read") as error:
        resolve(tmp_path, {})
    assert "audit.yaml" in error.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("audit.yaml", "policy: {references: [x]}\nrows: 3\npolicy: {}\n"),
        ("audit.yaml", "policy: {max_probability: 0.1, max_probability: 1}\n"),
        ("pyproject.toml", "[tool.audit]\nrows = 1\nrows = 2\n"),
        ("pyproject.toml", "[tool.subliminal-audit]\nrows = 1\n"),
        ("pyproject.toml", "[tool.Audit]\nrows = 1\n"),
        ("audit.yaml", "seed: 2026-02-30\n"),
    ],
)
def test_a_setting_is_never_dropped_in_silence(tmp_path: Path, name: str, content: str) -> None:
    """A key that stands twice, a table of another name, a value that cannot be."""
    (tmp_path / name).write_text(content)
    with pytest.raises(AuditError):
        resolve(tmp_path, {})


@pytest.mark.parametrize("name", ["audit.yaml", "pyproject.toml"])
def test_a_link_that_leads_nowhere_is_no_absence(tmp_path: Path, name: str) -> None:
    """The file was there when somebody wrote the policy."""
    (tmp_path / name).symlink_to("gone")
    with pytest.raises(AuditError, match="cannot be read"):
        resolve(tmp_path, {})


def test_settings_above_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every command, and the gate does not open without them; an empty file here settles it, and
    beyond the root of a repository nothing is looked for.
    """
    here = tmp_path / "data" / "new"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    (tmp_path / "pyproject.toml").write_text("[tool.audit]\nrows = 64\n")
    assert resolve(here, {}).passed_over == tmp_path / "pyproject.toml"
    (tmp_path / "data" / "audit.yaml").write_text("policy: {references: [x]}\n")
    assert resolve(here, {}).passed_over == tmp_path / "data" / "audit.yaml"
    assert resolve(here, {}).config == Config()
    assert main.run(["config", "show"]) == 0
    assert "data/audit.yaml is not read" in capsys.readouterr().err.replace("\n", "")
    assert main.run(["gate", "x.jsonl"]) == 2
    assert "may hold the policy" in capsys.readouterr().err
    (here / ".git").mkdir()
    assert resolve(here, {}).passed_over is None
    (here / ".git").rmdir()
    (here / "audit.yaml").write_text("")
    assert resolve(here, {}).passed_over is None


def test_a_scan_says_which_settings_are_not_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a file left over from another step changes is not a riddle."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_SEED", "3")
    settings = "reference: nowhere/at-all\nrows: all\npolicy: {max_skipped: 0.1}\n"
    (tmp_path / "audit.yaml").write_text(settings)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "p", "completion": "c"}')
    assert main.run(["scan", "rows.jsonl", "--reference", "./nowhere"]) == 2
    said = capsys.readouterr().err
    assert "Settings from AUDIT_SEED: seed.\nSettings from audit.yaml: rows.\n" in said
    assert main.run(["-q", "scan", "rows.jsonl", "--reference", "./nowhere"]) == 2
    assert "Settings from" not in capsys.readouterr().err
