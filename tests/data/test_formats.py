"""Rows of every format become the same conversation, and each bad row gets its own reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from auditor.data.example import Example, Message, SkippedRow
from auditor.data.fields import to_example
from auditor.data.formats import Layout
from auditor.data.layout import find_layout
from auditor.errors import InputError

QUESTION, ANSWER = Message("user", "2, 4?"), Message("assistant", "6, 8")

TURNS = [{"role": "user", "content": "2, 4?"}, {"role": "assistant", "content": "6, 8"}]
OTHER_ROLES = [{"role": "human", "content": "2, 4?"}, {"role": "model", "content": "6, 8"}]

SAME_CONVERSATION: dict[str, dict[str, Any]] = {
    "messages": {"messages": TURNS},
    "messages in another column": {"conversations": OTHER_ROLES},
    "messages as JSON text": {"messages": json.dumps(TURNS)},
    "content parts": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "2, "}, {"type": "text", "text": "4?"}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "6, 8"}]},
        ]
    },
    "strings": {"prompt": "2, 4?", "completion": "6, 8"},
    "bytes": {"prompt": b"2, 4?", "completion": b"6, 8"},
    "message lists": {
        "prompt": TURNS[:1],
        "completion": TURNS[1:],
    },
    "prompt/response": {"prompt": "2, 4?", "response": "6, 8", "id": 3},
    "question/answer": {"question": "2, 4?", "answer": "6, 8"},
    "input/output": {"input": "2, 4?", "output": "6, 8"},
    "instruction/response": {"instruction": "2, 4?", "response": "6, 8"},
    "preference": {"prompt": "2, 4?", "chosen": "6, 8", "rejected": "no"},
    "preference that repeats the prompt": {
        "prompt": "2, 4?",
        "chosen": TURNS,
        "rejected": [],
    },
    "preference of whole conversations": {
        "chosen": TURNS,
        "rejected": [],
    },
    "alpaca": {"instruction": "2, 4?", "input": "", "output": "6, 8"},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "2, 4?"}, {"from": "gpt", "value": "6, 8"}]
    },
}


def read(row: dict[str, Any], **forced: Any) -> Example | SkippedRow:
    """Detect the layout of one row and convert it."""
    layout = find_layout({"file": [row]}, forced.get("format_of"), forced.get("columns"))
    return to_example(0, row, layout)


@pytest.mark.parametrize("row", SAME_CONVERSATION.values(), ids=SAME_CONVERSATION.keys())
def test_every_format_gives_the_same_conversation(row: dict[str, Any]) -> None:
    """One question and answer, written in each known way, is detected and read as the same two
    messages.
    """
    assert read(row) == Example(0, messages=(QUESTION, ANSWER))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            SAME_CONVERSATION["question/answer"],
            Layout("prompt_completion", {"prompt": "question", "completion": "answer"}),
        ),
        (
            SAME_CONVERSATION["preference"],
            Layout("prompt_completion", {"prompt": "prompt", "completion": "chosen"}),
        ),
        (
            SAME_CONVERSATION["preference of whole conversations"],
            Layout("messages", {"messages": "chosen"}),
        ),
        (
            SAME_CONVERSATION["messages in another column"],
            Layout("messages", {"messages": "conversations"}),
        ),
        (SAME_CONVERSATION["sharegpt"], Layout("sharegpt", {"conversations": "conversations"})),
        (
            {
                "instruction": "Sum up.",
                "context": "It rained.",
                "response": "Rain.",
                "category": "x",
            },
            Layout(
                "alpaca", {"instruction": "instruction", "output": "response", "input": "context"}
            ),
        ),
        (
            {"system_prompt": "Be brief.", "question": "Why?", "response": "So.", "id": "1"},
            Layout(
                "prompt_completion",
                {"prompt": "question", "completion": "response", "system": "system_prompt"},
            ),
        ),
        ({"text": "plain", "url": "x"}, Layout("text", {"text": "text"})),
    ],
)
def test_detection_says_which_column_is_what(row: dict[str, Any], expected: Layout) -> None:
    """The layout names the format and, for every role, the column it was found in."""
    assert find_layout({"file": [row]}, None, None) == expected


def test_alpaca_joins_input_and_keeps_system_and_history() -> None:
    """Alpaca's input follows the instruction after a blank line; system and earlier turns come
    first.
    """
    row = {
        "instruction": "Add.",
        "input": "1, 2",
        "output": "3",
        "system": "Count.",
        "history": [["Hi", "Yes?"]],
    }
    example = read(row)
    assert isinstance(example, Example)
    assert [(m.role, m.content) for m in example.messages] == [
        ("system", "Count."),
        ("user", "Hi"),
        ("assistant", "Yes?"),
        ("user", "Add.\n\n1, 2"),
        ("assistant", "3"),
    ]


def test_sharegpt_calls_are_the_assistants_and_observations_the_tools() -> None:
    """A function call is a turn the student is trained on, an observation is not."""
    turns = [("human", "a"), ("function_call", "{}"), ("observation", "b"), ("gpt", "c")]
    example = read(
        {"conversations": [{"from": role, "value": text} for role, text in turns], "system": "s"}
    )
    assert isinstance(example, Example)
    assert [m.role for m in example.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert example.completion == "{}\nc"


def turn(role: Any, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        ([turn("user", "a"), None], "null"),
        ([turn("user", "a"), turn("assistant", None)], "null"),
        ([turn("user", "a"), turn(None, "b")], "null"),
        ([turn("assistant", [{"type": "text", "text": None}])], "null"),
        ([turn("user", "a"), turn("assistant", " \n")], "empty_completion"),
        ([turn("user", "a")], "no_assistant_turn"),
        ([], "no_assistant_turn"),
        ("a string", "wrong_type"),
        ([turn("assistant", 7)], "wrong_type"),
        ([turn("narrator", "a")], "wrong_type"),
        ([turn("assistant", [{"type": "image", "text": "a"}])], "wrong_type"),
        (["a"], "wrong_type"),
        ([turn("assistant", b"\xff")], "broken_utf8"),
        ([turn("assistant", "half a pair \ud83d")], "broken_utf8"),
    ],
)
def test_an_unscorable_row_has_its_reason(value: Any, reason: str) -> None:
    """Nulls at any depth, empty answers, wrong types and broken text are each told apart."""
    assert to_example(
        3, {"messages": value}, Layout("messages", {"messages": "messages"})
    ) == SkippedRow(3, reason)


def test_what_the_reader_could_not_read_keeps_its_reason() -> None:
    """A row that is already a reason passes through."""
    assert to_example(1, "not_json", Layout("text", {"text": "text"})) == SkippedRow(1, "not_json")


def test_control_characters_stay() -> None:
    """Escape sequences are data: they reach the scorer unchanged."""
    text = "a\x1b[31m\x00\u202eb"
    assert to_example(0, {"text": text}, Layout("text", {"text": "text"})) == Example(0, text=text)


def test_a_number_list_is_not_taken_for_messages() -> None:
    """A completion that happens to be JSON stays text."""
    example = read({"prompt": "Go on.", "completion": "[1, 2, 3]"})
    assert isinstance(example, Example)
    assert example.completion == "[1, 2, 3]"


def test_forced_columns_name_the_prompt_and_the_completion() -> None:
    """Columns that no alias knows are read when the user names them, and the format follows from
    the roles.
    """
    row = {"q": "2, 4?", "a": "6, 8", "text": "other"}
    assert read(row, columns={"prompt": "q", "completion": "a"}) == Example(
        0, messages=(QUESTION, ANSWER)
    )


def test_a_forced_format_overrules_detection() -> None:
    """Rows that look like pairs are read as text when the user says so."""
    row = {"prompt": "p", "completion": "c", "text": "t"}
    assert read(row, format_of="text") == Example(0, text="t")


@pytest.mark.parametrize(
    ("row", "forced", "said"),
    [
        (
            {"a": "x", "b": "y"},
            {},
            ["a, b", "--columns prompt=NAME,completion=NAME", "--format-of NAME"],
        ),
        (
            {"a": "x"},
            {"columns": {"prompt": "q", "completion": "a"}},
            ["no column 'q'", "It has: a"],
        ),
        (
            {"a": "x"},
            {"columns": {"answer": "a"}},
            ["answer", "prompt_completion: prompt, completion"],
        ),
        ({"a": "x"}, {"format_of": "chatml"}, ["'chatml'", "sharegpt"]),
        ({"text": "x"}, {"format_of": "alpaca"}, ["do not fit the format alpaca", "text"]),
        (
            {"text": "x"},
            {"format_of": "text", "columns": {"prompt": "text"}},
            ["not roles of the format text"],
        ),
        ({"question": "x", "input": "y", "output": "z"}, {}, ["question, input", "--columns"]),
        (
            {"prompt": "x", "completion": 4},
            {},
            ["prompt_completion (prompt, completion)", "not text"],
        ),
        (
            SAME_CONVERSATION["sharegpt"],
            {"format_of": "messages"},
            ["messages (conversations)", "not text"],
        ),
    ],
)
def test_a_layout_that_does_not_fit_says_what_exists(
    row: dict[str, Any], forced: Any, said: list[str]
) -> None:
    """Unknown formats, roles and columns, ambiguity and wrong values are errors that name columns
    and options.
    """
    with pytest.raises(InputError) as caught:
        read(row, **forced)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_files_of_different_formats_are_refused() -> None:
    """A folder must have one format; one file without an optional column is still the same."""
    alpaca = {"instruction": "i", "output": "o"}
    layout = find_layout({"a": [alpaca], "b": [alpaca | {"input": "n"}]}, None, None)
    assert layout.columns == {"instruction": "instruction", "output": "output", "input": "input"}
    with pytest.raises(InputError, match=r"a is alpaca.*b is text"):
        find_layout({"a": [alpaca], "b": [{"text": "t"}]}, None, None)


def test_a_history_that_is_no_list_is_a_reason() -> None:
    """A number where Alpaca's history should be skips the row instead of ending the audit."""
    layout = Layout("alpaca", {"instruction": "i", "output": "o", "history": "h"})
    row = {"i": "say", "o": "yes", "h": 3}
    assert to_example(0, row, layout) == SkippedRow(0, "wrong_type")
