"""The body's forward pass over rows padded on the right, after prefixes that are computed once.

Causal attention cannot see padding on the right, so a padded row gets the hidden states that it
would get alone, up to float noise. The keys and values of a prefix (a system prompt) are computed
once and shared by all rows that follow it.

Shapes: P prefixes, B rows, L tokens of the longest row, N positions of all rows, D hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicLayer

from auditor.model.language_model import CACHE, LanguageModel
from auditor.model.precision import matmul_precision


class PrefixCache(NamedTuple):
    """Keys and values of P prefixes, a row each, padded on the right; None when all are empty.

    lengths: [P] tokens of each prefix.
    """

    cache: Cache | None
    lengths: torch.Tensor

    @property
    def paddable(self) -> bool:
        """Whether padding of the prefixes can be masked: not where a model also keeps a state, or a
        window of the last tokens.
        """
        return all(type(layer) is DynamicLayer for layer in getattr(self.cache, "layers", [None]))

    def repeated(self, rows: int) -> Cache | None:
        """A copy with each prefix standing `rows` times, to be followed by that many rows."""
        if self.cache is None:
            return None
        cache = copy.deepcopy(self.cache)  # the forward pass appends to the cache it is given
        cache.batch_repeat_interleave(rows)
        return cache


def right_padded(sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """[B, L] The token ids of all sequences, each followed by zeros up to the longest."""
    longest = max(map(len, sequences))
    return torch.tensor(
        [[*tokens, *[0] * (longest - len(tokens))] for tokens in sequences], dtype=torch.long
    )


def length_batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Numbers of sequences in batches of at most `most` padded tokens, or of one sequence."""
    # The longest come first, so that a batch is of like lengths and memory runs out at once if it
    # does.
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def cache_prefixes(lm: LanguageModel, prefixes: Sequence[Sequence[int]]) -> PrefixCache:
    """Keys and values of all `prefixes`, at least one, by one forward pass."""
    lengths = torch.tensor([len(prefix) for prefix in prefixes], device=lm.device)
    if not any(prefixes):
        return PrefixCache(None, lengths)
    tokens_PL = right_padded(prefixes).to(lm.device)
    with matmul_precision(lm):
        return PrefixCache(lm.body(input_ids=tokens_PL, use_cache=True)[CACHE], lengths)


def hidden_states(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]],
    *,
    after: PrefixCache | None = None,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Output of the body at `positions` of each of B sequences, in a line: [N, D].

    after: P prefixes, each of which all sequences follow: [P * N, D], one prefix after the other.
    attention_mask: [B, L], for a caller that wants the padding masked although nothing sees it.
    The output at position p - 1 predicts the token at p.
    """
    tokens_BL = right_padded(sequences)
    # A body that knows no positions of its own takes no `position_ids`, not even None.
    inputs = {} if attention_mask is None else {"attention_mask": attention_mask}
    prefixes, cache = 1, None
    if after is not None:
        prefixes, cache = len(after.lengths), after.repeated(len(sequences))
        if prefixes > 1:
            # Prefixes of different lengths are padded: each row counts its positions from the end
            # of its own prefix and does not attend to the padding.
            lengths = after.lengths.repeat_interleave(len(sequences))[:, None]
            in_prefix = torch.arange(int(lengths.max()), device=lm.device) < lengths
            row_L = torch.arange(tokens_BL.shape[1], device=lm.device)
            in_row = torch.ones(len(lengths), len(row_L), dtype=torch.bool, device=lm.device)
            inputs["attention_mask"] = torch.cat([in_prefix, in_row], 1).long()
            inputs["position_ids"] = lengths + row_L
    with matmul_precision(lm):
        output = lm.body(
            input_ids=tokens_BL.to(lm.device).repeat(prefixes, 1),
            use_cache=cache is not None,
            **{CACHE: cache},
            **inputs,
        )
    hidden_PBLD: torch.Tensor = output.last_hidden_state.unflatten(0, (prefixes, len(sequences)))
    row_N = [i for i, selected in enumerate(positions) for _ in selected]
    position_N = [position for selected in positions for position in selected]
    return hidden_PBLD[:, row_N, position_N].flatten(0, 1)


def last_hidden_states(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    *,
    after: PrefixCache | None = None,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Output [B, D] at the last token of each sequence; options as for `hidden_states`."""
    last = [[len(tokens) - 1] for tokens in sequences]
    return hidden_states(lm, sequences, last, after=after, attention_mask=attention_mask)
