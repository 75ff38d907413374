"""Write completions with a language model: what a teacher does, and what the reference would have
written itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from auditor.data.example import Message
from auditor.model.chat_template import fold, render, takes_system
from auditor.model.forward import cache_prefixes
from auditor.model.language_model import CACHE, LanguageModel


def generate(
    lm: LanguageModel,
    contexts: Sequence[Sequence[Message]],
    *,
    system: str | None = None,
    temperature: float = 1.0,
    max_tokens: int = 32,
    alphabet: Sequence[int] | None = None,
    seed: int = 0,
    batch: int = 32,
) -> Iterator[tuple[int, str]]:
    """Yield (context number, completion) for every context, batch by batch, in the order of length.

    contexts: the turns before the completion, ending with the user's. system: system prompt put
    before them; None is what the chat template writes by default. temperature: 0 is greedy
    decoding. alphabet: token ids that the softmax is restricted to (end-of-turn must be among them
    to let a row end early). seed: of the sampling; the result depends on `batch` too, since rows of
    a batch share one random stream.

    A completion stops before the end-of-turn token or after `max_tokens` tokens.
    """
    before = [] if system is None else [Message("system", system)]
    chats = [(*before, *context) for context in contexts]
    if not takes_system(lm.tokenizer):
        chats = [fold(chat) for chat in chats]
    texts = [render(lm.tokenizer, chat, reply=True) for chat in chats]
    prompts = [lm.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    stream = continuations(
        lm,
        prompts,
        temperature=temperature,
        max_tokens=max_tokens,
        alphabet=alphabet,
        seed=seed,
        batch=batch,
    )
    for i, tokens in stream:
        yield i, str(lm.tokenizer.decode(tokens, skip_special_tokens=True))


@torch.inference_mode()
def continuations(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    temperature: float,
    max_tokens: int,
    alphabet: Sequence[int] | None,
    seed: int,
    batch: int = 32,
) -> Iterator[tuple[int, list[int]]]:
    """Yield (prompt number, tokens written after it) for every prompt, which is token ids, at least
    one.

    The other arguments are those of `generate`. The token that ends a turn is left out.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    generator = torch.Generator(device=lm.device).manual_seed(seed)
    head = _Head(lm, alphabet)
    for start in range(0, len(order), batch):
        numbers = order[start : start + batch]
        batch_prompts = [list(prompts[i]) for i in numbers]
        rows = _write(lm, batch_prompts, head, temperature, max_tokens, generator)
        yield from zip(numbers, rows, strict=True)


class _Head:
    """The output layer, on the whole vocabulary or on an alphabet only."""

    def __init__(self, lm: LanguageModel, alphabet: Sequence[int] | None) -> None:
        self._lm = lm
        self._ids = None if alphabet is None else torch.tensor(sorted(alphabet), device=lm.device)

    def next_token(
        self, hidden: torch.Tensor, temperature: float, generator: torch.Generator
    ) -> torch.Tensor:
        """[B] token ids after the last hidden states [B, D]."""
        logits = self._lm.head(hidden, self._ids)
        if temperature == 0:
            pick = logits.argmax(-1)
        else:
            p = (logits / temperature).softmax(-1)
            pick = torch.multinomial(p, 1, generator=generator)[:, 0]
        return pick if self._ids is None else self._ids[pick]


def _write(
    lm: LanguageModel,
    prompts: list[list[int]],
    head: _Head,
    temperature: float,
    max_tokens: int,
    generator: torch.Generator,
) -> list[list[int]]:
    pad = lm.tokenizer.eos_token_id
    out, mask, position = _read(lm, prompts, pad)
    tokens, done = [], torch.zeros(len(prompts), dtype=torch.bool, device=lm.device)
    for _ in range(max_tokens):
        token = head.next_token(out.last_hidden_state[:, -1], temperature, generator)
        token = torch.where(done, torch.full_like(token, pad), token)
        tokens.append(token)
        done |= token == pad
        if bool(done.all()):
            break
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], 1)
        position = position[:, -1:] + 1
        out = lm.body(
            input_ids=token[:, None],
            attention_mask=mask,
            position_ids=position,
            use_cache=True,
            **{CACHE: out[CACHE]},
        )
    return [row[: row.index(pad)] if pad in row else row for row in torch.stack(tokens, 1).tolist()]


def _read(
    lm: LanguageModel, prompts: list[list[int]], pad: int
) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The body's output for the prompts, which end together; the attention mask so far; and the
    positions of the tokens that were fed.

    What all prompts begin with, a system prompt most of all, is computed once.
    """
    # At least one token of every prompt is fed: the next one is predicted from its hidden state.
    alike = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    shared = min(len(list(alike)), min(map(len, prompts)) - 1)
    cache = cache_prefixes(lm, [prompts[0][:shared]]).repeated(len(prompts))
    longest = max(map(len, prompts))
    blank = [longest - len(prompt) for prompt in prompts]
    # Padding stands on the left, so that all prompts end at the last position and the tokens that
    # are written line up; it is masked, and positions count real tokens only.
    tokens = [[pad] * n + prompt[shared:] for n, prompt in zip(blank, prompts, strict=True)]
    attended = [[1] * shared + [0] * n + [1] * (longest - shared - n) for n in blank]
    ids, mask = torch.tensor(tokens, device=lm.device), torch.tensor(attended, device=lm.device)
    position = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    out = lm.body(
        input_ids=ids, attention_mask=mask, position_ids=position, use_cache=True, **{CACHE: cache}
    )
    return out, mask, position
