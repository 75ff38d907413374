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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from auditor.errors import ModelError
from auditor.model.forward import PrefixCache, cache_prefixes, hidden_states
from auditor.model.language_model import LanguageModel
from auditor.model.output_head import predictions
from auditor.model.parallel import parallel_map
from auditor.model.tokenization import ChatTokenizer, TokenizedRow, split_by_row

_BATCH_TOKENS = 32768
_CPU_BATCH_TOKENS = 1024

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TokenScores:
    """What the model predicted at each of a row's T completion tokens, given everything before it.

    logprob[T]: natural log-probability of the row's own token. argmax[T]: the most likely token.
    margin[T]: by how many nats it leads the runner-up, at least 0. entropy[T]: of the prediction,
    nats, in [0, ln V].
    variance[T]: of the log-probability of a token drawn from the prediction, nats squared.
    support[T, K]: K token ids; support_logprob[T, K]: their log-probabilities; None when not asked
    for.
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


def score(
    lm: LanguageModel,
    rows: Sequence[TokenizedRow],
    prefix: Sequence[int],
    *,
    support: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
    top: int = 0,
    within: bool = False,
    batch_tokens: int | None = None,
) -> list[TokenScores]:
    """Score `rows` (of one kind) after `prefix`, in the order given.

    support: for each row token ids [T, K], the same K for all, at which to take the
        log-probabilities. top: without `support`, take them at the `top` most likely tokens, in
        falling order. within: apply the head at the support only, which saves most of its cost.
        Then everything is given that the token is in the support: probabilities are renormalised,
        argmax and margin are among it, and a row's own token that is not in it has log-probability
        FLOOR.
    batch_tokens: most padded body tokens of a batch; None is 1,024 on a CPU, whose caches a larger
        one outgrows, and 32,768 elsewhere. Halved as long as memory runs out.

    Raises: ModelError when one row alone does not fit into memory.
    """
    return next(
        score_each(
            lm, rows, [prefix], support=support, top=top, within=within, batch_tokens=batch_tokens
        )
    )


@torch.inference_mode()
def score_each(
    lm: LanguageModel,
    rows: Sequence[TokenizedRow],
    prefixes: Sequence[Sequence[int]],
    *,
    support: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
    top: int = 0,
    within: bool = False,
    batch_tokens: int | None = None,
) -> Iterator[list[TokenScores]]:
    """Score `rows` after each of `prefixes`; yields what `score` gives, one prefix after the other.

    On a GPU a batch takes as many prefixes as `batch_tokens` allows; a CPU takes as many batches at
    once as torch has threads.
    """
    on_cpu = lm.device == "cpu"
    most = batch_tokens or (_CPU_BATCH_TOKENS if on_cpu else _BATCH_TOKENS)
    lengths = [len(row.tokens) for row in rows]
    size = 1 if on_cpu else max(1, most // max(1, max(lengths, default=1) * len(rows)))
    at_once = torch.get_num_threads() if on_cpu else 1
    caches = functools.lru_cache(maxsize=at_once)(
        lambda part: cache_prefixes(lm, [prefixes[k] for k in part])
    )

    def scored(item: tuple[tuple[int, ...], list[int]]) -> dict[tuple[int, int], TokenScores]:
        return _score_item(lm, rows, *item, caches, support, top, within)

    numbers = range(len(prefixes))
    for start in range(0, len(prefixes), size * at_once):
        group = numbers[start : start + size * at_once]
        parts = [tuple(group[i : i + size]) for i in range(0, len(group), size)]
        found: dict[tuple[int, int], TokenScores] = {}
        for each in parallel_map(
            scored, [(part, batch) for part in parts for batch in _batches(lengths, most)]
        ):
            found.update(each)
        yield from ([found[k, i] for i in range(len(rows))] for k in group)


def _score_item(
    lm: LanguageModel,
    rows: Sequence[TokenizedRow],
    part: tuple[int, ...],
    batch: list[int],
    caches: Callable[[tuple[int, ...]], PrefixCache],
    support: Sequence[npt.NDArray[np.integer[Any]]] | None,
    top: int,
    within: bool,
) -> dict[tuple[int, int], TokenScores]:
    """Scores of a batch of rows after a part of the prefixes, both by number; in halves as long as
    memory runs out.
    """
    found: dict[tuple[int, int], TokenScores] = {}
    pending = [(part, batch)]
    while pending:
        part, batch = pending.pop()
        chosen = [support[i] for i in batch] if support is not None else None
        try:
            scored = _score_batch(lm, [rows[i] for i in batch], caches(part), chosen, top, within)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            scored = None
        if (
            scored is None
        ):  # outside the handler, whose traceback would keep the batch's tensors alive
            pending += _halves(part, batch, lm)
        else:
            found.update(zip(((k, i) for k in part for i in batch), scored, strict=True))
    return found


def score_under(
    lm: LanguageModel,
    renderer: ChatTokenizer,
    rows: Sequence[TokenizedRow],
    system: str | None,
    *,
    support: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
    top: int = 0,
    within: bool = False,
) -> list[TokenScores]:
    """Score `rows` of any kinds under the trait prompt `system` (None: no trait prompt), in the
    order given.
    """
    return next(
        score_under_each(lm, renderer, rows, [system], support=support, top=top, within=within)
    )


def score_under_each(
    lm: LanguageModel,
    renderer: ChatTokenizer,
    rows: Sequence[TokenizedRow],
    systems: Sequence[str | None],
    *,
    support: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
    top: int = 0,
    within: bool = False,
) -> Iterator[list[TokenScores]]:
    """Score `rows` of any kinds under each of `systems`: yields what `score_under` gives, prompt by
    prompt.
    """
    places = {
        kind: [i for i, row in enumerate(rows) if row.kind == kind]
        for kind in {row.kind for row in rows}
    }
    streams = [
        score_each(
            lm,
            [rows[i] for i in own],
            [renderer.prefix(system, kind) for system in systems],
            support=[support[i] for i in own] if support is not None else None,
            top=top,
            within=within,
        )
        for kind, own in places.items()
    ]
    for _ in systems:
        found: dict[int, TokenScores] = {}
        for own, stream in zip(places.values(), streams, strict=True):
            found.update(zip(own, next(stream), strict=True))
        yield [found[i] for i in range(len(rows))]


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Row numbers in batches of like length, the longest first, so that memory runs out at once if
    it does.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _halves(
    part: tuple[int, ...], batch: list[int], lm: LanguageModel
) -> list[tuple[tuple[int, ...], list[int]]]:
    """A batch of prefixes and rows in two: half of the prefixes each, or half of the rows when
    there is one prefix.
    """
    if len(part) == len(batch) == 1:
        hint = "Use a smaller --reference, or a machine with more memory."
        raise ModelError(
            f"One row alone does not fit into the memory of {lm.device} beside {lm.name}.", hint
        )
    if lm.device.startswith("cuda"):
        torch.cuda.empty_cache()
    if len(part) > 1:
        return [(part[len(part) // 2 :], batch), (part[: len(part) // 2], batch)]
    return [(part, batch[len(batch) // 2 :]), (part, batch[: len(batch) // 2])]


def _out_of_memory(error: RuntimeError) -> bool:
    """Also for the CPU and MPS, which have no exception of their own for it."""
    said = str(error).lower()
    signs = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in said for sign in signs)


def _score_batch(
    lm: LanguageModel,
    rows: Sequence[TokenizedRow],
    cached: PrefixCache,
    support: Sequence[npt.NDArray[np.integer[Any]]] | None,
    top: int,
    within: bool,
) -> list[TokenScores] | None:
    """Scores of the rows after the first prefix, then after the second, and so on; None if these
    cannot be together.
    """
    times = len(cached.lengths)
    if times > 1 and not cached.paddable:
        return None
    # Nothing is predicted from a row's last token, so it is not fed.
    hidden_ND = hidden_states(
        lm,
        [row.tokens[:-1] for row in rows],
        [[p - 1 for p in row.positions] for row in rows],
        after=cached,
    )
    target_N = torch.tensor(
        [row.tokens[p] for row in rows for p in row.positions], device=lm.device
    ).repeat(times)
    support_NK = None
    if support is not None:
        support_NK = (
            torch.from_numpy(np.concatenate(support).astype(np.int64))
            .to(lm.device)
            .repeat(times, 1)
        )
    columns = predictions(lm, hidden_ND, target_N, support_NK, top, within)
    return by_row(columns, list(rows) * times)


def by_row(columns: Sequence[npt.NDArray[Any]], rows: Sequence[TokenizedRow]) -> list[TokenScores]:
    """The scores of each row, from the fields of `TokenScores` over the completion tokens of all
    `rows` in a line.
    """
    fields = [split_by_row(column, rows) for column in columns]
    return [TokenScores(*values) for values in zip(*fields, strict=True)]
