"""The scoring pass: what a model predicts at the completion tokens of rows. The only scoring
forward pass there is.

Shapes: P prefixes and B rows of a batch, L body tokens, N completion tokens of the rows, T of a
row, D hidden size, V vocabulary, K support.

A system prompt's keys and values are computed once and shared by all rows; rows are sorted by
length and padded on the right, where causal attention cannot see the padding; the head is applied
at completion positions only, a few at a time, so there is never a [B, L, V] tensor. A few rows do
not fill a GPU, so there they are scored after several prefixes at once; a CPU scores several
batches at once. Batch size, padding, row order, the other prefixes and the number of threads change
a log-probability by float noise only.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from auditor.errors import ModelError
from auditor.model.forward import PrefixCache, cache_prefixes, hidden_states, length_batches
from auditor.model.language_model import LanguageModel
from auditor.model.output_head import Values, predictions
from auditor.model.parallel import parallel_map
from auditor.model.tokenization import ChatTokenizer, Kind, TokenizedRow, split_by_row

LOG = logging.getLogger(__name__)

# Padded body tokens of a batch: enough to fill a GPU; a CPU's caches are outgrown by more than
# 1,024 (docs/log.md, "Batches").
_BATCH_TOKENS = 32768
_CPU_BATCH_TOKENS = 1024

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Support = Sequence[npt.NDArray[np.integer]]
"""For each row the token ids [T, K] at which log-probabilities are taken."""

_Item = tuple[tuple[int, ...], list[int]]
"""Prefixes and rows that one pass takes together, by number."""


@dataclass(frozen=True)
class TokenScores:
    """What the model predicted at each of a row's T completion tokens, given everything before it.

    logprob[T]: natural log-probability of the row's own token. argmax[T]: the most likely token.
    margin[T]: by how many nats it leads the runner-up, at least 0. entropy[T]: of the prediction,
    nats, in [0, ln V]. variance[T]: of the log-probability of a token drawn from the prediction,
    nats squared. support[T, K]: K token ids; support_logprob[T, K]: their log-probabilities; None
    when not asked for.
    """

    logprob: Floats
    argmax: Ints
    margin: Floats
    entropy: Floats
    variance: Floats
    support: Ints | None = None
    support_logprob: Floats | None = None

    @property
    def token_support(self) -> Ints:
        """The support [T, K]. Raises ValueError where none was asked for."""
        if self.support is None:
            raise ValueError("scores were taken without a support")
        return self.support


@torch.inference_mode()
def score_each(
    lm: LanguageModel,
    rows: Sequence[TokenizedRow],
    prefixes: Sequence[Sequence[int]],
    *,
    support: Support | None = None,
    top: int = 0,
    within: bool = False,
    batch_tokens: int | None = None,
) -> Iterator[list[TokenScores]]:
    """Score `rows` (of one kind) after each of `prefixes`; yields the scores of all rows, in the
    order given, one prefix after the other.

    support: for each row token ids [T, K], the same K for all, at which to take the
        log-probabilities.
    top: without `support`, take them at the `top` most likely tokens, in falling order.
    within: apply the head at the support only, which saves most of its cost. Everything is then
        given that the token is in the support: probabilities are renormalised, argmax and margin
        are among it, and a row's token that is not in it has log-probability FLOOR.
    batch_tokens: most padded body tokens of a batch; None is 1,024 on a CPU, whose caches a larger
        one outgrows, and 32,768 elsewhere. Batches are halved as long as memory runs out.

    On a GPU a batch takes as many prefixes as `batch_tokens` allows; a CPU takes as many batches at
    once as torch has threads.

    Raises: ModelError when one row alone does not fit into memory.
    """
    on_cpu = lm.device == "cpu"
    most = batch_tokens or (_CPU_BATCH_TOKENS if on_cpu else _BATCH_TOKENS)
    longest_prefix = max(map(len, prefixes), default=0)
    # Where prefixes cannot be kept, they are read again with every row.
    lengths = [len(row.tokens) + longest_prefix * (not lm.prefix_caching) for row in rows]
    longest = max(lengths, default=1)
    # Several prefixes at once are padded to the longest.
    alone = on_cpu or longest_prefix + longest > lm.padding
    prefixes_together = 1 if alone else max(1, most // max(1, longest * len(rows)))
    threads = torch.get_num_threads() if on_cpu else 1
    LOG.debug("scoring %d rows after %d prefixes under %s", len(rows), len(prefixes), lm.name)

    # As many groups of prefixes are at work at once as there are threads, so no more are kept.
    @functools.lru_cache(maxsize=threads)
    def caches(group: tuple[int, ...]) -> PrefixCache:
        return cache_prefixes(lm, [prefixes[k] for k in group])

    def score_item(item: _Item) -> dict[tuple[int, int], TokenScores]:
        """Scores of a batch of rows after a group of prefixes, by the numbers of both."""
        scores: dict[tuple[int, int], TokenScores] = {}
        pending = [item]
        while pending:
            group, batch = pending.pop()
            in_batch = [rows[i] for i in batch]
            at = None if support is None else [support[i] for i in batch]
            try:
                results = _score_batch(lm, in_batch, caches(group), at, top, within)
            except RuntimeError as error:
                # The CPU and MPS have no exception of their own for memory that ran out.
                signs = ("out of memory", "not enough memory", "can't allocate memory")
                if not any(sign in str(error).lower() for sign in signs):
                    raise
                results = None
            # The batch is halved outside the handler, whose traceback would keep its tensors alive.
            if results is None:
                LOG.debug("%d rows after %d prefixes are halved", len(batch), len(group))
                pending += _halves(group, batch, lm)
            else:
                pairs = [(k, i) for k in group for i in batch]
                scores.update(zip(pairs, results, strict=True))
        return scores

    batches = list(length_batches(lengths, most))
    # The scores of a few prefixes at a time are kept, since those of all may not fit into memory.
    for start in range(0, len(prefixes), prefixes_together * threads):
        stop = min(len(prefixes), start + prefixes_together * threads)
        groups = [
            tuple(range(first, min(first + prefixes_together, stop)))
            for first in range(start, stop, prefixes_together)
        ]
        scores: dict[tuple[int, int], TokenScores] = {}
        for results in parallel_map(score_item, list(itertools.product(groups, batches))):
            scores.update(results)
        for k in range(start, stop):
            yield [scores[k, i] for i in range(len(rows))]


def score_under(
    lm: LanguageModel,
    renderer: ChatTokenizer,
    rows: Sequence[TokenizedRow],
    system: str | None,
    *,
    support: Support | None = None,
    top: int = 0,
    within: bool = False,
) -> list[TokenScores]:
    """Score `rows` of any kinds, in their order, under the trait prompt `system`, if not None."""
    stream = score_under_each(lm, renderer, rows, [system], support=support, top=top, within=within)
    return next(stream)


def score_under_each(
    lm: LanguageModel,
    renderer: ChatTokenizer,
    rows: Sequence[TokenizedRow],
    systems: Sequence[str | None],
    *,
    support: Support | None = None,
    top: int = 0,
    within: bool = False,
) -> Iterator[list[TokenScores]]:
    """Yield the scores that `score_under` gives, prompt by prompt."""
    # The prefix depends on the kind of row, so rows of one kind are scored together.
    by_kind: dict[Kind, list[int]] = {}
    for i, row in enumerate(rows):
        by_kind.setdefault(row.kind, []).append(i)
    streams = [
        score_each(
            lm,
            [rows[i] for i in indices],
            [renderer.prefix(system, kind) for system in systems],
            support=None if support is None else [support[i] for i in indices],
            top=top,
            within=within,
        )
        for kind, indices in by_kind.items()
    ]
    for _ in systems:
        scores: dict[int, TokenScores] = {}
        for indices, stream in zip(by_kind.values(), streams, strict=True):
            scores.update(zip(indices, next(stream), strict=True))
        yield [scores[i] for i in range(len(rows))]


def _halves(group: tuple[int, ...], batch: list[int], lm: LanguageModel) -> list[_Item]:
    """A batch in two, by its prefixes, or by its rows when there is one prefix."""
    if len(group) == len(batch) == 1:
        message = f"One row alone does not fit into the memory of {lm.device} beside {lm.name}."
        hint = "Use a smaller --reference, or a machine with more memory."
        raise ModelError(message, hint)
    if lm.device.startswith("cuda"):
        # Blocks that torch keeps for reuse are of the old size and would not fit the halves.
        torch.cuda.empty_cache()
    if len(group) > 1:
        return [(group[len(group) // 2 :], batch), (group[: len(group) // 2], batch)]
    return [(group, batch[len(batch) // 2 :]), (group, batch[: len(batch) // 2])]


def _score_batch(
    lm: LanguageModel,
    rows: Sequence[TokenizedRow],
    prefixes: PrefixCache,
    support: Support | None,
    top: int,
    within: bool,
) -> list[TokenScores]:
    """Scores of the rows after the first prefix, then after the second, and so on."""
    repeats = len(prefixes.prefixes)
    # Nothing is predicted from a row's last token, so it is not fed.
    hidden_ND = hidden_states(
        lm,
        [row.tokens[:-1] for row in rows],
        [[p - 1 for p in row.positions] for row in rows],
        after=prefixes,
    )
    target_N = torch.from_numpy(np.concatenate([row.targets for row in rows])).to(lm.device)
    support_NK = None
    if support is not None:
        support_NK = torch.from_numpy(np.concatenate(support).astype(np.int64)).to(lm.device)
        support_NK = support_NK.repeat(repeats, 1)
    columns = predictions(lm, hidden_ND, target_N.repeat(repeats), support_NK, top, within)
    return by_row(columns, list(rows) * repeats)


def by_row(columns: Sequence[Values], rows: Sequence[TokenizedRow]) -> list[TokenScores]:
    """The scores of each row, from the fields of `TokenScores` over the completion tokens of all
    `rows` in a line.
    """
    fields = [split_by_row(column, rows) for column in columns]
    return [TokenScores(*values) for values in zip(*fields, strict=True)]


def pack_scores(scores: Sequence[TokenScores]) -> dict[str, npt.NDArray[Any]]:
    """The scores of rows as arrays over the completion tokens of all of them, by field; a field
    that was not asked for is left out. `unpack_scores` reads them.
    """
    return {
        field.name: np.concatenate([getattr(row, field.name) for row in scores])
        for field in fields(TokenScores)
        if getattr(scores[0], field.name) is not None
    }


def unpack_scores(
    arrays: Mapping[str, npt.NDArray[Any]], rows: Sequence[TokenizedRow]
) -> list[TokenScores]:
    """The scores of `rows` that `pack_scores` packed."""
    return by_row(
        [arrays[field.name] for field in fields(TokenScores) if field.name in arrays], rows
    )
