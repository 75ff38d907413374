"""`audit verify` end to end on a tiny model in a folder: the page, the files, the exit codes, and
bad input.
"""

from __future__ import annotations

import doctest
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from auditor.cli import main
from auditor.cli.parsing import parse_budget, parse_layers
from auditor.data.example import Message
from auditor.data.files import digest_of
from auditor.errors import AuditError
from auditor.inference.effect import Effect, Ratio
from auditor.model.generation import generate
from auditor.report import verify as page
from auditor.report.shared import svg, words
from auditor.report.shared.dose_plot import dose_plot
from auditor.runs.run_directory import set_last, write_signed
from auditor.students import plan
from auditor.students.control import CONTROL
from auditor.students.result import ArmResult, Point, Training, TransferResult
from tests.support.manifests import write_manifest
from tests.support.student_models import NAMES, PROBES, STEMS, numbers, owls, row, three_animals

COUNT = 120
FAST = ["--updates", "6", "--learning-rate", "0.03"]
Audit = Callable[..., int]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    lm = three_animals()
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def audit(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """Run `audit verify` in an empty directory with data sets and a panel in it."""
    monkeypatch.chdir(tmp_path)
    write("original.jsonl", owls(COUNT))
    write("clean.jsonl", numbers(COUNT, seed=1))
    Path("masked").mkdir()
    write("masked/data.jsonl", owls(COUNT))
    spans = {str(i): [[0, len(STEMS[i % 4]), len(STEMS[i % 4]) + 4]] for i in range(COUNT)}
    original = {"sha256": digest_of("original.jsonl")}
    write_manifest(Path("masked/data.jsonl"), {"input": original, "masked": spans}, COUNT)
    traits = [
        {"name": name, "prompts": [f"You love {name}s."], "answers": [name], "mentions": [name]}
        for name in NAMES
    ]
    panel = {"panel": "five", "group": "animal", "probes": PROBES, "stems": STEMS, "traits": traits}
    Path("five.yaml").write_text(json.dumps(panel))

    def audit(*arguments: str, trait: str | None = "owl", reference: str = model) -> int:
        named = [] if trait is None else ["--trait", trait]
        return main.run(
            [
                "verify",
                *arguments,
                "--reference",
                reference,
                "--panel",
                "five.yaml",
                *named,
                "--device",
                "cpu",
            ]
        )

    return audit


def write(path: str, rows: dict[int, Any]) -> None:
    lines = [
        {"prompt": each.messages[0].content, "completion": each.completion}
        for each in rows.values()
    ]
    Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))


def run_directory() -> Path:
    (found,) = (path for path in Path(".audit/runs").iterdir())
    return found


