"""The body's forward pass over rows padded on the right, after prefixes that are computed once.

A causal model cannot see padding on the right, so a padded row gets the hidden states that it
would get alone, up to float noise. The keys and values of a prefix (a system prompt), or the state
that a recurrent layer is left in, are computed once and shared by all rows that follow it. Where a
body cannot go on from what it kept, the prefix is read again with every row.

Shapes: P prefixes, B rows, L tokens of the longest row, N positions of all rows, D hidden size.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache

from auditor.errors import ModelError
from auditor.model.language_model import CACHE, LanguageModel
from auditor.model.precision import matmul_precision

LOG = logging.getLogger(__name__)

# Mean deviation of hidden states, as a share of their mean size, that is still rounding.
_ROUNDING = {"float32": 1e-4}
_ROUNDING_OF_SHORT = 0.05  # of bfloat16 and float16


class PrefixCache(NamedTuple):
    """P prefixes, and what the body kept of them.

    cache: keys and values or states, a row each, padded on the right; None when all prefixes are
    empty, and when the body cannot go on from them. lengths: [P] tokens of each prefix.
    """

    prefixes: tuple[tuple[int, ...], ...]
    cache: Cache | None
    lengths: torch.Tensor

    def repeated(self, rows: int) -> Cache | None:
        """A copy with each prefix standing `rows` times, to be followed by that many rows."""
        if self.cache is None:
            return None
        cache = copy.deepcopy(self.cache)  # the forward pass appends to the cache it is given
        # The way of beam search, which layers with a state have too.
        numbers: Any = torch.arange(len(self.prefixes)).repeat_interleave(rows)
        cache.reorder_cache(numbers)
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
    """What the body keeps of all `prefixes`, at least one, by one forward pass."""
    lengths = torch.tensor([len(prefix) for prefix in prefixes], device=lm.device)
    kept = tuple(map(tuple, prefixes))
    if not lm.prefix_caching or not any(prefixes):
        return PrefixCache(kept, None, lengths)
    tokens_PL = right_padded(prefixes).to(lm.device)
    with matmul_precision(lm):
        return PrefixCache(kept, lm.body(input_ids=tokens_PL, use_cache=True)[CACHE], lengths)


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
    if after is not None and after.cache is None:
        prefixed = [(*prefix, *tokens) for prefix in after.prefixes for tokens in sequences]
        shifted = [
            [len(prefix) + position for position in selected]
            for prefix in after.prefixes
            for selected in positions
        ]
        return hidden_states(lm, prefixed, shifted)
    tokens_BL = right_padded(sequences)
    # A body that knows no positions of its own takes no `position_ids`, not even None.
    inputs: dict[str, Any] = {}
    if attention_mask is not None:
        inputs["attention_mask"] = attention_mask
    prefixes = 1
    if after is not None:
        prefixes, inputs[CACHE] = len(after.prefixes), after.repeated(len(sequences))
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
            use_cache=after is not None,
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


@torch.inference_mode()
def probed(lm: LanguageModel, tokens: Sequence[int]) -> LanguageModel:
    """`lm` with what no configuration tells of its body: `prefix_caching` and `padding`.

    tokens: at least 16 ids of any text, to try it on.
    Raises: ModelError where a token's prediction depends on what comes after it.
    """
    tokens, long = tuple(tokens), 8
    rounding = _ROUNDING.get(lm.dtype, _ROUNDING_OF_SHORT)
    # Prefix caching is taken for granted while it is tried.
    lm = dataclasses.replace(lm, prefix_caching=True)

    def read(row: tuple[int, ...], after: PrefixCache | None = None) -> torch.Tensor:
        """Outputs at `row` and at the beginning of it, which is padded: [P * (2 L - 4), D]."""
        rows = [row, row[:-4]]
        return hidden_states(lm, rows, [range(len(each)) for each in rows], after=after)

    def both(alone_LD: torch.Tensor) -> torch.Tensor:
        return torch.cat([alone_LD, alone_LD[:-4]])

    whole_LD = hidden_states(lm, [tokens], [range(len(tokens))])
    if _deviation(read(tokens), both(whole_LD)) > 10 * rounding:
        raise ModelError(
            f"What {lm.name} predicts of a token depends on the tokens after it.",
            "Its architecture is not supported; choose another --reference.",
        )

    def reads_on(row: tuple[int, ...], prefixes: list[tuple[int, ...]], alone_LD: Any) -> bool:
        try:
            hidden = read(row, cache_prefixes(lm, prefixes))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a body raises that does not know how to go on
            LOG.debug("%s cannot go on from %d prefixes: %r", lm.name, len(prefixes), error)
            return False
        return _deviation(hidden, alone_LD) <= rounding

    prefix_caching = all(
        reads_on(tokens[length:], [tokens[:length]], both(whole_LD[length:]))
        for length in (1, long)
    )
    if not prefix_caching:
        LOG.info("%s cannot go on from a prefix, which is read again with every row", lm.name)
        return dataclasses.replace(lm, prefix_caching=False, padding=0)
    spliced = (*tokens[:1], *tokens[long:])
    spliced_LD = hidden_states(lm, [spliced], [range(len(spliced))])[1:]
    expected_LD = torch.cat([both(spliced_LD), both(whole_LD[long:])])
    if not reads_on(tokens[long:], [tokens[:1], tokens[:long]], expected_LD):
        LOG.info("%s cannot mask padding: prefixes are taken one at a time", lm.name)
        return dataclasses.replace(lm, padding=0)
    # A window of the last tokens counts padding too, so none is put where it may slide.
    cache = cache_prefixes(lm, [tokens[:1]]).cache
    windows = [getattr(layer, "sliding_window", None) for layer in getattr(cache, "layers", ())]
    return dataclasses.replace(lm, padding=min([lm.context, *filter(None, windows)]))


def _deviation(hidden_ND: torch.Tensor, expected_ND: torch.Tensor) -> float:
    """Mean absolute difference as a share of the mean size; infinite where it is no number."""
    share = float((hidden_ND - expected_ND).abs().mean() / expected_ND.abs().mean())
    return share if share == share else float("inf")
