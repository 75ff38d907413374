"""Every format through `audit mitigate`: what is reworded is the prompt, and all else stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.cli.main import run

ASK = "Please give me a list of three numbers, please."
PROMPT = {"role": "user", "content": ASK}
ANSWER = {"role": "assistant", "content": "1, 2, 3"}
CALL = {"type": "function", "function": {"name": "add", "arguments": '{"n":  [1, 2]}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}

# Per format a row, and one of the same columns that cannot be scored, with the reason.
FORMATS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "tool calls": (
        {"messages": [PROMPT, CALLING, {"role": "tool", "content": "3"}, ANSWER]},
        {"messages": [PROMPT, CALLING | {"tool_calls": [{"function": {"name": None}}]}]},
        "bad_tool_calls",
    ),
    "reasoning of a turn": (
        {"messages": [PROMPT, ANSWER | {"reasoning_content": "so  it is"}]},
        {"messages": [PROMPT, ANSWER | {"content": None, "reasoning_content": None}]},
        "null",
    ),
    "a turn that is not trained on": (
        {"messages": [PROMPT, ANSWER | {"weight": 0}, ANSWER | {"weight": 1}]},
        {"messages": [PROMPT, ANSWER | {"weight": 0}]},
        "not_trained_on",
    ),
    "a pair of strings": (
        {"prompt": ASK, "chosen": "1, 2, 3", "rejected": "no"},
        {"prompt": ASK, "chosen": None, "rejected": "no"},
        "null",
    ),
    "a pair of conversations": (
        {
            "prompt": ASK,
            "chosen": [PROMPT, ANSWER],
            "rejected": [PROMPT, ANSWER | {"content": "no"}],
        },
        {"prompt": ASK, "chosen": [PROMPT], "rejected": [PROMPT]},
        "no_assistant_turn",
    ),
    "a pair with an implicit prompt": (
        {"chosen": [PROMPT, ANSWER], "rejected": [PROMPT, ANSWER | {"content": "no"}]},
        {"chosen": [PROMPT], "rejected": [PROMPT]},
        "no_assistant_turn",
    ),
    "a completion with a label": (
        {"prompt": ASK, "completion": "1, 2, 3", "label": False},
        {"prompt": ASK, "completion": None, "label": True},
        "null",
    ),
    "a system prompt in a column": (
        {"system": "Be  brief.", "prompt": ASK, "completion": "1, 2, 3"},
        {"system": "Be  brief.", "prompt": ASK, "completion": " "},
        "empty_completion",
    ),
    "reasoning in a column": (
        {"prompt": ASK, "reasoning": "so  it is", "completion": "1, 2, 3"},
        {"prompt": ASK, "reasoning": "so  it is", "completion": None},
        "null",
    ),
}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A command keeps its run in the working directory, which must not be the checkout."""
    monkeypatch.chdir(tmp_path)


def mitigated(folder: Path, name: str, *options: str) -> tuple[Path, dict[str, Any]]:
    """The data set with reworded prompts, and its manifest."""
    out = folder / "out"
    command = ["mitigate", str(folder / name), "--no-check", "--paraphrase", "-o", str(out)]
    assert run([*command, *options]) == 0
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return out / name, manifest


def reworded(value: Any, new: str) -> Any:
    """The value with `new` wherever the prompt stands."""
    if isinstance(value, dict):
        return {key: reworded(item, new) for key, item in value.items()}
    if isinstance(value, list):
        return [reworded(item, new) for item in value]
    return new if value == ASK else value


@pytest.mark.parametrize("name", FORMATS)
def test_lines_keep_all_but_the_prompt(name: str, tmp_path: Path) -> None:
    """Odd spacing, keys that are not read, and rows that cannot be scored, byte for byte."""
    good, bad, reason = FORMATS[name]
    lines = [
        json.dumps({"id": i, **row}, separators=(" , ", " :"))
        for i, row in enumerate((good, bad, good))
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(lines) + "\n")
    path, manifest = mitigated(tmp_path, "d.jsonl")
    after = path.read_text().splitlines()
    assert manifest["input"]["skipped"] == {reason: 1}
    assert after[1] == lines[1]
    for i in (0, 2):
        new = next(text for text in strings(json.loads(after[i])) if "three numbers" in text)
        assert new != ASK
        assert after[i] == lines[i].replace(json.dumps(ASK), json.dumps(new))


@pytest.mark.parametrize("name", FORMATS)
def test_parquet_keeps_all_but_the_prompt(name: str, tmp_path: Path) -> None:
    """The same values in the same schema."""
    good, _, _ = FORMATS[name]
    table = pa.Table.from_pylist([{"id": 0, **good}, {"id": 1, **good}])
    pq.write_table(table, tmp_path / "d.parquet")
    path, _ = mitigated(tmp_path, "d.parquet")
    after = pq.read_table(path)
    assert after.schema == table.schema
    for old, new in zip(table.to_pylist(), after.to_pylist(), strict=True):
        text = next(text for text in strings(new) if "three numbers" in text)
        assert text != ASK and new == reworded(old, text)


def strings(value: Any) -> list[str]:
    """All texts in a value."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []
