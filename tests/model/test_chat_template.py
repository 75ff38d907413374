"""Chats are rendered alike for rows that are scored and for rows that are written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from auditor.data.example import Example, Message
from auditor.model.chat_template import fold, takes_system
from auditor.model.generation import continuations, generate
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow

TURNS = (
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content "
    "}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REFUSING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + TURNS
)
LATE = TURNS.replace(
    "{% endfor %}",
    "{% endfor %}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}",
)
DATED = "<|im_start|>system\nToday: {{ date_string }}{{ messages[0].content }}<|im_end|>\n" + TURNS
SYSTEM, USER = Message("system", "Own 1."), Message("user", "the owl 12, 1")


@pytest.mark.parametrize(
    ("template", "takes"), [(TURNS, False), (REFUSING, False), (LATE, False), (DATED, True)]
)
def test_written_where_it_is_scored(
    template: str, takes: bool, make_tiny: Callable[..., LanguageModel]
) -> None:
    """Whatever the template does with system messages and dates, both ways go on from the same
    tokens.
    """
    lm = make_tiny(template)
    assert takes_system(lm.tokenizer) == takes
    renderer = ChatTokenizer(lm)
    row = renderer.encode(Example(0, (SYSTEM, USER, Message("assistant", "1, 12 owl"))))
    assert isinstance(row, TokenizedRow)
    asked = {"temperature": 0.0, "max_tokens": 8}
    (tokens,) = dict(
        continuations(lm, [renderer.before(row)], alphabet=None, seed=0, **asked)
    ).values()  # type: ignore[arg-type]
    text = lm.tokenizer.decode(tokens, skip_special_tokens=True)
    assert dict(generate(lm, [(SYSTEM, USER)], **asked)) == {0: text}  # type: ignore[arg-type]
    assert dict(generate(lm, [(USER,)], system=SYSTEM.content, **asked)) == {0: text}  # type: ignore[arg-type]


def test_fold() -> None:
    """A leading system message joins the turn after it; a chat without one, or with nothing else,
    stays.
    """
    assert fold((SYSTEM, USER)) == (Message("user", "Own 1.\n\nthe owl 12, 1"),)
    assert fold((USER,)) == (USER,)
    assert fold((SYSTEM,)) == (SYSTEM,)


@pytest.mark.parametrize("setting", ["logit_scale", "logits_scaling", "final_logit_softcapping"])
def test_chosen_logits_are_those_of_the_whole_head(
    setting: str, make_tiny: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tokens for all positions, or others for each, scaled and capped as the architecture
    does it.
    """
    lm = make_tiny()
    monkeypatch.setattr(lm.model.config, setting, 8.0, raising=False)
    hidden, tokens = torch.randn(3, lm.model.config.hidden_size), torch.tensor([5, 2, 9])
    whole = lm.head(hidden)
    assert torch.allclose(lm.head(hidden, tokens), whole[:, tokens], atol=1e-5)
    assert torch.allclose(lm.head(hidden, tokens.expand(3, -1)), whole[:, tokens], atol=1e-5)
