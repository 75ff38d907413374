"""Reword prompts with a language model: what it is told, how its reply is read, and the engine for
a local model.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.data.example import Message

if TYPE_CHECKING:
    from auditor.model.language_model import LanguageModel

LOG = logging.getLogger(__name__)
_TASK = (
    "Reword the prompt below. Say the same in other words and, where it reads well, in "
    "another order. Do not answer the prompt. Keep every number, quotation, code block, "
    "placeholder, link, name and demand on the format exactly as it stands, and the language."
    " Reply with the reworded prompt and nothing else."
)
TEMPERATURE = 0.7
_TEMPLATE_TOKENS = 64  # Room for a chat template and the system prompt that it may bring.
_TAGS = re.compile(r"</?prompt>")
_QUOTES = ('""', "''", "“”")


def request(prompt: str) -> str:
    """What a model is told; one user's turn, since not every chat template has a system prompt."""
    return f"{_TASK}\n<prompt>\n{prompt}\n</prompt>"


def most_tokens(prompt: str) -> int:
    """An upper bound on the tokens of a rewording, from the prompt's length in bytes (a token has
    at least one).
    """
    return 64 + len(prompt.encode("utf-8", "replace")) // 2


def clean(reply: str, prompt: str) -> str:
    """The reworded prompt in a model's reply: without the tags, and without quotation marks put
    round all of it.

    Nothing else is repaired; a reply that talks about its task fails the checks.
    """
    # A reply may repeat the tags of the request. Quotation marks round all of it are the model's,
    # unless the prompt began with one, too.
    text = _TAGS.sub("", reply).strip()
    wrapped = len(text) > 1 and text[0] + text[-1] in _QUOTES and text[1:-1].count(text[0]) == 0
    return text[1:-1].strip() if wrapped and prompt.strip()[:1] != text[0] else text


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """The engine "llm" with a model on this machine.

    Replies are sampled, and rows that are generated together share one random stream: the texts
    depend on the seed and on which prompts are reworded in one call.
    """

    lm: LanguageModel
    name: str = "llm"
    missing: str = "empty_reply"

    def reword(self, prompts: Sequence[str], variants: int, seed: int) -> list[list[str]]:
        """One sampled reply for each prompt and variant; none for a prompt that the model's context
        cannot hold.
        """
        from auditor.model.generation import generate

        texts: list[list[str]] = [[] for _ in prompts]
        fitting = []
        for i, prompt in enumerate(prompts):
            ids = self.lm.tokenizer(request(prompt), add_special_tokens=False).input_ids
            if len(ids) + _TEMPLATE_TOKENS + most_tokens(prompt) <= self.lm.context:
                fitting.append(i)
        LOG.debug("%d of %d prompts fit the paraphraser's context", len(fitting), len(prompts))
        if not fitting:
            return texts
        contexts = [[Message("user", request(prompts[i]))] for i in fitting]
        longest = max(most_tokens(prompts[i]) for i in fitting)
        for variant in range(variants):
            draw = generate(
                self.lm,
                contexts,
                temperature=TEMPERATURE,
                max_tokens=longest,
                # A generator takes 63 bits, and the seeds of mitigations have 56 already.
                seed=(seed * 1_000_003 + variant) % 2**63,
            )
            # Replies come as they are finished, each with the number of its context.
            for number, reply in draw:
                i = fitting[number]
                if text := clean(reply, prompts[i]):
                    texts[i].append(text)
        return texts
