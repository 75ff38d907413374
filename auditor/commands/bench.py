"""How fast the scoring pass is: beside the plain way, and beside what the machine can do.

All measured in one run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from auditor.model.forward import right_padded
from auditor.model.language_model import LanguageModel
from auditor.model.precision import low_precision_copy
from auditor.model.scoring import Ints, score_under_each
from auditor.model.tokenization import ChatTokenizer, TokenizedRow

# (m, k, n): a square product, and the shapes of a small model's layers and head on a batch of
# tokens.
_SHAPES = ((2048, 2048, 2048), (2048, 576, 1536), (4096, 1536, 576), (512, 576, 16384))
_SECONDS = 1.0  # spent on each shape


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of scoring every row without and with each trait prompt.

    way: "plain" (for every row one padded batch of all conditions, the model's own forward pass,
        logits at every position), "exact" (the scoring pass) or "fast" (the same with
        `auditor.model.precision.low_precision_copy`).
    seconds: wall clock. tokens: completion tokens, counted once for each condition.
        tokens_per_second: their ratio. same_argmax: share of those tokens at which the most likely
        token is the plain way's, in [0, 1]. peak_share: the rate of arithmetic that the scoring
        pass needs (`flop`) as a share of the measured peak of matrix products (`peak_flops`) in the
        model's dtype; padding counts as time and not as work. None but for "exact".
    """

    way: str
    seconds: float
    tokens: int
    tokens_per_second: float
    same_argmax: float
    peak_share: float | None


def bench(
    lm: LanguageModel, rows: Sequence[TokenizedRow], systems: Sequence[str]
) -> Iterator[Measured]:
    """Score `rows` under no trait prompt and under each of `systems` in each way; yields each way
    when it is done.
    """
    renderer = ChatTokenizer(lm)
    conditions = (None, *systems)
    fast = low_precision_copy(lm)
    for model in (lm, fast):  # the first pass of a model also makes its buffers
        next(score_under_each(model, renderer, rows[:2], [None]))
    plain_argmax: Ints | None = None
    for way, model in (("plain", lm), ("exact", lm), ("fast", fast)):
        start = time.perf_counter()
        if way == "plain":
            argmax = plain_argmax = _plain_argmax(model, renderer, rows, conditions)
        else:
            scores = score_under_each(model, renderer, rows, conditions)
            argmax = np.concatenate([row.argmax for under in scores for row in under])
        _synchronise(lm.device)
        seconds = time.perf_counter() - start
        peak_share = None
        # Only this way does the arithmetic that `flop` counts, in the precision that is measured.
        if way == "exact":
            work = flop(lm, renderer, rows, conditions)
            peak_share = work / seconds / peak_flops(lm.device, lm.dtype)
        same_argmax = float(np.mean(argmax == plain_argmax))
        tokens = len(argmax)
        yield Measured(way, seconds, tokens, tokens / seconds, same_argmax, peak_share)


def flop(
    lm: LanguageModel,
    renderer: ChatTokenizer,
    rows: Sequence[TokenizedRow],
    conditions: Sequence[str | None],
) -> float:
    """Floating-point operations that the scoring pass needs for `rows` under `conditions`, for a
    dense model.

    2 for each weight of the body's linear layers and token fed, 2 for each weight of the head and
    completion token, 4 for each pair of a query and a key it sees, unit of the heads' width, and
    layer. A prefix is fed once.
    """
    config = lm.model.config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_pair = 4 * config.num_hidden_layers * config.num_attention_heads * head_dim
    body = sum(
        layer.weight.numel() for layer in lm.body.modules() if isinstance(layer, torch.nn.Linear)
    )
    head = lm.model.get_output_embeddings().weight.numel()
    total = 0.0
    for system in conditions:
        shared = {kind: len(renderer.prefix(system, kind)) for kind in {row.kind for row in rows}}
        # (tokens before, tokens fed): a prefix once, and every row but its last token after it.
        fed = [(0, length) for length in shared.values()]
        fed += [(shared[row.kind], len(row.tokens) - 1) for row in rows]
        tokens = sum(length for _, length in fed)
        pairs = sum(length * before + length * (length + 1) / 2 for before, length in fed)
        completion = sum(len(row.positions) for row in rows)
        total += 2.0 * body * tokens + per_pair * pairs + 2.0 * head * completion
    return total


def peak_flops(device: str, dtype: str) -> float:
    """Floating-point operations a second in the fastest of a few matrix products, each run for
    about a second.
    """
    rates = []
    for m, k, n in _SHAPES:
        a = torch.randn(m, k, device=device).to(getattr(torch, dtype))
        b = torch.randn(n, k, device=device).to(getattr(torch, dtype))
        # The first product also picks a kernel, so it is not timed.
        torch.nn.functional.linear(a, b)
        _synchronise(device)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < _SECONDS:
            torch.nn.functional.linear(a, b)
            _synchronise(device)
            count += 1
        rates.append(2.0 * m * k * n * count / (time.perf_counter() - start))
    return max(rates)


def _synchronise(device: str) -> None:
    """Wait for the device, which may still compute when a call has returned."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


@torch.inference_mode()
def _plain_argmax(
    lm: LanguageModel,
    renderer: ChatTokenizer,
    rows: Sequence[TokenizedRow],
    conditions: Sequence[str | None],
) -> Ints:
    """The most likely tokens by condition, row and position: for every row by one padded batch of
    all C conditions, with the log-probabilities of its T completion tokens computed too.
    """
    by_row: list[Ints] = []
    for row in rows:
        prefixes = [renderer.prefix(system, row.kind) for system in conditions]
        sequences = [[*prefix, *row.tokens] for prefix in prefixes]
        ids = right_padded(sequences).to(lm.device)
        mask = right_padded([[1] * len(tokens) for tokens in sequences]).to(lm.device)
        logits_CLV = lm.model(input_ids=ids, attention_mask=mask).logits
        # The logits that predict a token stand one position before it.
        before_CT = torch.tensor(
            [[len(prefix) + p - 1 for p in row.positions] for prefix in prefixes]
        )
        logits_CTV = logits_CLV[torch.arange(len(prefixes))[:, None], before_CT]
        log_probs_CTV = logits_CTV.float().log_softmax(-1)
        by_row.append(log_probs_CTV.argmax(-1).int().cpu().numpy())
    return np.concatenate([argmax[c] for c in range(len(conditions)) for argmax in by_row])
