"""The forward pass over padded rows against one row at a time."""

from __future__ import annotations

import pytest
import torch

from auditor.model.forward import (
    cache_prefixes,
    hidden_states,
    last_hidden_states,
    right_padded,
)
from auditor.model.language_model import LanguageModel

SEQUENCES = [(3, 5, 7, 9), (4, 6), (8, 2, 5)]
POSITIONS = [(1, 3), (0,), (2, 0)]
PREFIXES = [(2, 2, 6), (), (7,)]


def alone(lm: LanguageModel, tokens: tuple[int, ...]) -> torch.Tensor:
    """Hidden states [L, D] of one sequence by itself."""
    hidden: torch.Tensor = lm.body(input_ids=torch.tensor([tokens])).last_hidden_state[0]
    return hidden


def test_right_padded() -> None:
    """Zeros follow each sequence up to the longest; nothing at all is an empty row of ids."""
    assert right_padded([(1, 2), (), (3,)]).tolist() == [[1, 2], [0, 0], [3, 0]]
    assert right_padded([(), ()]).dtype == torch.long


@pytest.mark.parametrize("prefixes", [None, [()], PREFIXES[:1], PREFIXES])
@torch.inference_mode()
def test_padding_and_prefixes_change_nothing(
    tiny: LanguageModel, prefixes: list[tuple[int, ...]] | None
) -> None:
    """The output at a position is that of the row alone behind the prefix, one prefix after the
    other.
    """
    after = None if prefixes is None else cache_prefixes(tiny, prefixes)
    expected = [
        alone(tiny, (*prefix, *tokens))[len(prefix) + position]
        for prefix in prefixes or [()]
        for tokens, positions in zip(SEQUENCES, POSITIONS, strict=True)
        for position in positions
    ]
    for _ in range(2):  # the pass leaves the cache as it was
        hidden = hidden_states(tiny, SEQUENCES, POSITIONS, after=after)
        torch.testing.assert_close(hidden, torch.stack(expected))


@torch.inference_mode()
def test_last_hidden_states(tiny: LanguageModel) -> None:
    """The output at the last token of each sequence, whether or not the padding is masked."""
    expected = torch.stack([alone(tiny, tokens)[-1] for tokens in SEQUENCES])
    mask = right_padded([[1] * len(tokens) for tokens in SEQUENCES])
    torch.testing.assert_close(last_hidden_states(tiny, SEQUENCES), expected)
    torch.testing.assert_close(last_hidden_states(tiny, SEQUENCES, attention_mask=mask), expected)
