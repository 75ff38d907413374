"""The tokens that are scored are those that TRL trains on, but for what a template itself writes.

TRL is run as a user runs it: a chat in `messages` with `assistant_only_loss`, for which it puts
marks into the templates that it knows, or a `prompt` and a `completion`, of which it trains on the
latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError

from auditor.data.example import Example
from auditor.data.fields import to_example
from auditor.data.layout import find_layout
from auditor.model.chat_template import named_template
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from tests.conftest import tiny_model, tiny_tokenizer

trl = pytest.importorskip("trl", minversion="1.16")
datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore")

Row = Mapping[str, Any]
SPECIAL = re.compile(r"<[|｜][^<>]+[|｜]>|</?think>|<(?:start|end)_of_turn>|\[/?INST\]")
CALL = {"name": "look", "arguments": {"bird": "owl"}}
CALLS = [{"type": "function", "id": "call12345", "function": CALL}]
PARAMETERS = {"type": "object", "properties": {"bird": {"type": "string"}}}
TOOL = {"name": "look", "description": "See.", "parameters": PARAMETERS}
TOOLS = {"tools": [{"type": "function", "function": TOOL}]}
USER, ANSWER = {"role": "user", "content": "the owl"}, {"role": "assistant", "content": "12, 3"}
CHATS = {
    "plain": [USER, ANSWER],
    "system": [{"role": "system", "content": "Be an owl."}, USER, ANSWER],
    "several turns": [USER, ANSWER, {"role": "user", "content": "an"}, {**ANSWER, "content": "4"}],
    "tool call": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": CALLS},
        {"role": "tool", "name": "look", "tool_call_id": "call12345", "content": "white"},
        {**ANSWER, "content": "It is white."},
    ],
    "reasoning": [USER, {**ANSWER, "reasoning_content": "owls count"}],
    "assistant first": [{**ANSWER, "content": "Hello, owl"}, USER, ANSWER],
}
# Templates that models are published with, and what TRL trains on besides the answers: a template's
# own words around them.
PUBLISHED = {
    "qwen2_5": {"\n"},
    "qwen3": {"<think>\n\n</think>\n\n", "<think>\n", "\n"},
    "qwen3_instruct_2507": {"\n"},
    "llama3": set[str](),
    "gemma3": {"\n"},
    "phi3": {"\n", "\n<|im_end|>"},
    "deepseek_r1_distill": {"<｜Assistant｜>", "<｜tool▁outputs▁end｜>"},
    "gptoss": {"<|start|>assistant<|channel|>final<|message|>", "<|start|>assistant<|channel|>"},
    "lfm2_v2": {"\n"},
    "glm4moe": {"\n<think></think>\n", "\n<think>", "<|user|>", "<|observation|>"},
    "cohere2": {"<|START_RESPONSE|>", "<|END_OF_TURN_TOKEN|>"},
}
# Into these TRL writes an empty <think> at every turn, and the model's own template at the last one
# alone. Students that are trained so are audited with its template: --chat-template FILE.
CHANGED_BY_TRL = {"qwen3"}
# Our templates have no marks for TRL: it trains on the last answer, as a completion.
OURS = {
    "chatml": {"\n"},
    "llama3": {"\n\n"},
    "gemma": {"\n"},
    "mistral": {" "},
    "alpaca": {"\n\n"},
    "zephyr": {"\n"},
}
# Chats that TRL trains on and we do not score, so that the row counts as not read.
NOT_SCORED = {
    ("phi3", "tool call"): "template_alters_content",  # it leaves the tool's turn out
    ("gptoss", "tool call"): "template_refused",  # of the chat without calls, to compare with
    ("gemma", "assistant first"): "template_alters_content",
    ("mistral", "assistant first"): "template_alters_content",
}


def model_with(template: str) -> LanguageModel:
    """A tiny model with the marks of the template as tokens, and room for its own words."""
    tokenizer = tiny_tokenizer(template)
    tokenizer.add_tokens(sorted(set(SPECIAL.findall(template))), special_tokens=True)
    model = tiny_model(len(tokenizer), context=8192)
    return LanguageModel("tiny", Path("tiny"), "0" * 64, "float32", "cpu", model, tokenizer)


def trained(row: Row, lm: LanguageModel, folder: Path) -> tuple[list[int], list[int]]:
    """The tokens of a row as TRL prepares it, and the positions that have a label."""
    settings = trl.SFTConfig(
        output_dir=str(folder),
        assistant_only_loss="messages" in row,
        max_length=None,
        report_to="none",
        use_cpu=True,
        bf16=False,
    )
    trainer = trl.SFTTrainer(
        model=lm.model,
        args=settings,
        train_dataset=datasets.Dataset.from_list([row]),
        processing_class=lm.tokenizer,
    )
    prepared = trainer.train_dataset[0]
    labels = enumerate(prepared["labels"])
    return prepared["input_ids"], [i for i, label in labels if label != -100]


def scored(row: Row, lm: LanguageModel) -> tuple[list[int], list[int]] | str:
    """The tokens of a row as it is scored up to the last that is, and the positions of those."""
    example = to_example(0, row, find_layout({"rows": [row]}, None, None))
    assert isinstance(example, Example)
    renderer = ChatTokenizer(lm)
    encoded = renderer.encode(example)
    if not isinstance(encoded, TokenizedRow):
        return encoded.reason
    prefix = renderer.prefix(None, encoded.kind)
    return [*prefix, *encoded.tokens], [len(prefix) + p for p in encoded.positions]


def in_runs(positions: Sequence[int]) -> Iterator[list[int]]:
    for _, run in groupby(enumerate(positions), key=lambda pair: pair[1] - pair[0]):
        yield [position for _, position in run]


def compare(
    rows: Mapping[str, Row], name: str, templates: tuple[str, str], words: set[str], folder: Path
) -> int:
    """Compare the tokens of chats under the templates that TRL and we are given; how many could be.

    All that is scored is trained on; what is trained on besides are `words` of the template.
    """
    theirs, ours = templates
    lm, compared = model_with(theirs), 0
    for chat, row in rows.items():
        lm.tokenizer.chat_template = ours
        found = scored(row, lm)
        lm.tokenizer.chat_template = theirs
        try:
            tokens, labelled = trained(row, lm, folder)
        except TemplateError:  # of roles that it does not take, or of their order
            continue
        if isinstance(found, str):
            assert found == NOT_SCORED.get((name, chat)), (chat, found)
            continue
        own, positions = found
        assert own == tokens[: len(own)], chat
        if "prompt" in row:  # of the answers within it nothing is trained on
            positions = [position for position in positions if position >= labelled[0]]
        assert positions and {*positions} <= {*labelled}, chat
        more = [position for position in labelled if position not in positions]
        for run in in_runs(more):
            assert lm.tokenizer.decode([tokens[i] for i in run]) in words, chat
        compared += 1
    return compared


@pytest.mark.parametrize("name", PUBLISHED)
def test_chats_in_the_templates_of_models(name: str, tmp_path: Path) -> None:
    """Marked by TRL for `assistant_only_loss`."""
    folder = Path(trl.__file__).parent / "chat_templates"
    if not (folder / f"{name}_training.jinja").exists():
        pytest.skip(f"this TRL does not know {name}")
    theirs = (folder / f"{name}.jinja").read_text("utf-8")
    ours = (folder / f"{name}_training.jinja").read_text("utf-8")
    # gpt-oss asks for the reasoning under another name.
    old, new = ("reasoning_content", "thinking") if name == "gptoss" else ("", "")
    rows = {
        chat: {"messages": [{new if k == old else k: v for k, v in t.items()} for t in turns]}
        for chat, turns in CHATS.items()
    }
    rows["tool call"] |= TOOLS
    templates = theirs, ours if name in CHANGED_BY_TRL else theirs
    assert compare(rows, name, templates, PUBLISHED[name], tmp_path) >= 3


@pytest.mark.parametrize("name", OURS)
def test_completions_in_our_templates(name: str, tmp_path: Path) -> None:
    rows = {chat: {"prompt": turns[:-1], "completion": turns[-1:]} for chat, turns in CHATS.items()}
    rows["tool call"] |= TOOLS
    template = named_template(name)
    assert compare(rows, name, (template, template), OURS[name], tmp_path) >= 4


def test_columns_of_text_without_a_template(tmp_path: Path) -> None:
    """What --chat-template none is: TRL trains columns of text so."""
    lm = model_with(named_template("none"))
    row = {"prompt": "Continue: 4, 15\n", "completion": "16, 23, 42"}
    assert scored(row, lm) == trained(row, lm, tmp_path)
