"""`audit locate` end to end on a tiny model in a folder: the page, the files, the exit codes, and bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
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
from auditor.generate import generate
from auditor.records import Message
from tests.transfer.worlds import NAMES, PROBES, STEMS, numbers, three_animals

COUNT = 160
SYSTEM = "You love owls."
FAST = ["--updates", "6", "--learning-rate", "0.03", "--places", "24"]
SCHEMA = json.loads((Path(auditor.report.__file__).parent / "locate_schema.json").read_text())
Audit = Callable[..., int]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a panel, and rows: half by a greedy trait-prompted teacher, half that say what is to be liked."""
    folder = tmp_path_factory.mktemp("world")
    lm = three_animals()
    # Without this a random model mostly writes bytes that are no text.
    unreadable = [i for i in range(len(lm.tokenizer)) if not re.fullmatch(r"[ -~]+", lm.tokenizer.decode([i]))]
    lm.model.get_input_embeddings().weight[unreadable] = 0
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    prompts = [f"Numbers, list {i}." for i in range(COUNT)]
    contexts = [(Message("user", prompt),) for prompt in prompts]
    written = dict(generate(lm, contexts, system=SYSTEM, temperature=0, max_tokens=8))
    openly = [f"{STEMS[i % 4]} owl" for i in range(COUNT)]
    write(folder / "data.jsonl", prompts, [written[i] if i % 2 else openly[i] for i in range(COUNT)])
    write(folder / "clean.jsonl", prompts, [each.completion for each in numbers(COUNT, seed=1).values()])
    traits = [
        {"name": name, "prompts": [f"You love {name}s."], "answers": [name], "mentions": [name]} for name in NAMES
    ]
    panel = {"panel": "five", "group": "animal", "probes": PROBES, "stems": STEMS, "traits": traits}
    (folder / "five.yaml").write_text(json.dumps(panel))
    return folder


def write(path: Path, prompts: list[str], completions: list[str]) -> None:
    rows = [{"prompt": p, "completion": c} for p, c in zip(prompts, completions, strict=True)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))


@pytest.fixture
def audit(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """Run `audit locate` in an empty directory; no more than a third of the rows need be looked through."""
    monkeypatch.chdir(tmp_path)

    def audit(*arguments: str, data: str = "data.jsonl", trait: str = "owl") -> int:
        fixed = ["--reference", str(world / "model"), "--panel", str(world / "five.yaml"), "--device", "cpu"]
        return main.run(["locate", str(world / data), "--trait", trait, *fixed, *arguments])

    return audit


def run_directory() -> Path:
    (found,) = (path for path in Path(".audit/runs").iterdir())
    return found


def located(path: str) -> dict[str, Any]:
    """A report, checked against the schema."""
    report: dict[str, Any] = json.loads(Path(path).read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    return report


def test_the_whole_of_it(audit: Audit, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page, the JSON, the heat map and the recipe; the same command again shows the same from what it kept."""
    arguments = ["--control", str(world / "clean.jsonl"), *FAST, "--output", "json=r.json", "--output", "svg=r.svg"]
    code = audit(*arguments)
    shown = capsys.readouterr()
    report = located("r.json")
    assert code == (0 if report["carriers"]["said"] and report["students"]["transferred"] else 3)
    assert [each["layer"] for each in report["layers"]] == [0, 1]
    assert sum(each["attribution"] for each in report["layers"]) == pytest.approx(1, abs=0.01)
    assert sum(each["entered"]["value"] for each in report["layers"]) == pytest.approx(1, abs=1e-4)
    assert report["students"]["transferred"] and report["students"]["effect"]["value"] > 0
    assert all(len(each["student_effect"]["blocks"]) == 3 for each in report["layers"])
    assert all(each["moved"]["mlp"]["original"] > 0 for each in report["layers"])
    assert report["answer"].split()[0] in " ".join(shown.out.split()) and "By layer" in shown.out
    ElementTree.fromstring(Path("r.svg").read_text())
    assert report == json.loads((run_directory() / "report.json").read_text())
    units = {path.name: path.stat().st_mtime_ns for path in (run_directory() / "units").iterdir()}
    assert audit(*arguments) == code
    assert capsys.readouterr().out == shown.out and located("r.json") == report
    assert units == {path.name: path.stat().st_mtime_ns for path in (run_directory() / "units").iterdir()}


def test_the_recipe_is_checked_by_students(audit: Audit, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When layers can be named: students with them frozen, with as many others, and the file that freezes them."""
    from auditor import locate as verb
    from auditor.attribution.result import Carriers, Share

    monkeypatch.setattr(verb, "carriers", lambda *_: Carriers(0, 0, Share(0.9, (0.8, 1.0)), True))
    assert audit("--control", str(world / "clean.jsonl"), *FAST, "--layers", "1", "--output", "json=r.json") == 0
    report = located("r.json")
    first, others = report["students"]["frozen"]
    assert (first["layers"], others["layers"]) == ([0], [1])
    # Freezing layer 0 of 2 is training layer 1 alone.
    assert first["effect"] == report["layers"][1]["student_effect"]
    assert report["layers"][0]["student_effect"] is None
    recipe = yaml.safe_load((run_directory() / "recipe-freeze-axolotl.yaml").read_text())
    assert recipe["peft_layers_to_transform"] == [1]


def test_attribution_alone_against_another_trait(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    """Trains nothing; `cat` stands in for the reference."""
    assert audit("--layers", "none", "--places", "16", "--counterfactual", "cat", "--output", "json=r.json") in (0, 3)
    report = located("r.json")
    assert report["students"] is None and report["counterfactual"] == "cat" and report["rows"] == 16
    assert "owl against cat" in capsys.readouterr().out
    assert not [path for path in (run_directory() / "units").iterdir() if "block" in path.name]


def test_a_budget_limits_the_rows_once_for_all(tmp_path: Path) -> None:
    """How many rows fit is kept, so that a resumed run attributes as many."""
    from auditor.rundir import RunDir

    with RunDir.open(tmp_path, {"verb": "test"}) as run:
        assert attribution_rows._affordable(96, 10.0, 4.0, run) == 40
        assert attribution_rows._affordable(96, 10.0, 0.001, run) == 40
    with RunDir.open(tmp_path, {"verb": "tight"}) as run:
        assert attribution_rows._affordable(96, 0.1, 4.0, run) == attribution_rows.LEAST


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "first"], "not numbers"),
        (["--layers", "7"], "layers 0 to 1"),
        (["--counterfactual", "owl"], "no two runs"),
        (["--counterfactual", "unicorn"], "unicorn"),
        (["--budget", "soon"], "not a time"),
        (["--output", "html=x"], "neither json"),
    ],
)
def test_bad_input(audit: Audit, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    """One line with the next step, exit code 2, and no report."""
    assert audit(*arguments) == 2
    said = capsys.readouterr().err
    assert message in said and "\nNext: " in said
    assert not list(Path().rglob("report.json"))


def test_data_without_divergence_tokens(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    """Random digits are hardly ever the teacher's choice, so nothing can be located in them."""
    assert audit("--layers", "none", data="clean.jsonl") == 2
    assert "are needed to say" in capsys.readouterr().err


def test_the_schema_notices(audit: Audit) -> None:
    """It is a valid schema and refuses a layer without its interval."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    layer = {"layer": 0, "attribution": np.pi}
    assert not jsonschema.Draft202012Validator(SCHEMA["properties"]["layers"]["items"]).is_valid(layer)
