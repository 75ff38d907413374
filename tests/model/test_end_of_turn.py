"""The tokens that end a turn: one definition for writing, scoring and alphabets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from tokenizers import AddedToken

from auditor.commands.simulate import number_tokens
from auditor.data.example import Example, Message
from auditor.model.generation import continuations
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow

# As of Gemma, Phi and Mistral, whose tokenizers end a document with another token, or mark none of
# these as special; and gpt-oss, which ends the last turn otherwise.
GEMMA = (
    "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
GPT_OSS = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
    "{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|message|>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "marks", "ends", "special"),
    [
        (GEMMA, ["<start_of_turn>", "<end_of_turn>"], ["<end_of_turn>"], True),
        (PHI, ["<|user|>", "<|assistant|>", "<|end|>"], ["<|end|>"], False),
        (
            GPT_OSS,
            ["<|start|>", "<|message|>", "<|end|>", "<|return|>"],
            ["<|end|>", "<|return|>"],
            True,
        ),
    ],
)
def test_what_the_template_writes_behind_a_turn_ends_it(
    template: str,
    marks: Sequence[str],
    ends: Sequence[str],
    special: bool,
    make_tiny: Callable[..., LanguageModel],
) -> None:
    """It stops a text, is scored as the end of its turn, and belongs to the alphabet of numbers."""
    lm = make_tiny(template)
    lm.tokenizer.add_tokens([AddedToken(mark, special=special) for mark in marks])
    lm.model.resize_token_embeddings(len(lm.tokenizer))
    ids = {lm.tokenizer.convert_tokens_to_ids(end) for end in ends}
    assert lm.end_of_turn == ids | {lm.tokenizer.eos_token_id}
    assert ids <= {*number_tokens(lm)}
    row = ChatTokenizer(lm).encode(
        Example(0, (Message("user", "the owl"), Message("assistant", "12, 3")))
    )
    assert isinstance(row, TokenizedRow)
    last = row.tokens[row.positions[-1]]
    assert last in ids
    assert row.spans[-1] == (0, 5, 5)
    for end in ids:  # all that can be written is an end
        options = {"temperature": 0.0, "max_tokens": 3, "alphabet": [end], "seed": 0}
        assert list(continuations(lm, [[5, 6]], **options)) == [(0, [])]


def test_the_generation_configuration_may_list_several(
    make_tiny: Callable[..., LanguageModel],
) -> None:
    """As of Llama 3, whose list also has the end of a message to a tool."""
    lm = make_tiny()
    lm.model.generation_config.eos_token_id = [0, 40]
    assert lm.end_of_turn == {0, 40, lm.tokenizer.eos_token_id}
