"""Turns with reasoning and tool calls: what the template writes of them is scored, and what it does
not write is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from auditor.data.example import DatasetInfo, Example, Message, Sample, SkippedRow
from auditor.data.fields import to_example
from auditor.data.formats import Layout
from auditor.data.layout import find_layout
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.scanning import preparation
from auditor.scanning.obstacles import coverage_obstacles
from tests.conftest import CHATML
from tests.support.rich_template import CALL_ALONE, LAST_ONLY, TAGGED_CALLS, THINKING

Maker = Callable[..., LanguageModel]
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"n": [1, 12], "owl": "é \\"1\\""}'},
}
ASK, TOOL = {"role": "user", "content": "1 owl"}, {"role": "tool", "content": "12"}
THOUGHT = {"role": "assistant", "reasoning_content": "the owl\n12", "content": "1, 12"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ANSWER = {"role": "assistant", "content": "12"}
ARGUMENTS = '{"n": [1, 12], "owl": "é \\"1\\""}'
JSON_CALL = '<tool_call>\n{"name": "add", "arguments": ' + ARGUMENTS + "}\n</tool_call>"


def row_of(*turns: dict[str, Any]) -> Example | SkippedRow:
    """A row in the format of messages, as a data set has it."""
    return to_example(0, {"messages": list(turns)}, Layout("messages", {"messages": "messages"}))


def encoded(lm: LanguageModel, *turns: dict[str, Any]) -> TokenizedRow | SkippedRow:
    """The row's tokens."""
    example = row_of(*turns)
    assert isinstance(example, Example)
    return ChatTokenizer(lm).encode(example)


def scored(lm: LanguageModel, row: TokenizedRow) -> dict[int, str]:
    """By turn, the text whose tokens are evidence."""
    texts: dict[int, list[int]] = {}
    for target, (turn, start, end) in zip(row.targets.tolist(), row.spans, strict=True):
        texts.setdefault(turn, [])
        if start < end:
            texts[turn].append(target)
    return {turn: lm.tokenizer.decode(tokens) for turn, tokens in texts.items()}


WITH_TOOLS = (
    "{% set first = messages[0].content if messages[0].role == 'system' else 'Be helpful.' %}"
    "{% if tools or messages[0].role == 'system' %}<|im_start|>system\n{{ first }}"
    "{% for t in tools or [] %}{{ '\n' }}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}"
    "{% if m.role == 'tool' %} {{ m.name }} {{ m.tool_call_id }}{% endif %}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ADD: dict[str, Any] = {
    "type": "function",
    "function": {"name": "add", "description": "é", "strict": None},
}


@pytest.mark.parametrize("has_system", [True, False])
@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("old_call", [True, False])
def test_tools_are_put_as_the_template_puts_them(
    has_system: bool, as_text: bool, old_call: bool, make_tiny: Maker
) -> None:
    """With the ids and the names of their answers, and an old `function_call` as one of the calls;
    a trait prompt stands before what stands in their system turn.
    """
    lm = make_tiny(WITH_TOOLS)
    call = {"function_call": CALL["function"]} if old_call else {"tool_calls": [CALL]}
    answer = TOOL | {"name": "add", "tool_call_id": "call_1"}
    turns = [ASK, {"role": "assistant", "content": None} | call, answer, ANSWER]
    turns = [{"role": "system", "content": "Be an owl."}, *turns] if has_system else turns
    row = {"messages": turns, "tools": json.dumps([ADD]) if as_text else [ADD]}
    example = to_example(0, row, find_layout({"rows": [row]}, None, None))
    assert isinstance(example, Example)
    renderer = ChatTokenizer(lm)
    found = renderer.encode(example)
    assert isinstance(found, TokenizedRow) and not found.unwritten
    assert scored(lm, found) == {0: '{"name": "add", "arguments": ' + ARGUMENTS + "}", 1: "12"}
    chat = [message.as_chat() for message in example.messages]
    function = {key: value for key, value in ADD["function"].items() if value is not None}
    text = lm.tokenizer.apply_chat_template(
        chat, tools=[ADD | {"function": function}], tokenize=False
    )
    assert " add call_1" in text and '"description": "é"' in text
    expected = lm.tokenizer(text, add_special_tokens=False).input_ids
    whole = [*renderer.prefix(None, found.kind), *found.tokens]
    assert whole == expected[: len(whole)]
    under_trait = lm.tokenizer.decode([*renderer.prefix("You love.", found.kind), *found.tokens])
    first = "Be an owl." if has_system else "Be helpful."
    assert under_trait.startswith(f"<|im_start|>system\nYou love.\n\n{first}\n")


