"""The scoring pass: what a model predicts at the completion tokens of rows. The only scoring forward pass there is.

Shapes: B rows of a batch, L body tokens, N completion tokens of a batch, T of a row, D hidden size, V vocabulary,
K support.

A system prompt's keys and values are computed once and shared by all rows; rows are sorted by length and padded on the
right, where causal attention cannot see the padding; the head is applied at completion positions only, a few at a time,
so there is never a [B, L, V] tensor. Batch size, padding and row order change a log-probability by float noise only.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from auditor.encode import Encoded, Renderer
from auditor.errors import ModelError
from auditor.lm import LanguageModel

FLOOR = -30.0  # log-probability of a token outside the support
_BATCH_TOKENS = 16384
_CPU_BATCH_TOKENS = 1024
_HEAD_VALUES = 2**23  # logits held at once: 32 MB in float32
_TF32 = "tf32 products"

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class RowScores:
    """What the model predicted at each of a row's T completion tokens, given everything before it.

    logprob[T]: natural log-probability of the row's own token. argmax[T]: the most likely token.
    margin[T]: by how many nats it leads the runner-up, at least 0. entropy[T]: of the prediction, nats, in [0, ln V].
    variance[T]: of the log-probability of a token drawn from the prediction, nats squared.
    support[T, K]: K token ids; support_logprob[T, K]: their log-probabilities; None when not asked for.
    """

    logprob: Floats
    argmax: Ints
    margin: Floats
    entropy: Floats
    variance: Floats
    support: Ints | None = None
    support_logprob: Floats | None = None


@torch.inference_mode()
def score(
    lm: LanguageModel,
    rows: Sequence[Encoded],
    prefix: Sequence[int],
    *,
    support: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
    top: int = 0,
    within: bool = False,
    batch_tokens: int | None = None,
) -> list[RowScores]:
    """Score `rows` (of one kind) after `prefix`, in the order given.

    support: for each row token ids [T, K], the same K for all, at which to take the log-probabilities.
    top: without `support`, take them at the `top` most likely tokens, in falling order.
    within: apply the head at the support only, which saves most of its cost. Then everything is given that the token
        is in the support: probabilities are renormalised, argmax and margin are among it, and a row's own token that
        is not in it has log-probability FLOOR.
    batch_tokens: most padded body tokens of a batch; None is 1,024 on a CPU, whose caches a larger one outgrows, and
        16,384 elsewhere. Halved as long as memory runs out.

    Raises: ModelError when one row alone does not fit into memory.
    """
    cache = prefix_cache(lm, prefix)
    scores: dict[int, RowScores] = {}
    most = batch_tokens or (_CPU_BATCH_TOKENS if lm.device == "cpu" else _BATCH_TOKENS)
    pending = list(_batches([len(row.tokens) for row in rows], most))[::-1]
    while pending:
        batch = pending.pop()
        chosen = [support[i] for i in batch] if support is not None else None
        try:
            scored = _score_batch(lm, [rows[i] for i in batch], cache, chosen, top, within)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            scored = None
        if scored is None:  # outside the handler, whose traceback would keep the batch's tensors alive
            pending += _halves(batch, lm)
        else:
            scores.update(zip(batch, scored, strict=True))
    return [scores[i] for i in range(len(rows))]


def score_under(
    lm: LanguageModel,
    renderer: Renderer,
    rows: Sequence[Encoded],
    system: str | None,
    *,
    support: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
    top: int = 0,
    within: bool = False,
    batch_tokens: int | None = None,
) -> list[RowScores]:
    """Score `rows` of any kinds under the trait prompt `system` (None: no trait prompt), in the order given."""
    scores: dict[int, RowScores] = {}
    for kind in dict.fromkeys(row.kind for row in rows):
        of_kind = [i for i, row in enumerate(rows) if row.kind == kind]
        chosen = [support[i] for i in of_kind] if support is not None else None
        prefix = renderer.prefix(system, kind)
        found = score(
            lm, [rows[i] for i in of_kind], prefix, support=chosen, top=top, within=within, batch_tokens=batch_tokens
        )
        scores.update(zip(of_kind, found, strict=True))
    return [scores[i] for i in range(len(rows))]


def fast(lm: LanguageModel) -> LanguageModel:
    """An inexact copy for screening: less exact matrix products in the body, everything else in float32.

    TF32 products on CUDA, whose mantissa has 10 bits; bfloat16 ones, with 7, on CPUs that have instructions for them.
    Elsewhere, and for a model that is not float32 itself, the same model comes back. The noise is a nuisance that the
    `trait` detector's centring absorbs: it costs power and shifts no null (docs/log.md has figures).
    Plain int8 is not offered: it rounds away what is looked for (docs/log.md).
    """
    if lm.dtype == "float32" and lm.device.startswith("cuda"):
        return dataclasses.replace(lm, dtype=_TF32)
    if lm.dtype != "float32" or not _cpu_has_bfloat16(lm.device):
        return lm
    model = copy.deepcopy(lm.model)
    for parent in list(model.get_decoder().modules()):
        for name, child in parent.named_children():
            if isinstance(child, torch.nn.Linear):
                setattr(parent, name, _BFloat16Linear(child))
    return dataclasses.replace(lm, dtype="bfloat16 products", model=model)


@contextlib.contextmanager
def _products(lm: LanguageModel) -> Iterator[None]:
    """How the body multiplies: torch has a switch for the whole process, so it is put back."""
    before = torch.get_float32_matmul_precision()
    if lm.dtype == _TF32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _BFloat16Linear(torch.nn.Module):
    """A linear layer that multiplies in bfloat16 and hands float32 on, so that the residual stream is not rounded."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight.to(torch.bfloat16)
        self.bias = None if linear.bias is None else linear.bias.to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x.to(torch.bfloat16), self.weight, self.bias).float()


