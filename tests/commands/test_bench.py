"""The benchmark compares like with like, and its operation count is right."""

from __future__ import annotations

import pytest
import torch
import torch.nn.attention
import torch.utils.flop_counter

from auditor.commands import bench as module
from auditor.commands.bench import bench, flop
from auditor.data.example import Example, Message
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow


def rows_of(lm: LanguageModel) -> list[TokenizedRow]:
    """Two rows of different kinds and lengths."""
    chat = (Message("user", "the owl"), Message("assistant", "1, 2, 12"))
    examples = [Example(0, chat), Example(1, (Message("system", "Own."), *chat, *chat))]
    rows = [ChatTokenizer(lm).encode(example) for example in examples]
    return [row for row in rows if isinstance(row, TokenizedRow)]


def test_all_ways_score_the_same_tokens(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exact pass has the plain way's argmax everywhere; every way scores each token once for
    each condition.
    """
    monkeypatch.setattr(module, "_SECONDS", 0.01)
    rows = rows_of(tiny)
    found = list(bench(tiny, rows, ["You love owls.", "You love cats. Cats!"]))
    assert [measured.way for measured in found] == ["plain", "exact", "fast"]
    assert {measured.tokens for measured in found} == {3 * sum(len(row.positions) for row in rows)}
    assert [measured.same_argmax for measured in found[:2]] == [1.0, 1.0]
    assert [measured.peak_share is None for measured in found] == [True, False, True]


def test_flop_against_the_profiler(tiny: LanguageModel) -> None:
    """For one row fed whole, the count is that of torch's own counter, head at completion positions
    only.
    """
    rows = rows_of(tiny)[:1]
    renderer = ChatTokenizer(tiny)
    ids = torch.tensor([[*renderer.prefix(None), *rows[0].tokens][:-1]])
    # torch counts the products inside attention only where its plain implementation makes them one
    # by one.
    counter = torch.utils.flop_counter.FlopCounterMode(display=False)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter:
        hidden = tiny.body(input_ids=ids).last_hidden_state[0]
        tiny.head(hidden[[len(renderer.prefix(None)) + p - 1 for p in rows[0].positions]])
    config = tiny.model.config
    length = ids.shape[1]
    # It counts the whole square of queries and keys; a query sees no key after it.
    unseen = length * (length - 1) / 2 * 4 * config.num_hidden_layers * config.hidden_size
    # transformers 5.0 makes the angles of the rotary embedding by a small product of its own.
    assert flop(tiny, renderer, rows, [None]) == pytest.approx(
        counter.get_total_flops() - unseen, rel=5e-4
    )
