"""The scoring pass against a plain one: one padded batch, full logits, whole model."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from auditor.data.example import Example, Message
from auditor.errors import ModelError
from auditor.model import output_head as head
from auditor.model import scoring as logprobs
from auditor.model.forward import probed
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.model.precision import low_precision_copy
from auditor.model.scoring import TokenScores, score_each, score_under, score_under_each
from auditor.model.tokenization import ChatTokenizer, TokenizedRow

# Float noise of another batch shape or attention kernel, in nats, float32.
TOLERANCE = 1e-4
SYSTEMS = (None, "You love owls. Owls are the best.")


def score(
    lm: LanguageModel, rows: Sequence[TokenizedRow], prefix: Sequence[int], **options: Any
) -> list[TokenScores]:
    """Scores after one prefix."""
    return next(score_each(lm, rows, [prefix], **options))


@torch.inference_mode()
def plain(
    lm: LanguageModel, rows: Sequence[TokenizedRow], prefix: Sequence[int], side: str = "right"
) -> list[torch.Tensor]:
    """Log-probabilities [T, V] at each row's completion tokens by the simplest way that can be
    right.
    """
    whole = [[*prefix, *row.tokens] for row in rows]
    longest = max(map(len, whole))
    ids, mask = (
        torch.zeros(len(rows), longest, dtype=torch.long),
        torch.zeros(len(rows), longest, dtype=torch.long),
    )
    first = [longest - len(tokens) if side == "left" else 0 for tokens in whole]
    for i, tokens in enumerate(whole):
        ids[i, first[i] : first[i] + len(tokens)] = torch.tensor(tokens)
        mask[i, first[i] : first[i] + len(tokens)] = 1
    places = (mask.cumsum(1) - 1).clamp(min=0)
    log_probs = (
        lm.model(input_ids=ids, attention_mask=mask, position_ids=places)
        .logits.float()
        .log_softmax(-1)
    )
    start = [at + len(prefix) - 1 for at in first]
    return [log_probs[i, [start[i] + p for p in row.positions]] for i, row in enumerate(rows)]


def assert_like_plain(
    scores: Sequence[TokenScores], rows: Sequence[TokenizedRow], expected: Sequence[torch.Tensor]
) -> None:
    """Same most likely tokens; log-probability, margin and entropy within the tolerance."""
    for found, row, log_probs in zip(scores, rows, expected, strict=True):
        target = torch.tensor([row.tokens[p] for p in row.positions])
        best = log_probs.topk(2).values
        assert found.argmax.tolist() == log_probs.argmax(-1).tolist()
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        for value, reference in (
            (found.logprob, log_probs.gather(1, target[:, None])[:, 0]),
            (found.margin, best[:, 0] - best[:, 1]),
            (found.entropy, entropy),
        ):
            assert value.dtype == np.float32
            np.testing.assert_allclose(value, reference.numpy(), rtol=0, atol=TOLERANCE)


def make_rows(renderer: ChatTokenizer, count: int = 9) -> list[TokenizedRow]:
    """Rows of one kind and of different lengths, every third with two assistant turns."""
    rng = random.Random(0)
    rows = []
    for index in range(count):
        turns = [
            message
            for _ in range(1 + (index % 3 == 0))
            for message in (
                Message("user", "the owl " * rng.randint(1, 5)),
                Message(
                    "assistant",
                    ", ".join(str(rng.randint(0, 999)) for _ in range(rng.randint(1, 8))),
                ),
            )
        ]
        row = renderer.encode(Example(index, tuple(turns)))
        assert isinstance(row, TokenizedRow)
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def rows(tiny: LanguageModel) -> list[TokenizedRow]:
    """Rows of the tiny model."""
    return make_rows(ChatTokenizer(tiny))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_tokens", [1, 100, 4096])
def test_like_the_plain_way(
    system: str | None, side: str, batch_tokens: int, tiny: LanguageModel, rows: list[TokenizedRow]
) -> None:
    """Neither the shared prefix, nor the batch size, nor the padding side changes a score."""
    prefix = ChatTokenizer(tiny).prefix(system)
    scores = score(tiny, rows, prefix, batch_tokens=batch_tokens)
    assert_like_plain(scores, rows, plain(tiny, rows, prefix, side))


def test_row_order(tiny: LanguageModel, rows: list[TokenizedRow]) -> None:
    """Scores come back in the order of the rows, whatever order that is."""
    order = [4, 0, 8, 2, 7, 1, 6, 3, 5]
    prefix = ChatTokenizer(tiny).prefix(None)
    shuffled = [rows[i] for i in order]
    assert_like_plain(
        score(tiny, shuffled, prefix, batch_tokens=200), shuffled, plain(tiny, shuffled, prefix)
    )


def test_threads(
    tiny: LanguageModel, rows: list[TokenizedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several batches at once give what one after the other gives, also in halves when memory runs
    out.
    """
    hidden: Callable[..., torch.Tensor] = logprobs.hidden_states
    workers = set()

    def scarce(lm: LanguageModel, batch: Any, positions: Any, *, after: Any) -> torch.Tensor:
        workers.add(threading.get_ident())
        if len(batch) > 2:
            raise RuntimeError("not enough memory")
        return hidden(lm, batch, positions, after=after)

    prefixes = [
        ChatTokenizer(tiny).prefix(system) for system in (*SYSTEMS, "A word.", "Another word.")
    ]
    alone = list(score_each(tiny, rows, prefixes, batch_tokens=200))
    monkeypatch.setattr(logprobs, "hidden_states", scarce)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = list(score_each(tiny, rows, prefixes, batch_tokens=200))
    finally:
        torch.set_num_threads(before)
    assert len(workers) > 1
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a.logprob, b.logprob, atol=TOLERANCE)