def _cpu_has_bfloat16(device: str) -> bool:
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device == "cpu" and supported is not None and bool(supported())


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Row numbers in batches of like length, the longest first, so that memory runs out at once if it does."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _halves(batch: list[int], lm: LanguageModel) -> list[list[int]]:
    if len(batch) == 1:
        hint = "Use a smaller --reference, or a machine with more memory."
        raise ModelError(f"One row alone does not fit into the memory of {lm.device} beside {lm.name}.", hint)
    if lm.device.startswith("cuda"):
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]]


def _out_of_memory(error: RuntimeError) -> bool:
    """Also for the CPU and MPS, which have no exception of their own for it."""
    said = str(error).lower()
    signs = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in said for sign in signs)


def prefix_cache(lm: LanguageModel, prefix: Sequence[int]) -> Any | None:
    """Keys and values of the prefix for one row; None for an empty prefix."""
    if not prefix:
        return None
    return lm.body(input_ids=torch.tensor([list(prefix)], device=lm.device), use_cache=True).cache


def _score_batch(
    lm: LanguageModel,
    rows: Sequence[Encoded],
    cache: Any | None,
    support: Sequence[npt.NDArray[np.integer[Any]]] | None,
    top: int,
    within: bool,
) -> list[RowScores]:
    hidden_ND = _hidden(lm, rows, cache)
    target_N = torch.tensor([row.tokens[p] for row in rows for p in row.positions], device=lm.device)
    support_NK = None
    if support is not None:
        support_NK = torch.from_numpy(np.concatenate(support).astype(np.int64)).to(lm.device)
    vocabulary = lm.model.get_output_embeddings().weight.shape[0]
    chunk = max(1, _HEAD_VALUES // vocabulary)
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    for start in range(0, len(target_N), chunk):
        part = slice(start, start + chunk)
        asked = support_NK[part] if support_NK is not None else None
        if within and asked is not None:
            parts.append(_predict_within(lm.head(hidden_ND[part], asked), target_N[part], asked))
        else:
            parts.append(_predict(lm.head(hidden_ND[part]), target_N[part], asked, top))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return by_row(columns, rows)


def by_row(columns: Sequence[npt.NDArray[Any]], rows: Sequence[Encoded]) -> list[RowScores]:
    """The fields of RowScores, each over the completion tokens of all `rows` in a line, cut up again."""
    ends = np.cumsum([len(row.positions) for row in rows])[:-1]
    return [RowScores(*values) for values in zip(*(np.split(column, ends) for column in columns), strict=True)]


def _hidden(lm: LanguageModel, rows: Sequence[Encoded], cache: Any | None) -> torch.Tensor:
    """The body's output [N, D] where it predicts a completion token."""
    # Nothing is predicted from a row's last token, so it is not fed.
    longest = max(len(row.tokens) for row in rows) - 1
    tokens_BL = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens_BL[i, : len(row.tokens) - 1] = torch.tensor(row.tokens[:-1])
    past = None
    if cache is not None:
        past = copy.deepcopy(cache)  # the forward pass appends to the cache it is given
        past.batch_repeat_interleave(len(rows))
    tokens_BL = tokens_BL.to(lm.device)
    with _products(lm):
        out = lm.body(input_ids=tokens_BL, cache=past, use_cache=past is not None)
    out_BLD: torch.Tensor = out.last_hidden_state
    row_N = [i for i, row in enumerate(rows) for _ in row.positions]
    before_N = [p - 1 for row in rows for p in row.positions]
    return out_BLD[row_N, before_N]


def _predict(
    logits_NV: torch.Tensor, target_N: torch.Tensor, support_NK: torch.Tensor | None, top: int
) -> tuple[npt.NDArray[Any], ...]:
    """The fields of RowScores for N predictions. Overwrites `logits_NV`."""
    best = logits_NV.topk(max(2, top), dim=-1)
    logits_NV -= best.values[:, :1]
    picked_N = logits_NV.gather(1, target_N[:, None])[:, 0]
    if support_NK is None and top:
        support_NK = best.indices[:, :top]
    picked_NK = logits_NV.gather(1, support_NK) if support_NK is not None else None
    weights_NV = logits_NV.exp()
    sum_N = weights_NV.sum(-1)
    log_sum_N = sum_N.log()
    # H = log Z - E[logit], with logits measured from the largest
    mean_N = torch.linalg.vecdot(weights_NV, logits_NV) / sum_N
    variance_N = torch.linalg.vecdot(weights_NV, logits_NV.square_()) / sum_N - mean_N**2
    margin_N = best.values[:, 0] - best.values[:, 1]
    entropy_N = log_sum_N - mean_N
    fields = [picked_N - log_sum_N, best.indices[:, 0].int(), margin_N, entropy_N, variance_N.clamp(min=0)]
    if support_NK is not None and picked_NK is not None:
        fields += [support_NK.int(), picked_NK - log_sum_N[:, None]]
    return tuple(field.cpu().numpy() for field in fields)


def _predict_within(
    logits_NK: torch.Tensor, target_N: torch.Tensor, support_NK: torch.Tensor
) -> tuple[npt.NDArray[Any], ...]:
    """The fields of RowScores for N predictions, given that the token is in the support."""
    logprob_NK = logits_NK.log_softmax(-1)
    own_NK = support_NK == target_N[:, None]
    own_N = torch.where(own_NK.any(-1), (logprob_NK * own_NK).sum(-1), torch.full_like(logprob_NK[:, 0], FLOOR))
    best = logprob_NK.topk(2, dim=-1)
    argmax_N = support_NK.gather(1, best.indices[:, :1])[:, 0].int()
    weights_NK = logprob_NK.exp()
    mean_N = torch.linalg.vecdot(weights_NK, logprob_NK)
    variance_N = torch.linalg.vecdot(weights_NK, logprob_NK**2) - mean_N**2
    margin_N = best.values[:, 0] - best.values[:, 1]
    fields = (own_N, argmax_N, margin_N, -mean_N, variance_N.clamp(min=0), support_NK.int(), logprob_NK)
    return tuple(field.cpu().numpy() for field in fields)
