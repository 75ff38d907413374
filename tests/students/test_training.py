"""Students: what one update does, and that padding, chunks and masks do not change it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from auditor.errors import ModelError
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.students import training as students
from auditor.students.settings import TrainingConfig
from auditor.students.training import (
    TrainingExample,
    mean_loss,
    new_student,
    summed_loss,
    train,
)
from tests.support.student_models import numbers


def examples_of(lm: LanguageModel, count: int) -> list[TrainingExample]:
    """Rows of digits of different lengths, with every completion token trained."""
    renderer = ChatTokenizer(lm)
    found = []
    for i, example in numbers(count).items():
        row = renderer.encode(example)
        assert isinstance(row, TokenizedRow)
        prefix = renderer.prefix(None)
        positions = tuple(len(prefix) + p for p in row.positions)
        found.append(TrainingExample(prefix + row.tokens, positions[: len(positions) - i % 4]))
    return found


def loss_by_hand(lm: LanguageModel, example: TrainingExample) -> float:
    """The row's loss by the whole model, one row at a time, nothing cut away."""
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([example.tokens])).logits[0]
    targets = torch.tensor([example.tokens[p] for p in example.positions])
    return float(
        cross_entropy(logits[[p - 1 for p in example.positions]], targets, reduction="sum")
    )


def weights(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in lm.model.named_parameters()}


def test_loss_is_that_of_plain_passes(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batched, in parts, and with the head in chunks that are computed again."""
    examples = examples_of(tiny, 6)
    by_hand = sum(loss_by_hand(tiny, example) for example in examples)
    count = sum(len(example.positions) for example in examples)
    assert mean_loss(tiny, examples) == pytest.approx(by_hand / count, rel=1e-5)
    monkeypatch.setattr(students, "_BATCH_TOKENS", 100)
    assert mean_loss(tiny, examples) == pytest.approx(by_hand / count, rel=1e-5)
    monkeypatch.setattr(students, "_HEAD_VALUES", 4 * len(tiny.tokenizer))
    assert float(summed_loss(tiny, examples)) == pytest.approx(by_hand, rel=1e-5)


def test_a_new_student_is_the_reference_and_leaves_it_alone(tiny: LanguageModel) -> None:
    """LoRA starts at zero; training moves its B and nothing of the reference."""
    examples, before = examples_of(tiny, 4), weights(tiny)
    student = new_student(tiny, TrainingConfig(), seed=1)
    assert mean_loss(student, examples) == mean_loss(tiny, examples)
    assert list(train(student, [examples], TrainingConfig(learning_rate=1e-2, warmup=1))) == [
        sum(len(example.positions) for example in examples)
    ]
    assert mean_loss(student, examples) < mean_loss(tiny, examples)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(tiny).items())


def test_what_no_student_can_be_trained_from_is_one_line(tiny: LanguageModel) -> None:
    """peft says which modules it does not know; training all weights is the way out of that."""

    class GroupedLinear(torch.nn.Linear):
        """As the projections of groups that LoRA cannot wrap."""

    model = copy.deepcopy(tiny.model)
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = GroupedLinear
    lm = replace(tiny, model=model)
    with pytest.raises(ModelError, match=r"LoRA cannot be put into tiny: No modules") as caught:
        new_student(lm, TrainingConfig(), 0)
    assert "--full" in caught.value.hint and "\n" not in str(caught.value)
    assert new_student(lm, TrainingConfig(full=True), 0).model is not model
    model.is_quantized = True  # as transformers has it of weights that it keeps as they are
    with pytest.raises(ModelError, match="are quantised"):
        new_student(lm, TrainingConfig(full=True), 0)


def test_same_seed_same_student(tiny: LanguageModel) -> None:
    """The seed decides LoRA's start, and the process's own random stream is left alone."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (weights(new_student(tiny, TrainingConfig(), seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_one_update_by_hand(tiny: LanguageModel) -> None:
    """Full fine-tuning: AdamW's first step at the first rate of the warm-up, on the mean over all
    tokens.
    """
    recipe = TrainingConfig(full=True, learning_rate=8e-3, warmup=8)
    examples = examples_of(tiny, 3)
    student, twin = (new_student(tiny, recipe, 0) for _ in range(2))
    list(train(student, [examples], recipe))
    optimizer = torch.optim.AdamW(twin.model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    total = sum(summed_loss(twin, [example]) for example in examples)
    assert isinstance(total, torch.Tensor)
    (total / sum(len(example.positions) for example in examples)).backward()
    optimizer.step()
    expected = weights(twin)
    # AdamW's first step is about the rate times the sign, so that a tiny gradient's rounding shows.
    close = [
        torch.isclose(w, expected[n], atol=2e-5).float().mean() for n, w in weights(student).items()
    ]
    assert min(close) > 0.99


def test_layers_are_those_asked_for(tiny: LanguageModel) -> None:
    """A single-layer student has LoRA there only; a layer that is not there is an error."""
    student = new_student(tiny, TrainingConfig(layers=(1,)), 0)
    adapted = {
        name.split("layers.")[1].split(".")[0]
        for name, w in student.model.named_parameters()
        if w.requires_grad
    }
    assert adapted == {"1"}
    with pytest.raises(ModelError, match="layers 0 to 1"):
        new_student(tiny, TrainingConfig(layers=(2,)), 0)


def test_nothing_to_train_on_is_no_update(tiny: LanguageModel) -> None:
    """Fully masked rows leave every weight as it was, weight decay included."""
    student = new_student(tiny, TrainingConfig(), 0)
    before = weights(student)
    empty = [TrainingExample(example.tokens, ()) for example in examples_of(tiny, 2)]
    assert list(train(student, [empty, []], TrainingConfig())) == [0, 0]
    assert all(torch.equal(weight, before[name]) for name, weight in weights(student).items())