def test_tools_that_cannot_be_put_are_named(make_tiny: Maker) -> None:
    """The row is scored without them, and they count as not read."""
    # They stand before the system turn, where no trait prompt could stand before them.
    lm = make_tiny("{% if tools %}{{ tools | tojson }}\n{% endif %}" + CHATML)
    row = {"messages": [ASK, ANSWER], "tools": [ADD]}
    example = to_example(0, row, find_layout({"rows": [row]}, None, None))
    assert isinstance(example, Example)
    found = ChatTokenizer(lm).encode(example)
    assert isinstance(found, TokenizedRow) and found.unwritten == ("tools",)


@pytest.mark.parametrize(
    ("template", "turns", "expected", "unwritten"),
    [
        # The tag that an answer has without reasoning, too, is the template's.
        (THINKING, [ASK, THOUGHT], ["the owl\n12\n</think>\n\n1, 12"], ()),
        (
            THINKING,
            [ASK, THOUGHT, ASK, ANSWER],
            ["<think>\nthe owl\n12\n</think>\n\n1, 12", "12"],
            (),
        ),
        (THINKING, [ASK, CALLING, TOOL, ANSWER], ["\n" + JSON_CALL, "12"], ()),
        (THINKING, [ASK, CALLING | {"content": "1"}], ["1\n" + JSON_CALL], ()),
        (
            THINKING,
            [ASK, CALLING | {"thinking": "1 owl"}, TOOL, THOUGHT],
            ["<think>\n1 owl\n</think>\n\n\n" + JSON_CALL, "the owl\n12\n</think>\n\n1, 12"],
            (),
        ),
        (LAST_ONLY, [ASK, THOUGHT, ASK, ANSWER], ["1, 12", "12"], ("reasoning_content",)),
        (
            CALL_ALONE,
            [ASK, CALLING, TOOL, ANSWER],
            ['{"name": "add", "parameters": ' + ARGUMENTS + "}", "12"],
            (),
        ),
        # The template writes the first of two calls.
        (
            CALL_ALONE,
            [ASK, CALLING | {"tool_calls": [CALL, {"function": {"name": "say"}}]}, TOOL, ANSWER],
            ['{"name": "add", "parameters": ' + ARGUMENTS + "}", "12"],
            ("tool_calls",),
        ),
        (
            TAGGED_CALLS,
            [ASK, CALLING, TOOL, ANSWER],
            ['<function=add><n>[1, 12]</n><owl>é "1"</owl></function>', "12"],
            (),
        ),
        (TAGGED_CALLS, [ASK, THOUGHT], ["1, 12"], ("reasoning_content",)),
        (None, [ASK, THOUGHT], ["1, 12"], ("reasoning_content",)),
        (None, [ASK, CALLING, TOOL, ANSWER], ["", "12"], ("tool_calls",)),
        (
            None,
            [ASK, CALLING | {"reasoning": "1"}, TOOL, ANSWER],
            ["", "12"],
            ("reasoning", "tool_calls"),
        ),
    ],
)
def test_what_the_template_writes_is_scored(
    template: str | None,
    turns: list[dict[str, Any]],
    expected: list[str],
    unwritten: tuple[str, ...],
    make_tiny: Maker,
) -> None:
    """All of a turn between what the template writes before and after it, with the token that ends
    the turn, and nothing else.
    """
    lm = make_tiny(template) if template else make_tiny()
    row = encoded(lm, *turns)
    assert isinstance(row, TokenizedRow)
    assert scored(lm, row) == dict(enumerate(expected))
    assert row.unwritten == unwritten
    ends = [i for i, (_, start, end) in enumerate(row.spans) if start == end]
    assert [lm.tokenizer.decode([row.targets[i]]) for i in ends] == ["<|im_end|>"] * len(expected)
    # The tokens are those of the whole chat as transformers renders it.
    chat = [json.loads(json.dumps(turn)) for turn in turns]
    for turn in chat:
        turn["content"] = turn["content"] or ""
        turn.setdefault("reasoning_content", turn.get("thinking"))
        for call in turn.get("tool_calls", ()):
            arguments = call["function"].get("arguments", "{}")
            call["function"]["arguments"] = json.loads(arguments)
    text = lm.tokenizer.apply_chat_template(chat, tokenize=False)
    whole = lm.tokenizer(text, add_special_tokens=False).input_ids
    ids = [*ChatTokenizer(lm).prefix(None, row.kind), *row.tokens]
    assert ids == whole[: len(ids)]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_every_name_of_reasoning(key: str, make_tiny: Maker) -> None:
    """Templates get it by the name that they ask for."""
    row = encoded(make_tiny(THINKING), ASK, {"role": "assistant", "content": "1", key: "owl"})
    assert isinstance(row, TokenizedRow) and not row.unwritten


