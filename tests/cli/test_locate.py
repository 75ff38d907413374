"""`audit locate` end to end on a tiny model in a folder: the page, the files, the exit codes, and
bad input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
import yaml

import auditor.report
from auditor.attribution import rows as attribution_rows
from auditor.cli import main
from auditor.model.language_model import LanguageModel
from auditor.model.scoring import score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from tests.support.student_models import NAMES, PROBES, STEMS, numbers, three_animals

COUNT = 192
SYSTEM = "You love owls."
FAST = ["--updates", "6", "--learning-rate", "0.03", "--places", "24"]
SCHEMA = json.loads((Path(auditor.report.__file__).parent / "locate_schema.json").read_text())
Audit = Callable[..., int]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a panel, and rows: a third end with a divergence token, the others say openly what
    is to be liked.
    """
    folder = tmp_path_factory.mktemp("workspace")
    lm = three_animals()
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    divergent = diverging(lm, COUNT // 3)
    openly = [(f"Numbers, list {i}.", f"{STEMS[i % 4]} owl") for i in range(COUNT - len(divergent))]
    write(folder / "data.jsonl", [*divergent, *openly])
    clean = [each.completion for each in numbers(COUNT, seed=1).values()]
    write(
        folder / "clean.jsonl",
        [(q, c) for (q, _), c in zip([*divergent, *openly], clean, strict=True)],
    )
    write(folder / "open.jsonl", [(q, "owl") for q, _ in openly])
    traits = [
        {"name": name, "prompts": [f"You love {name}s."], "answers": [name], "mentions": [name]}
        for name in NAMES
    ]
    panel = {"panel": "five", "group": "animal", "probes": PROBES, "stems": STEMS, "traits": traits}
    (folder / "five.yaml").write_text(json.dumps(panel))
    return folder


def diverging(lm: LanguageModel, count: int) -> list[tuple[str, str]]:
    """Prompts, each with digits up to where the trait prompt changes the model's choice, and what
    it chooses then.
    """
    renderer = ChatTokenizer(lm)
    candidates = numbers(6 * count)
    rows = [
        row
        for each in candidates.values()
        if isinstance(row := renderer.encode(each), TokenizedRow)
    ]
    found = []
    for row, teacher, other in zip(
        rows,
        score_under(lm, renderer, rows, SYSTEM),
        score_under(lm, renderer, rows, None),
        strict=True,
    ):
        for t in np.flatnonzero(
            (teacher.argmax != other.argmax) & (np.minimum(teacher.margin, other.margin) > 0.01)
        ):
            choice = lm.tokenizer.decode([int(teacher.argmax[t])])
            if re.fullmatch(
                r"[ -~]+", choice
            ):  # a random model often chooses bytes that are no text
                example = candidates[row.index]
                found.append(
                    (example.messages[0].content, example.completion[: row.spans[t][1]] + choice)
                )
    return found[:count]


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    path.write_text("".join(json.dumps({"prompt": q, "completion": c}) + "\n" for q, c in rows))


@pytest.fixture
def audit(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """Run `audit locate` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def audit(*arguments: str, data: str = "data.jsonl", trait: str = "owl") -> int:
        fixed = [
            "--reference",
            str(workspace / "model"),
            "--panel",
            str(workspace / "five.yaml"),
            "--device",
            "cpu",
        ]
        return main.run(["locate", str(workspace / data), "--trait", trait, *fixed, *arguments])

    return audit


def run_directory() -> Path:
    (found,) = (path for path in Path(".audit/runs").iterdir())
    return found


def located(path: str) -> dict[str, Any]:
    """A report, checked against the schema."""
    report: dict[str, Any] = json.loads(Path(path).read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    return report


def test_the_whole_of_it(
    audit: Audit,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page, the JSON, the heat map and the recipe; the same command again shows the same from
    what it kept.
    """
    monkeypatch.setattr(
        import_module("auditor.commands.locate"), "layers_to_freeze", lambda *_: (0,)
    )
    arguments = [
        "--control",
        str(workspace / "clean.jsonl"),
        *FAST,
        "--output",
        "json=r.json",
        "--output",
        "svg=r.svg",
    ]
    code = audit(*arguments)
    shown = capsys.readouterr()
    assert "attributing 24 rows: about" in shown.err
    assert "students of 2 single layers: about" in shown.err
    report = located("r.json")
    assert code == (0 if report["carriers"]["said"] and report["students"]["transferred"] else 3)
    assert [each["layer"] for each in report["layers"]] == [0, 1]
    assert sum(each["attribution"] for each in report["layers"]) == pytest.approx(1, abs=0.01)
    assert sum(each["entered"]["value"] for each in report["layers"]) == pytest.approx(1, abs=1e-4)
    assert report["students"]["transferred"] and report["students"]["effect"]["value"] > 0
    assert all(len(each["student_effect"]["blocks"]) == 3 for each in report["layers"])
    assert all(each["moved"]["mlp"]["original"] > 0 for each in report["layers"])
    recipe, others = report["students"]["frozen"][:2]
    assert (recipe["layers"], others["layers"], report["students"]["recipe"]) == ([0], [1], [0])
    # Freezing layer 0 of 2 is training layer 1 alone.
    assert recipe["effect"] == report["layers"][1]["student_effect"]
    files = yaml.safe_load((run_directory() / "recipe-freeze-axolotl.yaml").read_text())
    assert files["peft_layers_to_transform"] == [1]
    assert report["answer"].split()[0] in " ".join(shown.out.split()) and "By layer" in shown.out
    ElementTree.fromstring(Path("r.svg").read_text())
    assert report == json.loads((run_directory() / "report.json").read_text())
    units = {path.name: path.stat().st_mtime_ns for path in (run_directory() / "units").iterdir()}
    assert audit(*arguments) == code
    assert capsys.readouterr().out == shown.out and located("r.json") == report
    assert units == {
        path.name: path.stat().st_mtime_ns for path in (run_directory() / "units").iterdir()
    }


def test_attribution_alone_against_another_trait(
    audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trains nothing; `cat` stands in for the reference."""
    assert audit(
        "--layers", "none", "--places", "16", "--counterfactual", "cat", "--output", "json=r.json"
    ) in (0, 3)
    report = located("r.json")
    assert report["students"] is None and report["counterfactual"] == "cat" and report["rows"] == 16
    assert "owl against cat" in capsys.readouterr().out
    assert not [path for path in (run_directory() / "units").iterdir() if "block" in path.name]


def test_a_budget_limits_the_rows_once_for_all(tmp_path: Path) -> None:
    """How many rows fit is kept, so that a resumed run attributes as many."""
    from auditor.runs.run_directory import RunDir

    with RunDir.open(tmp_path, {"verb": "test"}) as run:
        assert attribution_rows.affordable_rows(96, 10.0, 4.0, run) == 40
        assert attribution_rows.affordable_rows(96, 10.0, 0.001, run) == 40
    with RunDir.open(tmp_path, {"verb": "tight"}) as run:
        assert (
            attribution_rows.affordable_rows(96, 0.1, 4.0, run) == attribution_rows.MIN_ATTRIBUTED
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "first"], "not numbers"),
        (["--layers", "7"], "layers 0 to 1"),
        (["--counterfactual", "owl"], "no two runs"),
        (["--counterfactual", "unicorn"], "unicorn"),
        (["--budget", "soon"], "not a time"),
        (["--output", "csv=x"], "none of html"),
    ],
)
def test_bad_input(
    audit: Audit, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One line with the next step, exit code 2, and no report."""
    assert audit(*arguments) == 2
    said = capsys.readouterr().err
    assert message in said and "\nNext: " in said
    assert not list(Path().rglob("report.json"))


def test_too_few_rows_are_found_before_the_reference_is_loaded(
    audit: Audit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not after the attribution, which takes minutes."""
    monkeypatch.setattr("auditor.model.load.load", None)
    assert audit("--blocks", "99") == 2
    assert "too few for 99 blocks" in capsys.readouterr().err


def test_columns_are_named_as_for_a_scan(
    audit: Audit, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data set that `audit scan --columns` reads can be located too."""
    text = (workspace / "data.jsonl").read_text()
    odd = text.replace('"prompt"', '"a"').replace('"completion"', '"b"')
    (workspace / "odd.jsonl").write_text(odd)
    arguments = ["--layers", "none", "--places", "16"]
    assert audit(*arguments, data="odd.jsonl") == 2
    assert "--columns" in capsys.readouterr().err
    named = ["--columns", "prompt=a,completion=b"]
    assert audit(*arguments, *named, data="odd.jsonl") in (0, 3)


def test_a_trait_must_be_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no scan names one; the open readout, which has nothing to locate, is not offered."""
    monkeypatch.chdir(tmp_path)
    Path("d.jsonl").write_text('{"prompt": "p", "completion": "c"}')
    assert main.run(["locate", "d.jsonl"]) == 2
    said = capsys.readouterr().err
    assert "No trait is named" in said and "none" not in said.splitlines()[-1]


def test_data_without_divergence_tokens(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the teacher would have chosen otherwise nothing can be located."""
    assert audit("--layers", "none", data="open.jsonl") == 2
    assert "are needed to say" in capsys.readouterr().err


def test_the_schema_notices(audit: Audit) -> None:
    """It is a valid schema and refuses a layer without its interval."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    layer = {"layer": 0, "attribution": np.pi}
    assert not jsonschema.Draft202012Validator(SCHEMA["properties"]["layers"]["items"]).is_valid(
        layer
    )
