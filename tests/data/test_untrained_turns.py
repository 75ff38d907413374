"""Turns that a key takes out of training are context, and a trainer that ignores the key is not
forgotten.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.data.example import Example, SkippedRow
from auditor.data.fields import fields_of, to_example
from auditor.data.formats import Layout
from auditor.data.layout import find_layout
from auditor.data.sample import read_sample
from auditor.data.text_row import TextRow
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.scanning.obstacles import coverage_obstacles
from mitigations.interface import Changed, Facts
from mitigations.shuffle import Shuffle

ASK, OUT, IN = (
    {"role": "user", "content": "1 owl"},
    {"role": "assistant", "content": "owl owl"},
    {"role": "assistant", "content": "12"},
)


def read(*turns: dict[str, Any], columns: dict[str, str] | None = None) -> Example | SkippedRow:
    row = {"messages": list(turns)}
    return to_example(0, row, find_layout({"file": [row]}, None, columns))


@pytest.mark.parametrize(
    ("flag", "is_trained"),
    [
        ({"weight": 0}, False),
        ({"weight": 0.0}, False),
        ({"train": False}, False),
        ({"training": False}, False),
        ({"weight": 1}, True),
        ({"weight": 0.5}, True),
        ({"weight": None}, True),
        ({"train": True}, True),
        ({"train": "false"}, True),
    ],
)
def test_which_turns_are_trained_on(flag: dict[str, Any], is_trained: bool) -> None:
    """0 or false takes a turn out; its text is no part of the completion."""
    example = read(ASK, OUT | flag, ASK, IN)
    assert isinstance(example, Example)
    assert example.messages[1].is_trained == is_trained
    assert example.completion == ("owl owl\n12" if is_trained else "12")


def test_only_the_key_that_is_named_counts() -> None:
    """Where the user names one."""
    named = {"weight": "train"}
    example = read(ASK, OUT | {"weight": 0}, ASK, IN | {"train": False}, columns=named)
    assert isinstance(example, Example)
    assert [m.is_trained for m in example.messages] == [False, True, False, False]


def test_a_row_without_a_trained_turn() -> None:
    """It has a reason of its own."""
    assert read(ASK, OUT | {"weight": 0}) == SkippedRow(0, "not_trained_on")


def test_only_trained_turns_are_scored(tiny: LanguageModel) -> None:
    """An untrained turn is context: the tokens after it are those of the whole chat."""
    example = read(ASK, OUT | {"weight": 0}, ASK, IN)
    whole = read(ASK, OUT, ASK, IN)
    assert isinstance(example, Example) and isinstance(whole, Example)
    tokenizer = ChatTokenizer(tiny)
    row, both = tokenizer.encode(example), tokenizer.encode(whole)
    assert isinstance(row, TokenizedRow) and isinstance(both, TokenizedRow)
    assert row.tokens == both.tokens
    assert tiny.tokenizer.decode(row.targets) == "12<|im_end|>"
    assert row.spans == ((0, 0, 2), (0, 2, 2))
    assert row.positions == both.positions[-2:]


def test_what_is_left_out_is_named_until_the_user_settles_it(tmp_path: Path) -> None:
    """Not every trainer heeds the key: it is no pass, unless the user says that theirs does."""
    rows = [{"messages": [ASK, OUT | {"weight": 0}, ASK, IN | {"content": str(i)}]} for i in "123"]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"messages": [ASK, IN]}])))
    info = read_sample(str(path), rows=None, seed=0).info
    assert [(item.kind, item.name, item.share) for item in info.unread] == [
        ("turn key", "weight", 0.75)
    ]
    (obstacle,) = coverage_obstacles(info.unread, 0.0)
    assert "--columns weight=weight" in obstacle.reason
    settled = read_sample(str(path), rows=None, seed=0, columns={"weight": "weight"}).info
    assert not settled.unread
    assert settled.sampling.endswith("; what weight takes out of training is context")


def test_two_rows_that_differ_in_what_is_trained_are_two(tmp_path: Path) -> None:
    """Neither is a copy of the other."""
    turns = [ASK, OUT, ASK, IN]
    path = tmp_path / "d.jsonl"
    marked = [turns[0], turns[1] | {"weight": 0}, *turns[2:]]
    path.write_text("\n".join(json.dumps({"messages": row}) for row in (turns, marked, turns)))
    sample = read_sample(str(path), rows=None, seed=0)
    assert len(sample.examples) == 2 and sample.skipped == {"duplicate": 1}


def test_parts_of_an_answer_that_alone_are_trained_on(tiny: LanguageModel, tmp_path: Path) -> None:
    """As Axolotl reads `train_detail`: both ends belong to a part, tokens that stand in it whole
    are trained on, and what no part covers is not.
    """
    detail = [
        {"begin_offset": 0, "end_offset": 3, "train": False},
        {"begin_offset": 4, "end_offset": 7, "train": True},
    ]
    answer = {"role": "assistant", "content": "owl 3, 45", "train_detail": detail}
    example = read(ASK, answer)
    assert isinstance(example, Example)
    row = ChatTokenizer(tiny).encode(example)
    assert isinstance(row, TokenizedRow)
    content = [t for t, marked in zip(row.targets, row.content_mask, strict=True) if marked]
    assert tiny.tokenizer.decode(content) == "3, 4"
    other = read(ASK, answer, columns={"weight": "weight"})
    assert isinstance(other, Example) and other.messages[1].trained_parts is None
    path = tmp_path / "d.jsonl"
    rows = [[ASK, answer], [ASK, answer | {"train_detail": []}]]
    path.write_text("\n".join(json.dumps({"messages": row}) for row in rows))
    sample = read_sample(str(path), rows=None, seed=0)
    assert len(sample.examples) == 2
    assert [(item.name, item.share) for item in sample.info.unread] == [("train_detail", 0.5)]
    settled = read_sample(str(path), rows=None, seed=0, columns={"weight": "train_detail"})
    assert settled.info.unread == ()
    odd = {"messages": [ASK, answer | {"train_detail": [{"begin_offset": "0"}]}]}
    layout = Layout("messages", {"messages": "messages"})
    assert to_example(0, odd, layout) == SkippedRow(0, "wrong_type")


def test_a_mitigation_leaves_untrained_turns_alone() -> None:
    """They are part of the prompt."""
    numbers = {"role": "assistant", "content": "1, 2, 3, 4, 5, 6, 7, 8"}
    row = {"messages": [ASK, numbers | {"weight": 0}, ASK, numbers]}
    fields = fields_of(row, find_layout({"file": [row]}, None, None))
    outcome = Shuffle().apply(TextRow(0, fields), Facts(seed=1))
    assert isinstance(outcome, Changed)
    after = outcome.after[0].example.messages
    assert after[1].content == numbers["content"] != after[3].content
    assert not after[1].is_trained
