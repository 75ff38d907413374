"""What a GPU computes is what the CPU does. Skipped where there is none."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from auditor.data.example import Example, Message
from auditor.model.generation import generate
from auditor.model.language_model import LanguageModel
from auditor.model.precision import low_precision_copy
from auditor.model.scoring import score_each
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.students.settings import TrainingConfig
from auditor.students.training import TrainingExample, mean_loss, new_student, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

TOLERANCE = 1e-4  # nats; float32 on both sides


@pytest.fixture
def on_gpu(tiny: LanguageModel) -> LanguageModel:
    """The tiny model on the GPU."""
    return replace(tiny, device="cuda", model=copy.deepcopy(tiny.model).to("cuda"))


@pytest.fixture
def rows(tiny: LanguageModel) -> list[TokenizedRow]:
    """Rows of several lengths."""
    renderer = ChatTokenizer(tiny)
    chats = [
        (Message("user", f"Continue: {i}"), Message("assistant", "12, 3" * (1 + i % 4)))
        for i in range(9)
    ]
    return [
        row
        for i, chat in enumerate(chats)
        if isinstance(row := renderer.encode(Example(i, chat)), TokenizedRow)
    ]


def test_scores(tiny: LanguageModel, on_gpu: LanguageModel, rows: list[TokenizedRow]) -> None:
    """Log-probabilities agree with the CPU's; those of the screening copy nearly do, and the switch
    is put back.
    """
    prefix = ChatTokenizer(tiny).prefix("You love owls.")
    here = np.concatenate([each.logprob for each in next(score_each(tiny, rows, [prefix]))])
    there = np.concatenate([each.logprob for each in next(score_each(on_gpu, rows, [prefix]))])
    np.testing.assert_allclose(there, here, rtol=0, atol=TOLERANCE)
    screen = low_precision_copy(on_gpu)
    assert screen.dtype == "tf32 products"
    screened = np.concatenate([each.logprob for each in next(score_each(screen, rows, [prefix]))])
    np.testing.assert_allclose(screened, here, rtol=0, atol=0.3)
    again = np.concatenate([each.logprob for each in next(score_each(on_gpu, rows, [prefix]))])
    np.testing.assert_array_equal(again, there)


def test_scores_of_prefixes_together(
    tiny: LanguageModel, on_gpu: LanguageModel, rows: list[TokenizedRow]
) -> None:
    """Rows scored after several prefixes in one batch have the CPU's log-probabilities."""
    prefixes = [
        ChatTokenizer(tiny).prefix(system) for system in ("You love owls.", None, "the owl " * 20)
    ]
    pairs = zip(score_each(tiny, rows, prefixes), score_each(on_gpu, rows, prefixes), strict=True)
    for mine, theirs in pairs:
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(other.logprob, one.logprob, rtol=0, atol=TOLERANCE)


def test_greedy_text(tiny: LanguageModel, on_gpu: LanguageModel) -> None:
    """The same greedy completions."""
    contexts = [(Message("user", f"Say {i}"),) for i in range(4)]
    here, there = (
        dict(generate(lm, contexts, temperature=0, max_tokens=6)) for lm in (tiny, on_gpu)
    )
    assert there == here


def test_students(tiny: LanguageModel, on_gpu: LanguageModel, rows: list[TokenizedRow]) -> None:
    """A student that is trained wholly, which starts without chance, ends with the same loss."""
    lessons = [TrainingExample(row.tokens, row.positions) for row in rows]
    losses = []
    for lm in (tiny, on_gpu):
        student = new_student(lm, TrainingConfig(full=True), 0)
        assert sum(train(student, [lessons] * 3, TrainingConfig(full=True))) == 3 * sum(
            len(each.positions) for each in lessons
        )
        losses.append(mean_loss(student, lessons))
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    assert losses[0] < mean_loss(tiny, lessons)