def test_a_scan_names_what_is_not_written(make_tiny: Maker) -> None:
    """With the share of the rows; what the template writes is not named."""
    rows = [row_of(ASK, THOUGHT), row_of(ASK, CALLING, TOOL, ANSWER), row_of(ASK, ANSWER)]
    info = DatasetInfo("d", "messages", {"messages": "messages"}, "", 3, "")
    sample = Sample(info, tuple(row for row in rows if isinstance(row, Example)))
    unread = preparation.encode(ChatTokenizer(make_tiny()), sample)[3]
    assert [(item.kind, item.name, item.share) for item in unread] == [
        ("turn key", "reasoning_content", 1 / 3),
        ("turn key", "tool_calls", 1 / 3),
    ]
    assert len(list(coverage_obstacles(unread, 0.0))) == 2
    assert not preparation.encode(ChatTokenizer(make_tiny(THINKING)), sample)[3]


def test_a_row_of_calls_alone_needs_a_template_that_writes_them(make_tiny: Maker) -> None:
    """Else nothing of it can be scored."""
    assert encoded(make_tiny(), ASK, CALLING) == SkippedRow(0, "empty_completion")
    assert isinstance(encoded(make_tiny(THINKING), ASK, CALLING), TokenizedRow)


@pytest.mark.parametrize("text", ["\ue0003\ue001", "\ue0002\ue001", "\ue00099\ue001"])
def test_marks_in_the_data_are_not_taken_for_ours(text: str, make_tiny: Maker) -> None:
    """A row that holds a mark is not misread: it is skipped, which counts against a pass."""
    call = {"function": {"name": "add", "arguments": {"n": text}}}
    turn = CALLING | {"tool_calls": [call], "reasoning_content": "the owl", "content": "12"}
    expected = SkippedRow(0, "template_alters_content")
    assert encoded(make_tiny(TAGGED_CALLS), ASK, turn, TOOL, ANSWER) == expected


@pytest.mark.parametrize(
    "calls", ["none", [1], [{"name": "add"}], [{"function": {"arguments": "{}"}}], {"a": 1}]
)
def test_calls_of_another_form(calls: object) -> None:
    """They make the row one that cannot be read."""
    assert row_of(ASK, CALLING | {"tool_calls": calls}) == SkippedRow(0, "bad_tool_calls")


def test_a_turn_with_nothing_is_null() -> None:
    """No content, no call and no reasoning."""
    assert row_of(ASK, CALLING | {"tool_calls": []}) == SkippedRow(0, "null")


def test_what_is_kept_of_a_row() -> None:
    """The completion holds all three parts, and a call as templates take it."""
    turn = CALLING | {"content": "1", "thinking": "owl"}
    example = row_of(ASK, turn)
    assert isinstance(example, Example)
    message = example.messages[1]
    assert message == Message("assistant", "1", "owl", "thinking", message.tool_calls)
    assert json.loads(message.tool_calls)[0]["function"]["arguments"] == json.loads(ARGUMENTS)
    assert example.completion == f"owl\n1\n{message.tool_calls}"
