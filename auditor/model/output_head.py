"""The head of a model at the completion positions: what is predicted there.

Shapes: N completion tokens, D hidden size, V vocabulary, K support.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from auditor.model.language_model import LanguageModel

Values = npt.NDArray[np.generic]

# Log-probability of a token outside the support.
FLOOR = -30.0
# Numbers held at once: 256 MB in float32; on a CPU 32 MB, since its caches are small.
_VALUES = 2**26
_CPU_VALUES = 2**23


def predictions(
    lm: LanguageModel,
    hidden_ND: torch.Tensor,
    target_N: torch.Tensor,
    support_NK: torch.Tensor | None,
    top: int,
    within: bool,
) -> list[Values]:
    """The fields of `auditor.model.scoring.TokenScores`, each over all N tokens.

    `support`, `top`, `within`: as in `score`.
    """
    values = lm.model.get_output_embeddings().weight.shape[0]
    if within and support_NK is not None:
        values = support_NK.shape[1] * hidden_ND.shape[1]
    chunk = max(1, (_CPU_VALUES if lm.device == "cpu" else _VALUES) // values)
    parts: list[list[Values]] = []
    for start in range(0, len(target_N), chunk):
        hidden = hidden_ND[start : start + chunk]
        target = target_N[start : start + chunk]
        support = None if support_NK is None else support_NK[start : start + chunk]
        if within and support is not None:
            fields = _predict_within(lm.head(hidden, support), target, support)
        else:
            fields = _predict(lm.head(hidden), target, support, top)
        parts.append([field.cpu().numpy() for field in fields])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _predict(
    logits_NV: torch.Tensor, target_N: torch.Tensor, support_NK: torch.Tensor | None, top: int
) -> list[torch.Tensor]:
    """The fields of TokenScores for N predictions. Overwrites `logits_NV`."""
    best = logits_NV.topk(max(2, top), dim=-1)
    # In place, and from the largest, so that memory is not doubled and exp cannot overflow.
    logits_NV -= best.values[:, :1]
    target_logit_N = logits_NV.gather(1, target_N[:, None])[:, 0]
    if support_NK is None and top:
        support_NK = best.indices[:, :top]
    # Taken before the logits are squared in place below.
    support_logit_NK = logits_NV.gather(1, support_NK) if support_NK is not None else None
    weights_NV = logits_NV.exp()
    sum_N = weights_NV.sum(-1)
    log_sum_N = sum_N.log()
    # H = log Z - E[logit], with logits measured from the largest
    mean_N = torch.linalg.vecdot(weights_NV, logits_NV) / sum_N
    variance_N = torch.linalg.vecdot(weights_NV, logits_NV.square_()) / sum_N - mean_N**2
    fields = [
        target_logit_N - log_sum_N,
        best.indices[:, 0].int(),
        best.values[:, 0] - best.values[:, 1],
        log_sum_N - mean_N,
        # A difference of two nearly equal numbers may fall below 0 by rounding.
        variance_N.clamp(min=0),
    ]
    if support_NK is not None and support_logit_NK is not None:
        fields += [support_NK.int(), support_logit_NK - log_sum_N[:, None]]
    return fields


def _predict_within(
    logits_NK: torch.Tensor, target_N: torch.Tensor, support_NK: torch.Tensor
) -> list[torch.Tensor]:
    """The fields of TokenScores for N predictions, given that the token is in the support."""
    logprob_NK = logits_NK.log_softmax(-1)
    is_target_NK = support_NK == target_N[:, None]
    target_logprob_N = torch.where(
        is_target_NK.any(-1),
        (logprob_NK * is_target_NK).sum(-1),
        torch.full_like(logprob_NK[:, 0], FLOOR),
    )
    best = logprob_NK.topk(2, dim=-1)
    weights_NK = logprob_NK.exp()
    mean_N = torch.linalg.vecdot(weights_NK, logprob_NK)
    variance_N = torch.linalg.vecdot(weights_NK, logprob_NK**2) - mean_N**2
    return [
        target_logprob_N,
        # The best entry is an index into the support, and its token is what is reported.
        support_NK.gather(1, best.indices[:, :1])[:, 0].int(),
        best.values[:, 0] - best.values[:, 1],
        -mean_N,
        variance_N.clamp(min=0),
        support_NK.int(),
        logprob_NK,
    ]