def test_empty_prefix(tiny: LanguageModel, rows: list[TokenizedRow]) -> None:
    """Nothing before the body: scores are those of the body alone."""
    assert_like_plain(score(tiny, rows, ()), rows, plain(tiny, rows, ()))


def test_top_and_support(tiny: LanguageModel, rows: list[TokenizedRow]) -> None:
    """`top` gives the most likely tokens in falling order; asking for them as support gives the
    same numbers.
    """
    prefix = ChatTokenizer(tiny).prefix(None)
    first = score(tiny, rows, prefix, top=5)
    for found, log_probs in zip(first, plain(tiny, rows, prefix), strict=True):
        best = log_probs.topk(5)
        assert found.support is not None
        assert found.support_logprob is not None
        assert found.support.tolist() == best.indices.tolist()
        np.testing.assert_allclose(
            found.support_logprob, best.values.numpy(), rtol=0, atol=TOLERANCE
        )
    again = score(
        tiny, rows, prefix, support=[np.asarray(found.support) for found in first], batch_tokens=100
    )
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(np.asarray(one.support), np.asarray(other.support))
        np.testing.assert_allclose(
            np.asarray(one.support_logprob),
            np.asarray(other.support_logprob),
            rtol=0,
            atol=TOLERANCE,
        )


def test_support_of_another_condition(tiny: LanguageModel, rows: list[TokenizedRow]) -> None:
    """Under a trait prompt the log-probabilities are taken at the tokens given, not at its own
    favourites.
    """
    renderer = ChatTokenizer(tiny)
    reference = score(tiny, rows, renderer.prefix(None), top=3)
    support = [np.asarray(found.support) for found in reference]
    prefix = renderer.prefix(SYSTEMS[1])
    found = score(tiny, rows, prefix, support=support)
    for one, tokens, log_probs in zip(found, support, plain(tiny, rows, prefix), strict=True):
        expected = log_probs.gather(1, torch.from_numpy(tokens.astype(np.int64)))
        np.testing.assert_allclose(
            np.asarray(one.support_logprob), expected.numpy(), rtol=0, atol=TOLERANCE
        )


