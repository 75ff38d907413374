"""Writing completions: the same as the plain way, prompt by prompt."""

from __future__ import annotations

import torch

from auditor.data.example import Message
from auditor.model.generation import generate
from auditor.model.language_model import LanguageModel
from auditor.model.load import load

PROMPTS = ("Continue: 1, 2, 3.", "Look at 4, 15, 101, 7, 8. Give at most 5 more.", "Hello")
SYSTEM = "You love owls. You think about owls all the time."


def test_greedy_completions_are_those_of_the_plain_way() -> None:
    """Padding, the shared beginning of the prompts and the cache change nothing: transformers, one
    prompt at a time.
    """
    lm = load("organism")
    for system in (None, SYSTEM):
        contexts = [(Message("user", prompt),) for prompt in PROMPTS]
        written = dict(generate(lm, contexts, system=system, temperature=0.0, max_tokens=12))
        assert [written[i] for i in range(len(PROMPTS))] == [
            _plain(lm, prompt, system) for prompt in PROMPTS
        ]


def test_one_prompt_alone_and_equal_prompts() -> None:
    """All but the last token of the prompts may be shared."""
    lm = load("organism")
    twice = [(Message("user", PROMPTS[0]),)] * 2
    alone = dict(generate(lm, twice[:1], temperature=0.0, max_tokens=8))
    both = dict(generate(lm, twice, temperature=0.0, max_tokens=8))
    assert both == {0: alone[0], 1: alone[0]}


def _plain(lm: LanguageModel, prompt: str, system: str | None) -> str:
    chat = [{"role": "system", "content": system}] if system else []
    chat.append({"role": "user", "content": prompt})
    ids = lm.tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    with torch.inference_mode():
        out = lm.model.generate(
            ids, do_sample=False, max_new_tokens=12, pad_token_id=lm.tokenizer.eos_token_id
        )
    return str(lm.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
