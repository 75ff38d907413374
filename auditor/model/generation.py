"""Write completions with a language model, as a teacher or the reference would have."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

import torch

from auditor.data.example import Message
from auditor.model.chat_template import fold, render, takes_system
from auditor.model.forward import cache_prefixes
from auditor.model.language_model import CACHE, LanguageModel

LOG = logging.getLogger(__name__)


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
    for i, tokens in continuations(
        lm,
        prompts,
        temperature=temperature,
        max_tokens=max_tokens,
        alphabet=alphabet,
        seed=seed,
        batch=batch,
    ):
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
    """Yield (prompt number, tokens written after it) for every prompt of at least one token id.

    The other arguments are those of `generate`. The token that ends a turn is left out.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    generator = torch.Generator(device=lm.device).manual_seed(seed)
    ids = None if alphabet is None else torch.tensor(sorted(alphabet), device=lm.device)

    def next_token(hidden_BD: torch.Tensor) -> torch.Tensor:
        """[B] Token ids after the last hidden states."""
        logits = lm.head(hidden_BD, ids)
        if temperature == 0:
            pick = logits.argmax(-1)
        else:
            p = (logits / temperature).softmax(-1)
            pick = torch.multinomial(p, 1, generator=generator)[:, 0]
        return pick if ids is None else ids[pick]

    LOG.info("%s writes %d completions at T = %g", lm.name, len(prompts), temperature)
    for start in range(0, len(order), batch):
        numbers = order[start : start + batch]
        LOG.debug("writing rows %d to %d", start, start + len(numbers))
        batch_prompts = [list(prompts[i]) for i in numbers]
        yield from zip(numbers, _write(lm, batch_prompts, next_token, max_tokens), strict=True)


def _write(
    lm: LanguageModel,
    prompts: list[list[int]],
    next_token: Callable[[torch.Tensor], torch.Tensor],
    max_tokens: int,
) -> list[list[int]]:
    """What is written after each prompt of a batch, up to the token that ends a turn."""
    pad = lm.tokenizer.eos_token_id
    # What all prompts begin with, a system prompt most of all, is computed once. At least one token
    # of every prompt is fed: the next one is predicted from its hidden state.
    alike = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    shared = min(len(list(alike)), min(map(len, prompts)) - 1)
    cache = cache_prefixes(lm, [prompts[0][:shared]]).repeated(len(prompts))
    # Padding stands on the left, so that all prompts end at the last position and the tokens that
    # are written line up; it is masked, and positions count real tokens only.
    longest = max(map(len, prompts))
    blank = [longest - len(prompt) for prompt in prompts]
    fed = [[pad] * n + prompt[shared:] for n, prompt in zip(blank, prompts, strict=True)]
    attended = [[1] * shared + [0] * n + [1] * (longest - shared - n) for n in blank]
    mask = torch.tensor(attended, device=lm.device)
    inputs = torch.tensor(fed, device=lm.device)
    position = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    tokens, ended = [], torch.zeros(len(prompts), dtype=torch.bool, device=lm.device)
    while True:
        out = lm.body(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=position,
            use_cache=True,
            **{CACHE: cache},
        )
        token = next_token(out.last_hidden_state[:, -1])
        # A row that has ended goes on as padding until the last row of the batch has ended too.
        token = torch.where(ended, torch.full_like(token, pad), token)
        tokens.append(token)
        ended |= token == pad
        if len(tokens) >= max_tokens or bool(ended.all()):
            break
        cache, inputs = out[CACHE], token[:, None]
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], 1)
        position = position[:, -1:] + 1
    return [row[: row.index(pad)] if pad in row else row for row in torch.stack(tokens, 1).tolist()]