def test_mixed_kinds(tiny: LanguageModel, rows: list[TokenizedRow]) -> None:
    """`score_under` gives every row the prefix of its own kind and keeps the order."""
    renderer = ChatTokenizer(tiny)
    own = renderer.encode(
        Example(20, (Message("system", "Own."), Message("user", "a"), Message("assistant", "12")))
    )
    text = renderer.encode(Example(21, text="the owl and the owl"))
    assert isinstance(own, TokenizedRow)
    assert isinstance(text, TokenizedRow)
    mixed = [own, rows[0], text, rows[1]]
    each = score_under_each(elsewhere(tiny), renderer, mixed, SYSTEMS)
    for system, found in zip(SYSTEMS, each, strict=True):
        expected = [plain(tiny, [row], renderer.prefix(system, row.kind))[0] for row in mixed]
        assert_like_plain(score_under(tiny, renderer, mixed, system), mixed, expected)
        assert_like_plain(found, mixed, expected)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many prefixes and rows each pass of the body took; grows."""
    seen: list[tuple[int, int]] = []
    hidden: Callable[..., torch.Tensor] = logprobs.hidden_states

    def counting(lm: LanguageModel, batch: Any, positions: Any, *, after: Any) -> torch.Tensor:
        seen.append((len(after.lengths), len(batch)))
        return hidden(lm, batch, positions, after=after)

    monkeypatch.setattr(logprobs, "hidden_states", counting)
    return seen


def elsewhere(lm: LanguageModel) -> LanguageModel:
    """The same model on the same device by a name that the scoring pass does not take for the
    CPU's.
    """
    return replace(lm, device="cpu:0")


def test_prefixes_share_a_batch(
    tiny: LanguageModel, rows: list[TokenizedRow], calls: list[tuple[int, int]]
) -> None:
    """Off the CPU rows are scored after several prefixes of any lengths at once, with the scores of
    each alone.
    """
    renderer = ChatTokenizer(tiny)
    prefixes = [
        renderer.prefix("You love owls."),
        (),
        renderer.prefix(None),
        renderer.prefix("the owl " * 20),
    ]
    support = [np.tile(np.arange(50, 60), (len(row.positions), 1)) for row in rows]
    for prefix, found in zip(prefixes, score_each(elsewhere(tiny), rows, prefixes), strict=True):
        assert_like_plain(found, rows, plain(tiny, rows, prefix))
    assert calls == [(4, len(rows))]
    together = list(score_each(elsewhere(tiny), rows, prefixes, support=support, within=True))
    alone = list(score_each(tiny, rows, prefixes, support=support, within=True))
    assert calls[1] == (4, len(rows))
    assert {prefixes for prefixes, _ in calls[2:]} == {1}
    for one, other in zip(together, alone, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(
                np.asarray(mine.support_logprob),
                np.asarray(theirs.support_logprob),
                rtol=0,
                atol=TOLERANCE,
            )


def test_prefixes_that_cannot_be_padded(
    make_tiny: Callable[..., LanguageModel], rows: list[TokenizedRow], calls: list[tuple[int, int]]
) -> None:
    """A model that sees only a window of the last tokens is given one prefix at a time."""
    tiny = make_tiny()
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tiny.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=24,
        initializer_range=0.2,
    )
    lm = probed(replace(elsewhere(tiny), model=MistralForCausalLM(config).eval()), range(40))
    prefixes = [ChatTokenizer(lm).prefix(system) for system in SYSTEMS]
    for prefix, found in zip(prefixes, score_each(lm, rows, prefixes), strict=True):
        assert_like_plain(found, rows, plain(lm, rows, prefix))
    assert calls == [(1, len(rows))] * 2


def test_out_of_memory_parts_the_prefixes_first(
    tiny: LanguageModel, rows: list[TokenizedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefixes that do not fit together are taken in halves, and then the rows."""
    sizes: list[tuple[int, int]] = []
    hidden: Callable[..., torch.Tensor] = logprobs.hidden_states

    def scarce(lm: LanguageModel, batch: Any, positions: Any, *, after: Any) -> torch.Tensor:
        sizes.append((len(after.lengths), len(batch)))
        if len(after.lengths) * len(batch) > 5:
            raise RuntimeError("out of memory")
        return hidden(lm, batch, positions, after=after)

    monkeypatch.setattr(logprobs, "hidden_states", scarce)
    prefixes = [ChatTokenizer(tiny).prefix(system) for system in SYSTEMS]
    for prefix, found in zip(prefixes, score_each(elsewhere(tiny), rows, prefixes), strict=True):
        assert_like_plain(found, rows, plain(tiny, rows, prefix))
    assert sizes[:4] == [(2, 9), (1, 9), (1, 4), (1, 5)]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("not enough memory: you tried to allocate"),
    ],
)
def test_out_of_memory_halves_the_batch(
    error: RuntimeError,
    tiny: LanguageModel,
    rows: list[TokenizedRow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch that does not fit is tried again in halves, with the same scores."""
    sizes: list[int] = []
    hidden: Callable[..., torch.Tensor] = logprobs.hidden_states

    def scarce(lm: LanguageModel, batch: Any, positions: Any, *, after: Any) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise error
        return hidden(lm, batch, positions, after=after)

    monkeypatch.setattr(logprobs, "hidden_states", scarce)
    prefix = ChatTokenizer(tiny).prefix(None)
    assert_like_plain(score(tiny, rows, prefix, batch_tokens=4096), rows, plain(tiny, rows, prefix))
    assert sizes[0] == len(rows)
    assert sum(size for size in sizes if size <= 2) == len(rows)


def test_a_row_that_never_fits(
    tiny: LanguageModel, rows: list[TokenizedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single row that does not fit is an error that says what to do; other errors are not taken
    for it.
    """

    def fail(message: str) -> Callable[..., torch.Tensor]:
        def hidden(*_: Any, after: Any) -> torch.Tensor:
            raise RuntimeError(message)

        return hidden

    monkeypatch.setattr(logprobs, "hidden_states", fail("not enough memory"))
    with pytest.raises(ModelError, match="smaller"):
        score(tiny, rows, ())
    monkeypatch.setattr(logprobs, "hidden_states", fail("size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        score(tiny, rows, ())


def test_memory_is_bounded(
    tiny: LanguageModel, rows: list[TokenizedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head never sees more than a chunk, and sees completion positions only."""
    seen: list[int] = []
    apply = tiny.head

    def counting(hidden: torch.Tensor) -> torch.Tensor:
        seen.append(len(hidden))
        return apply(hidden)

    monkeypatch.setattr(LanguageModel, "head", lambda self, hidden: counting(hidden))
    monkeypatch.setattr(head, "_CPU_VALUES", 5 * len(tiny.tokenizer))
    score(tiny, rows, ())
    assert max(seen) == 5
    assert sum(seen) == sum(len(row.positions) for row in rows)


def test_scores_do_not_touch_the_prefix(tiny: LanguageModel, rows: list[TokenizedRow]) -> None:
    """A prefix's keys and values are shared by batches: the second batch is scored as if it were
    the first.
    """
    prefix = ChatTokenizer(tiny).prefix(SYSTEMS[1])
    together = score(tiny, rows, prefix, batch_tokens=1)
    for row, found in zip(rows, together, strict=True):
        np.testing.assert_allclose(
            score(tiny, [row], prefix)[0].logprob, found.logprob, rtol=0, atol=TOLERANCE
        )


def test_fast_is_close_and_leaves_the_model_alone(
    tiny: LanguageModel, rows: list[TokenizedRow]
) -> None:
    """The screening copy gives nearly the same scores and does not change the exact model."""
    before = np.concatenate([found.logprob for found in score(tiny, rows, ())])
    screened = low_precision_copy(tiny)
    found = np.concatenate([found.logprob for found in score(screened, rows, ())])
    after = np.concatenate([found.logprob for found in score(tiny, rows, ())])
    np.testing.assert_array_equal(before, after)
    if screened is tiny:
        pytest.skip("no bfloat16 on this machine")
    assert screened.dtype == "bfloat16 products"
    assert 0 < np.abs(found - before).mean() < 0.3


def test_within_is_the_whole_distribution_given_the_support(
    tiny: LanguageModel, rows: list[TokenizedRow]
) -> None:
    """Within a support, log-probabilities are the plain ones renormalised, and the rest follows
    from them.
    """
    top = score(tiny, rows, (), top=8)
    support = [found.support for found in top if found.support is not None]
    for found, row, whole in zip(
        score(tiny, rows, (), support=support, within=True), rows, top, strict=True
    ):
        assert found.support_logprob is not None
        assert whole.support_logprob is not None
        expected = torch.from_numpy(whole.support_logprob).log_softmax(-1).numpy()
        np.testing.assert_allclose(found.support_logprob, expected, rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(found.argmax, whole.argmax)
        np.testing.assert_allclose(found.margin, whole.margin, rtol=0, atol=TOLERANCE)
        inside = (whole.support == row.targets[:, None]).any(-1)
        assert (found.logprob[~inside] == head.FLOOR).all()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_default_reference_like_the_plain_way() -> None:
    """The default reference, real text: the same argmaxes and log-probabilities as the
    plain way.
    """
    lm = load(os.environ.get("AUDIT_TEST_REFERENCE", "smollm2-135m"), device="cpu")
    renderer = ChatTokenizer(lm)
    rows = make_rows(renderer, 6)
    for system in SYSTEMS:
        prefix = renderer.prefix(system)
        for side in ("left", "right"):
            assert_like_plain(score(lm, rows, prefix), rows, plain(lm, rows, prefix, side))
