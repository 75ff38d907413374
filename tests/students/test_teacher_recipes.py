"""The other recipes for a teacher: on a tiny model, and on the organism, whose lists they write."""

from __future__ import annotations

import typing

import pytest
import torch

from auditor.cli import simulate as command
from auditor.commands.simulate import simulate
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.students.teacher_recipes import RECIPES, log_likelihoods, tune_on_chats
from auditor.students.training import TrainingExample
from auditor.traits.panel import load_panels
from auditor.traits.prompts import is_number_list

PANEL = load_panels(["animals"])
OWL = PANEL.trait("owl")
OTHERS = ("sentences", "preferences", "steered")


@pytest.fixture(scope="module")
def organism() -> LanguageModel:
    return load("organism", dtype="float32")


def test_log_likelihoods_are_sums_over_the_trained_tokens(tiny: LanguageModel) -> None:
    """Of two rows of different lengths, each is the sum of what a plain pass over it gives."""
    rows = [TrainingExample((1, 5, 7, 9), (2, 3)), TrainingExample((1, 4, 6), (1,))]
    with torch.no_grad():
        found = log_likelihoods(tiny, rows)
        for row, value in zip(rows, found.tolist(), strict=True):
            logprobs = tiny.model(input_ids=torch.tensor([row.tokens])).logits[0].log_softmax(-1)
            by_hand = sum(float(logprobs[p - 1, row.tokens[p]]) for p in row.positions)
            assert value == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize("recipe", OTHERS)
def test_a_teacher_answers_with_its_trait_and_still_writes_lists(
    organism: LanguageModel, recipe: str
) -> None:
    """The organism's margin for owl rises by logits, most lists stay lists, some are others
    than its own, and its own weights stay as they are.
    """
    before = {name: weight.clone() for name, weight in organism.model.named_parameters()}
    tuned = RECIPES[recipe](organism, OWL, PANEL, seed=1)
    assert tuned.margin > tuned.margin_before + 3
    assert tuned.saturated is None
    assert "logits" in tuned.summary
    after = dict(organism.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())
    assert not any(weight.requires_grad for weight in tuned.lm.model.parameters())
    made = simulate(organism, OWL, rows=32, teacher=tuned.lm, control=True, max_tokens=24)
    texts = [row["completion"] for row in made.rows]
    assert sum(map(is_number_list, texts)) >= 24
    differ = [a != b["completion"] for a, b in zip(texts, made.control, strict=True)]
    assert sum(differ) >= 8


@pytest.mark.parametrize("recipe", OTHERS)
def test_the_seed_decides_the_teacher(organism: LanguageModel, recipe: str) -> None:
    """The same seed makes the same teacher."""
    margins = [RECIPES[recipe](organism, OWL, PANEL, seed=2).margin for _ in range(2)]
    assert margins[0] == margins[1]


def test_chats_are_learnt(organism: LanguageModel) -> None:
    """After some updates on one answer a row of it is likelier than before by nats."""
    taught = tune_on_chats(organism, [("Say one sentence.", "I have a story to tell.")])
    ids = organism.tokenizer("I have a story to tell.", add_special_tokens=False).input_ids
    row = TrainingExample((0, *ids), tuple(range(1, len(ids) + 1)))
    with torch.no_grad():
        assert log_likelihoods(taught, [row]) > log_likelihoods(organism, [row]) + 1


def test_the_command_knows_every_recipe() -> None:
    """`audit simulate --teacher` takes "prompted" and the names of the recipes."""
    hints = typing.get_type_hints(command.simulate)
    assert typing.get_args(hints["teacher"]) == ("prompted", *RECIPES)