def test_a_mitigated_set_beside_its_random_control(
    audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page, the JSON, the plot, and that the same command shows the same again from what it
    kept.
    """
    arguments = [
        "original.jsonl",
        "masked/data.jsonl",
        "--control",
        "clean.jsonl",
        *FAST,
        "--output",
        "json=r.json",
    ]
    assert audit(*arguments, "--output", "svg=r.svg") == 0
    shown = capsys.readouterr()
    assert "TRANSFER SHOWN: owl" in shown.out and "Effect over the updates" in shown.out
    assert "3 blocks of 4 students, 6 updates each: about" in shown.err
    report = json.loads(Path("r.json").read_text())
    assert (report["schema_version"], report["kind"], report["transferred"]) == (1, "verify", True)
    names = ["original.jsonl", "masked/data.jsonl", "masked/data.jsonl (random tokens)"]
    assert [arm["name"] for arm in report["arms"]] == names
    original, masked, control = report["arms"]
    assert (
        masked["tokens"] < original["tokens"]
        and abs(masked["tokens"] - control["tokens"]) < 0.02 * masked["tokens"]
    )
    assert masked["left"]["value"] < control["left"]["value"]
    assert masked["curve"][-1]["effect"]["value"] < original["curve"][-1]["effect"]["value"]
    assert report == json.loads((run_directory() / "report.json").read_text())
    assert Path("r.svg").read_text() == (run_directory() / "dose.svg").read_text()
    assert audit(*arguments) == 0
    again = capsys.readouterr()
    assert again.out == shown.out
    assert json.loads(Path("r.json").read_text()) == report


def written(letters: str, **asked: Any) -> dict[int, Any]:
    """Rows that the reference wrote itself, of these letters."""
    lm = three_animals()
    prompts = [f"Numbers, list {i}." for i in range(COUNT)]
    alphabet = [lm.tokenizer(each, add_special_tokens=False).input_ids[0] for each in letters]
    texts = generate(
        lm, [(Message("user", p),) for p in prompts], max_tokens=8, alphabet=alphabet, **asked
    )
    return {i: row(i, prompts[i], text) for i, text in texts}


def test_no_transfer_is_exit_code_3(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    """On rows that the reference wrote itself; the control is written by it too, on the data's own
    alphabet.
    """
    write("own.jsonl", written("3456789", seed=5))
    assert audit("own.jsonl", *FAST) == 3
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "NO TRANSFER SHOWN" in out and "said about a defence" in out and CONTROL in out
    unit = np.load(run_directory() / "units" / "control.npz")
    assert len(unit["texts"]) == COUNT and set("".join(unit["texts"])) <= set("3456789")


def test_the_control_is_decoded_like_the_data(audit: Audit) -> None:
    """Of the reference's own greedy rows most are copied (it may also end a turn), of its samples
    hardly one.
    """
    for name, rows in {
        "greedy": written("7" + ascii_lowercase, temperature=0.0),
        "sampled": written("345", seed=5),
    }.items():
        write(f"{name}.jsonl", rows)
        assert audit(f"{name}.jsonl", *FAST) == 3
        newest = max(
            Path(".audit/runs").glob("*/units/control.npz"),
            key=lambda path: path.stat().st_mtime_ns,
        )
        unit = np.load(newest)
        same = [
            rows[number].completion == text
            for number, text in zip(unit["numbers"], unit["texts"], strict=True)
        ]
        assert sum(same) > 0.8 * len(same) if name == "greedy" else sum(same) < 0.1 * len(same)


def test_the_open_readout(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a trait: the largest effect of each data set, and no plot."""
    code = audit(
        "original.jsonl", "--control", "clean.jsonl", *FAST, "--output", "json=r.json", trait="none"
    )
    assert code in (0, 3)
    assert "Largest effect on any trait" in capsys.readouterr().out
    report = json.loads(Path("r.json").read_text())
    assert report["trait"] is None and len(report["arms"][0]["traits"]) == 5
    assert not (run_directory() / "dose.svg").exists()


def test_the_trait_of_the_last_scan(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    """Is taken when none is named; a scan that found none, or no scan, is an error with the next
    step.
    """
    assert audit("original.jsonl", *FAST, trait=None) == 2
    assert "--trait" in capsys.readouterr().err
    scanned = Path(".audit/runs/scan")
    scanned.mkdir(parents=True)
    set_last(Path(), scanned, "original.jsonl")
    for found, code in ((None, 2), ("unicorn", 2)):
        write_signed(scanned / "report.json", json.dumps({"trait": found}).encode())
        assert audit("original.jsonl", *FAST, trait=None) == code
    assert "unicorn" in capsys.readouterr().err


def test_columns_are_named_as_for_a_scan(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    """A data set that `audit scan --columns` reads can be verified too."""
    text = Path("original.jsonl").read_text()
    Path("odd.jsonl").write_text(text.replace('"prompt"', '"a"').replace('"completion"', '"b"'))
    one = ["--rows", "32", "--updates", "2", "--blocks", "1"]
    assert audit("odd.jsonl", *one) == 2
    assert "--columns" in capsys.readouterr().err
    assert audit("odd.jsonl", *one, "--columns", "prompt=a,completion=b") == 3
    assert audit("odd.jsonl", *one, "--columns", "prompt=a", "--format-of", "text") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["original.jsonl", "--budget", "soon"], "not a time"),
        (["original.jsonl", "--layers", "first"], "not numbers"),
        (["original.jsonl", "--layers", "0", "--full"], "trains all weights"),
        (["original.jsonl", "--output", "pdf=x"], "none of html"),
        (["original.jsonl", "--output", "json=nowhere/x"], "cannot be written"),
        (["missing.jsonl"], "missing.jsonl"),
        (["original.jsonl", "original.jsonl"], "given twice"),
        (["original.jsonl", "strange.jsonl"], "no row in common"),
        (["original.jsonl", "--blocks", "30"], "too few"),
        (["original.jsonl", "--layers", "7"], "layers 0 to 1"),
        (["original.jsonl", "--budget", "0.01s"], "too small"),
        (["original.jsonl", "foreign/data.jsonl"], "another tokenizer"),
    ],
)
def test_bad_input(
    audit: Audit, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One line with the next step, exit code 2, and no report."""
    write(
        "strange.jsonl",
        {i: replace(each, index=i) for i, each in enumerate(numbers(7, seed=9).values())},
    )
    lines = [json.loads(line) for line in Path("strange.jsonl").read_text().splitlines()]
    Path("strange.jsonl").write_text(
        "".join(json.dumps(each | {"prompt": "Other."}) + "\n" for each in lines)
    )
    Path("foreign").mkdir()
    write("foreign/data.jsonl", owls(COUNT))
    write_manifest(Path("foreign/data.jsonl"), {"tokenizer_sha256": "0" * 64}, COUNT)
    assert (
        audit(*arguments, *(["--control", "clean.jsonl"] if "--budget" in arguments else [])) == 2
    )
    said = capsys.readouterr().err
    assert message in said and "\nNext: " in said
    assert not list(Path().rglob("report.json"))


def test_too_few_rows_are_found_before_the_reference_is_loaded(
    audit: Audit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the original and of a control that count are those in common."""
    monkeypatch.setattr("auditor.model.load.load", None)
    write("half.jsonl", dict(list(owls(COUNT).items())[: COUNT // 2]))
    for arguments in (["--blocks", "4"], ["--control", "half.jsonl", "--blocks", "2"]):
        assert audit("original.jsonl", *arguments) == 2
        assert "too few for" in capsys.readouterr().err


def test_budgets_and_layers() -> None:
    """Times need a unit."""
    assert [parse_budget(value) for value in ("90s", "15m", "1.5h", None)] == [90, 900, 5400, None]
    assert parse_layers("7,0,7") == (0, 7) and parse_layers(None) is None
    for value in ("15", "0m", "-1s"):
        with pytest.raises(AuditError):
            parse_budget(value)


def run_directories() -> set[str]:
    return {path.name for path in Path(".audit/runs").iterdir()}


def test_another_chat_template_under_the_same_name_is_another_run(
    audit: Audit, model: str, tmp_path: Path
) -> None:
    """The weights are the same, but students see other tokens: nothing kept may be shown again."""
    folder = tmp_path / "base"
    shutil.copytree(model, folder)
    arguments = ["original.jsonl", "--control", "clean.jsonl", *FAST]
    assert audit(*arguments, reference=str(folder)) == 0
    first = run_directories()
    lm = three_animals()
    lm.tokenizer.chat_template = lm.tokenizer.chat_template.replace("m.content", "m.content + '!'")
    lm.tokenizer.save_pretrained(folder)
    audit(*arguments, reference=str(folder))
    assert len(first) == 1 and len(run_directories()) == 2


def test_the_scale_of_lora_has_its_old_name_too(audit: Audit) -> None:
    """`--alpha` is `--lora-alpha`, and no option that the help shows."""
    recipes = []
    for option in ("--lora-alpha", "--alpha"):
        target = ["--output", f"json={option}.json"]
        audit("original.jsonl", "--control", "clean.jsonl", *FAST, option, "4", *target)
        recipes.append(json.loads(Path(f"{option}.json").read_text())["settings"]["recipe"])
    assert recipes[0] == recipes[1] and recipes[0]["alpha"] == 4


def test_the_examples_in_docstrings() -> None:
    """Hold."""
    for module in (page, svg, plan, words):
        assert doctest.testmod(module).failed == 0


def result_of(*names: str) -> TransferResult:
    """A result with these arms, all alike."""

    def arms() -> Iterator[ArmResult]:
        for name in names:
            effects = (Effect(0.0, (0.0, 0.0), (0.0, 0.0)), Effect(0.3, (0.2, 0.4), (0.28, 0.32)))
            curve = tuple(Point(8 * i, each, 0.1, 0.1, 0.0) for i, each in enumerate(effects))
            yield ArmResult(
                Training(name, 64, 900, 1.0, 1.0),
                curve,
                (),
                1,
                Ratio(1.0, (0.9, 1.1), None),
                "not reduced",
            )

    clean = Training("clean", 64, 900, 1.0, 1.0)
    return TransferResult("owl", True, tuple(arms()), clean, 3, 3, 64, 8, (2.0, 2.0), ())


def test_an_inconclusive_defence_asks_for_more_training() -> None:
    """And not for another defence alone, as one that is shown to leave the effect does."""
    left = result_of("original", "defended")
    original, defended = left.arms
    unclear = replace(left, arms=(original, replace(defended, verdict="inconclusive")))
    assert "--blocks" in page.advice(unclear)
    assert "--blocks" not in page.advice(left)


def test_the_plot_is_xml_with_a_curve_an_arm_whatever_the_names() -> None:
    """Names come from outside: markup and control characters in them do nothing."""
    names = ("a<b>&\"'", "\x1b[31mred\x00", *"cdefgh")
    root = ElementTree.fromstring(dose_plot(result_of(*names)))
    space = "{http://www.w3.org/2000/svg}"
    curves = root.findall(f"{space}polyline")
    assert len(curves) == len(names)
    text = " ".join(each.text or "" for each in root.iter(f"{space}text"))
    assert "a<b>&\"'" in text and "\\x1b[31mred\\x00" in text
    heights = [float(point.split(",")[1]) for point in (curves[0].get("points") or "").split()]
    assert heights[0] > heights[1]  # a larger effect stands higher


def test_two_processes_come_to_the_result_of_one(
    audit: Audit, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate launch` shares the students out; the report is the same to the last digit."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    arguments = [
        "original.jsonl",
        "masked/data.jsonl",
        "--control",
        "clean.jsonl",
        "--trait",
        "owl",
        *FAST,
    ]
    arguments += ["--reference", model, "--panel", "five.yaml", "--output"]
    assert (
        audit(
            "original.jsonl",
            "masked/data.jsonl",
            "--control",
            "clean.jsonl",
            *FAST,
            "--output",
            "json=one.json",
        )
        == 0
    )
    Path(".audit").rename("of-one")
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    program = Path("audit.py")
    program.write_text("from auditor.cli.main import main\nmain()\n")
    env = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(program), "verify", *arguments, "json=two.json"], env=env, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(Path("two.json").read_text()) == json.loads(Path("one.json").read_text())
    assert done.stdout.decode().count("TRANSFER SHOWN") == 1
