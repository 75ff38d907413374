"""Keys and values of system prompts, computed once and shared by all rows that follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import DynamicLayer

from auditor.model.language_model import CACHE, LanguageModel
from auditor.model.precision import matmul_precision


class Cached(NamedTuple):
    """Keys and values of P prefixes, a row each, padded on the right; None when all are empty.

    lengths: [P].
    """

    cache: Any | None
    lengths: torch.Tensor

    @property
    def paddable(self) -> bool:
        """Whether padding can be masked: not where a model also keeps a state, or a window of the
        last tokens.
        """
        return all(type(layer) is DynamicLayer for layer in getattr(self.cache, "layers", [None]))


def cached_prefixes(lm: LanguageModel, prefixes: Sequence[Sequence[int]]) -> Cached:
    """Keys and values of all `prefixes`, at least one, by one forward pass."""
    longest = max(map(len, prefixes))
    lengths = torch.tensor([len(each) for each in prefixes], device=lm.device)
    if not longest:
        return Cached(None, lengths)
    tokens_PL = torch.tensor(
        [[*each, *[0] * (longest - len(each))] for each in prefixes], device=lm.device
    )
    with matmul_precision(lm):
        return Cached(lm.body(input_ids=tokens_PL, use_cache=True)[CACHE], lengths)


def prefix_cache(lm: LanguageModel, prefix: Sequence[int]) -> Any | None:
    """Keys and values of the prefix for one row; None for an empty prefix."""
    return cached_prefixes(lm, [prefix]).cache


def placed(lengths_B: torch.Tensor, longest: int) -> dict[str, torch.Tensor]:
    """Where rows of `longest` tokens stand after padded prefixes of these lengths, and which of
    those to see.
    """
    row_L = torch.arange(longest, device=lengths_B.device)
    prefix_L = torch.arange(int(lengths_B.max()), device=lengths_B.device)
    seen = (prefix_L < lengths_B[:, None]).long()
    mask = torch.cat([seen, seen.new_ones(len(seen), longest)], 1)
    return {"attention_mask": mask, "position_ids": lengths_B[:, None] + row_L}
