"""What stands beside the texts that are read is named; a second layout is told from a column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.data.sample import read_sample

TURNS = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]
SHAREGPT = [{"from": "human", "value": "p"}, {"from": "gpt", "value": "bad"}]
PAIR = {"prompt": "p", "completion": "c"}
CALL = {"tool_calls": [{"function": {"name": "f"}}]}
TOOL = {"role": "tool", "content": "1", "name": "f", "tool_call_id": "call_1"}


def named(folder: Path, rows: list[dict[str, Any]], **options: Any) -> dict[tuple[str, str], float]:
    path = folder / "d.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    info = read_sample(str(path), rows=None, seed=0, **options).info
    return {(item.kind, item.name): round(item.share or 0, 3) for item in info.unread}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (PAIR, set()),
        (PAIR | {"n": 3, "empty": " ", "none": None, "numbers": [1, 2]}, set()),
        (PAIR | {"rationale": "bad"}, {("column", "rationale")}),
        (PAIR | {"nested": {"a": ["bad"]}}, {("column", "nested")}),
        (PAIR | {"text": "bad"}, {("layout", "text")}),
        ({"messages": TURNS, **PAIR}, {("layout", "completion"), ("column", "prompt")}),
        ({"messages": TURNS, "prompt": "p"}, {("column", "prompt")}),
        ({"messages": TURNS, "conversations": SHAREGPT}, {("layout", "conversations")}),
        ({"messages": TURNS, "other": json.dumps(TURNS)}, {("layout", "other")}),
        (
            {"instruction": "p", "input": "", "output": "c", "response": "bad"},
            {("layout", "response")},
        ),
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, {("column", "rejected")}),
        # These are read, and scored where the chat template writes them.
        ({"messages": [TURNS[0], TURNS[1] | {"reasoning_content": "r", "weight": 1}]}, set()),
        ({"messages": [TURNS[1] | {"tool_calls": [{"function": {"name": "bad"}}]}]}, set()),
        (PAIR | {"reasoning": "r"}, set()),
        ({"messages": [TURNS[1] | {"reasoning": "r", "thinking": "r"}]}, set()),
        (
            {"messages": [TURNS[1] | {"reasoning": "r", "thinking": "bad"}]},
            {("turn key", "thinking")},
        ),
        (
            {"messages": [TURNS[0] | {"reasoning_content": "bad"}, TURNS[1]]},
            {("turn key", "reasoning_content")},
        ),
        ({"messages": [TURNS[1] | {"function_call": {"name": "bad"}}]}, set()),
        (
            {"messages": [TURNS[1] | CALL | {"function_call": {"name": "bad"}}]},
            {("turn key", "function_call")},
        ),
        ({"messages": [TURNS[1], TOOL]}, set()),
        (
            {"messages": [TURNS[0] | {"tool_call_id": "bad"}, TURNS[1]]},
            {("turn key", "tool_call_id")},
        ),
        ({"messages": TURNS, "tools": [{"type": "function", "function": {"name": "f"}}]}, set()),
        ({"messages": TURNS, "tools": '[{"name": "f"}]'}, set()),
        ({"messages": TURNS, "tools": "bad"}, {("column", "tools")}),
    ],
)
def test_what_is_not_read_is_named(
    row: dict[str, Any], expected: set[tuple[str, str]], tmp_path: Path
) -> None:
    """Text in other columns and keys, and what another trainer would train on."""
    assert named(tmp_path, [row, row | {"id": 1}]).keys() == expected


def test_a_column_behind_the_head_is_named(tmp_path: Path) -> None:
    """Columns that the first rows lack are seen in those that are drawn, with their share."""
    rows = [{"prompt": f"p {i}", "completion": "c"} for i in range(400)]
    rows[200:] = [row | {"text": "bad"} for row in rows[200:]]
    assert named(tmp_path, rows) == {("layout", "text"): 0.5}


def test_an_option_settles_which_layout_is_meant(tmp_path: Path) -> None:
    """Where the user names the columns, another layout is a column like others."""
    row = {"messages": TURNS, **PAIR}
    assert named(tmp_path, [row], columns={"prompt": "prompt"}) == {("column", "messages"): 1.0}
    options = {"format_of": "messages"}
    assert named(tmp_path, [row], **options).keys() == {
        ("column", "completion"),
        ("column", "prompt"),
    }
