"""What a person may get wrong on the command line: one line that says what it is, and one with the
next step, before anything that takes time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.errors import ModelError
from auditor.model import load as models


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with a data set, a file of plain text and settings of a policy."""
    monkeypatch.chdir(tmp_path)
    row = json.dumps({"prompt": "p", "completion": "c"})
    (tmp_path / "d.jsonl").write_text(row)
    (tmp_path / "data.txt").write_text("1 2 3\n4 5 6\n")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> tuple[str, str]:
    """The two lines of an error, without what went before them."""
    assert main.run(arguments) == code
    *_, error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("Error: ") and hint.startswith("Next: ")
    return error.removeprefix("Error: "), hint.removeprefix("Next: ")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["study"], "Missing argument 'PART'. Choose from: leakage, ent", "`audit study --help`"),
        (["study", "al"], "'PART': 'al' is not one of 'leakage'", "`audit study --help`"),
        (["nope"], "No such command 'nope'", "`audit --help`"),
        (["scan", "d.jsonl", "data.txt"], "unexpected extra argument", "files are one data set"),
        (["scan", "d.jsonl", "--dtype", "fp16"], "'float32' or 'bfloat16'", "dtype is: Number"),
        (["gate", "--report", "no.json"], "no.json does not exist.", "Write one with audit scan"),
        (
            ["scan", "nope://x.y/z.jsonl"],
            "an address of a kind that is not known",
            "or download it",
        ),
        (["scan", "https://a:b@x.y/z.jsonl"], "holds a password", "or download it"),
        (["scan", "data/*.parquet"], "No such file or folder", "No file fits the pattern"),
        (["scan", "owner/name:a/b/c"], "No such file or folder", "owner/name:config/split"),
        (
            ["mitigate", "file:///d.jsonl", "--shuffle"],
            "cannot be written back",
            "Save it as a file",
        ),
        (["scan", "d.jsonl", "--device", "gpu"], "no device 'gpu'", "cpu, cuda or mps"),
        (["scan", "d.jsonl", "--exclude", "2x"], "'--exclude': '2x' is not a share", "scan --help"),
        (["mitigate", "d.jsonl", "--mix", "half"], "write 0.5 or 50%", "mitigate --help"),
        (["mitigate", "d.jsonl", "--mix", "150%"], "--mix 1.5 is not between 0 and 1", "0.25"),
        (["check-data", "data.txt"], "do not fit a known format: 1 2 3", "Of plain text, write"),
    ],
)
def test_the_lines(
    capsys: pytest.CaptureFixture[str], arguments: list[str], error: str, hint: str
) -> None:
    """No tab, line break or word of a library; the help that is named is that of the command."""
    message, step = said(capsys, *arguments)
    assert error in message and hint in step
    assert "\\n" not in message and "Value error" not in message


def test_a_folder_of_two_formats(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which file is what, and both ways out."""
    (here / "d").mkdir()
    (here / "d" / "a.jsonl").write_text((here / "d.jsonl").read_text())
    turn = {"role": "assistant", "content": "c"}
    (here / "d" / "b.jsonl").write_text(json.dumps({"messages": [turn]}))
    message, hint = said(capsys, "check-data", "d")
    assert "a.jsonl is prompt_completion" in message and "b.jsonl is messages" in message
    assert "a folder of their own" in hint and "as messages" in hint


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ("policy:\n  max_dose: 0.1\n", "policy.max_dose: should be names with numbers"),
        ("policy: 3\n", "policy: should be a group of keys"),
    ],
)
def test_settings_of_another_type(
    here: Path, capsys: pytest.CaptureFixture[str], settings: str, error: str
) -> None:
    """Not a dictionary or an instance of a class, which nobody writes into a file."""
    (here / "audit.yaml").write_text(settings)
    message, hint = said(capsys, "config", "show")
    assert error in message and "\\n" not in hint


def test_a_dose_of_a_name_that_no_panel_has(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before the scan; the group and a trait of the panel are taken."""
    (here / "audit.yaml").write_text("panels: [animals]\npolicy:\n  max_dose: {animals: 0.1}\n")
    message, hint = said(capsys, "gate", "d.jsonl", "--reference", "./nowhere")
    assert "no trait or group of the panels animals is named animals" in message
    assert hint == "Did you mean animal?"
    rule = "panels: [animals]\npolicy:\n  max_dose: {animal: 0.1, owl: 0.2}\n"
    (here / "audit.yaml").write_text(rule)
    assert "nowhere" in said(capsys, "gate", "d.jsonl", "--reference", "./nowhere")[0]


@pytest.mark.parametrize(
    "command",
    [
        ["scan", "missing.parquet"],
        ["gate", "missing.parquet"],
        ["mitigate", "missing.parquet", "--shuffle"],
        ["verify", "d.jsonl", "missing.parquet"],
        ["verify", "d.jsonl", "--control", "missing.parquet"],
        ["locate", "missing.parquet"],
        ["scan", "missing.parquet", "--device", "cuda:1"],
    ],
)
def test_a_file_that_is_not_there_costs_no_import(command: list[str]) -> None:
    """Torch takes seconds, and the answer does not need it."""
    code = "import sys; from auditor.cli.main import run; assert run(sys.argv[1:]) == 2; "
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Error: No such file or folder: missing.parquet.\n")


@pytest.mark.parametrize("more", [[], ["--fresh"]])
def test_an_interruption_of_a_fresh_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    """The same command with --fresh would begin anew."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("auditor.commands.scan.read_sample", interrupt)
    _, hint = said(capsys, "scan", "d.jsonl", *more, code=130)
    assert hint.startswith(
        "The same command without --fresh goes" if more else "The same command g"
    )


def test_an_adapter_whose_base_is_not_there(here: Path) -> None:
    """Its base is named, which is what is looked for."""
    (here / "lora").mkdir()
    (here / "lora" / "adapter_model.safetensors").write_bytes(b"")
    config = here / "lora" / "adapter_config.json"
    config.write_text('{"base_model_name_or_path": "owner/base"}')
    with pytest.raises(ModelError, match=r"lora is an adapter\. The hub model owner/base is not"):
        models.load("lora")
    for broken in ("{", "[]", '{"base_model_name_or_path": null}'):
        config.write_text(broken)
        with pytest.raises(ModelError, match="is an adapter that names no base"):
            models.load("lora")


def test_a_download_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause, and not that the cache has no such model."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("An error happened while trying to locate the files") from OSError("no route")

    monkeypatch.setattr(models, "snapshot_download", fail)
    with pytest.raises(ModelError, match=r"cannot be downloaded: no route\.") as error:
        models.load("owner/model")
    assert "HF_TOKEN" in error.value.hint
