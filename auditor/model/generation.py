"""Write completions with a language model, as a teacher or the reference would have."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Generator, Iterator, Sequence

import torch

from auditor.data.example import Message
from auditor.model.chat_template import fold, render, takes_system
from auditor.model.forward import cache_prefixes, last_hidden_states
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
    for numbers in _batches(lm, prompts, order, max_tokens, batch):
        batch_prompts = [list(prompts[i]) for i in numbers]
        yield from zip(numbers, _write(lm, batch_prompts, next_token, max_tokens), strict=True)


def _batches(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    order: Sequence[int],
    max_tokens: int,
    batch: int,
) -> Iterator[list[int]]:
    """The prompts in `order`, at most `batch` at once; of one length where padding would count."""
    # A model whose prefixes are read again is given whole sequences, padded on the right.
    longest = max(map(len, prompts), default=0) + max_tokens
    alike = lm.prefix_caching and longest > lm.padding
    for _, group in itertools.groupby(order, lambda i: len(prompts[i]) if alike else 0):
        numbers = list(group)
        for start in range(0, len(numbers), batch):
            yield numbers[start : start + batch]


def _write(
    lm: LanguageModel,
    prompts: list[list[int]],
    next_token: Callable[[torch.Tensor], torch.Tensor],
    max_tokens: int,
) -> list[list[int]]:
    """What is written after each prompt of a batch, up to the token that ends a turn."""
    ends = torch.tensor(sorted(lm.end_of_turn), device=lm.device)
    states = (_read_on if lm.prefix_caching else _read_again)(lm, prompts)
    hidden_BD = next(states)
    tokens, ended = [], torch.zeros(len(prompts), dtype=torch.bool, device=lm.device)
    while True:
        token = next_token(hidden_BD)
        # A row that has ended goes on as padding until the last row of the batch has ended too.
        token = torch.where(ended, ends[0], token)
        tokens.append(token)
        ended |= torch.isin(token, ends)
        if len(tokens) >= max_tokens or bool(ended.all()):
            break
        hidden_BD = states.send(token)
    return [
        list(itertools.takewhile(lambda token: token not in lm.end_of_turn, row))
        for row in torch.stack(tokens, 1).tolist()
    ]


_States = Generator[torch.Tensor, torch.Tensor, None]
"""Yields the hidden states [B, D] at the end of B sequences; is sent the token [B] after each."""


def _read_on(lm: LanguageModel, prompts: list[list[int]]) -> _States:
    """States by what the body kept of the tokens before."""
    # What all prompts begin with, a system prompt most of all, is computed once. At least one token
    # of every prompt is fed: the next one is predicted from its hidden state.
    alike = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    shared = min(len(list(alike)), min(map(len, prompts)) - 1)
    cache = cache_prefixes(lm, [prompts[0][:shared]]).repeated(len(prompts))
    # Padding stands on the left, so that all prompts end at the last position and the tokens that
    # are written line up; it is masked, and positions count real tokens only.
    longest = max(map(len, prompts))
    blank = [longest - len(prompt) for prompt in prompts]
    fed = [[0] * n + prompt[shared:] for n, prompt in zip(blank, prompts, strict=True)]
    attended = [[1] * shared + [0] * n + [1] * (longest - shared - n) for n in blank]
    mask = torch.tensor(attended, device=lm.device)
    inputs = torch.tensor(fed, device=lm.device)
    position = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    while True:
        # A body with a state counts by itself, and may know no masks.
        masked = {"attention_mask": mask, "position_ids": position} if lm.padding else {}
        out = lm.body(input_ids=inputs, use_cache=True, **{CACHE: cache}, **masked)
        token = yield out.last_hidden_state[:, -1]
        cache, inputs = out[CACHE], token[:, None]
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], 1)
        position = position[:, -1:] + 1


def _read_again(lm: LanguageModel, prompts: list[list[int]]) -> _States:
    """States by reading all of every sequence again for each token."""
    while True:
        token = yield last_hidden_states(lm, prompts)
        prompts = [[*prompt, int(t)] for prompt, t in zip(prompts, token, strict=True)]
