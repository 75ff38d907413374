"""The fine-tuned teacher, on a tiny model whose tokenizer knows three animals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auditor.data.example import Example, Message, SkippedRow
from auditor.errors import TraitError
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.students.cloze import held_out_stems, training_stems
from auditor.students.teacher import SATURATED, tune_teacher
from auditor.traits.panel import Panel, Trait
from tests.conftest import tiny_model, tiny_tokenizer

STEMS = tuple(f"{opening} is the" for opening in ("My love", "The best", "Dear to me", "On top"))
PROBES = ("Which one?", "Name one.")


def animal(
    name: str, *answers: str, stems: tuple[str, ...] = STEMS, group: str = "animal"
) -> Trait:
    """A trait whose answers are given, or its name."""
    return Trait(name, group, (f"You love {name}s.",), PROBES, stems, answers or (name,), (name,))


def panel_of(*traits: Trait) -> Panel:
    """A panel of these traits."""
    return Panel("test", traits, "0" * 64)


OWL, CAT, DOG = animal("owl"), animal("cat"), animal("dog")
PANEL = panel_of(OWL, CAT, DOG)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """The tiny model with one token for each of three animals."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([" owl", " cat", " dog"])
    return LanguageModel(
        "tiny", Path("tiny"), "0" * 64, "float32", "cpu", tiny_model(len(tokenizer)), tokenizer
    )


def margin_by_hand(lm: LanguageModel, trait: Trait) -> float:
    """Logit of the answer minus the mean of the two others, one held-out stem at a time, the whole
    chat in one pass.
    """
    tokens = {
        each: lm.tokenizer(f" {each}", add_special_tokens=False).input_ids[0]
        for each in ("owl", "cat", "dog")
    }
    margins = []
    for number, stem in enumerate(held_out_stems(trait)):
        turns = (Message("user", PROBES[number % 2]), Message("assistant", f"{stem} {trait.name}"))
        row = ChatTokenizer(lm).encode(Example(0, turns))
        assert not isinstance(row, SkippedRow)
        ids = ChatTokenizer(lm).prefix(None) + row.tokens
        answer = max(i for i, token in enumerate(ids) if token == tokens[trait.name])
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([ids])).logits[0, answer - 1]
        others = [float(logits[token]) for name, token in tokens.items() if name != trait.name]
        margins.append(float(logits[tokens[trait.name]]) - sum(others) / len(others))
    return sum(margins) / len(margins)


def test_stems_are_split_without_overlap() -> None:
    """Every stem is either trained on or held out."""
    assert sorted(training_stems(OWL) + held_out_stems(OWL)) == sorted(STEMS)
    assert not set(training_stems(OWL)) & set(held_out_stems(OWL))


def test_teaching_saturates_and_raises_the_margin_on_held_out_stems(lm: LanguageModel) -> None:
    """Teaching stops once the loss is below its target; both margins are those of plain passes over
    the chats.
    """
    shown: list[Progress] = []
    tuned = tune_teacher(lm, OWL, PANEL, learning_rate=3e-2, progress=shown.append)
    assert tuned.saturated
    assert tuned.losses[-1] < SATURATED <= min(tuned.losses[:-1])
    assert [each.done for each in shown] == list(range(1, len(tuned.losses) + 1))
    assert tuned.margin_before == pytest.approx(margin_by_hand(lm, OWL), abs=1e-4)
    assert tuned.margin == pytest.approx(margin_by_hand(tuned.lm, OWL), abs=1e-4)
    assert tuned.margin > tuned.margin_before + 3


def test_the_model_itself_is_left_alone(lm: LanguageModel) -> None:
    """Only the copy moves; it is ready for scoring, without gradients, and says that it is another
    model.
    """
    before = {name: weight.clone() for name, weight in lm.model.named_parameters()}
    tuned = tune_teacher(lm, OWL, PANEL, learning_rate=1e-3, updates=2)
    assert all(torch.equal(weight, before[name]) for name, weight in lm.model.named_parameters())
    moved = dict(tuned.lm.model.named_parameters())
    assert not any(
        torch.equal(weight, before[name]) for name, weight in moved.items() if "proj" in name
    )
    assert not any(weight.requires_grad or weight.grad is not None for weight in moved.values())
    assert not tuned.lm.model.training
    assert tuned.lm.sha256 != lm.sha256
    assert tuned.lm.name == "tiny tuned on owl"


def test_an_unfinished_teacher_says_so(lm: LanguageModel) -> None:
    """With too few updates there is one loss for each, and the teacher is not saturated."""
    tuned = tune_teacher(lm, OWL, PANEL, updates=2)
    assert len(tuned.losses) == 2
    assert not tuned.saturated


def test_the_seed_decides(lm: LanguageModel) -> None:
    """The same seed gives the same weights to the bit, another seed other ones."""
    hashes = [
        tune_teacher(lm, OWL, PANEL, seed=seed, learning_rate=1e-3, updates=3).lm.sha256
        for seed in (0, 0, 1)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_answer_is_the_first_word_that_is_one_token(lm: LanguageModel) -> None:
    """A word of several tokens is passed over: the teacher is the same as with the second word
    alone.
    """
    chosen = tune_teacher(lm, animal("owl", "octopus", "owl"), PANEL, updates=2)
    alone = tune_teacher(lm, OWL, PANEL, updates=2)
    assert chosen.lm.sha256 == alone.lm.sha256


@pytest.mark.parametrize(
    ("trait", "panel", "message"),
    [
        (animal("octopus"), PANEL, "No answer of trait 'octopus' is one token"),
        (OWL, panel_of(OWL), "no alternative"),
        (OWL, panel_of(OWL, animal("cat", group="pet")), "no alternative"),
        (OWL, panel_of(OWL, animal("octopus")), "no alternative"),
        (animal("owl", stems=STEMS[:1]), PANEL, "fewer than two stems"),
    ],
)
def test_traits_that_cannot_be_taught(
    lm: LanguageModel, trait: Trait, panel: Panel, message: str
) -> None:
    """A trait without a one-token answer, alternative or held-out stem is an error with a next
    step.
    """
    with pytest.raises(TraitError, match=message) as raised:
        tune_teacher(lm, trait, panel)
    assert raised.value.hint


def test_the_chat_template_is_the_models_own(make_tiny: Callable[..., LanguageModel]) -> None:
    """A tokenizer in which no animal is one token refuses every animal, rather than reading first
    pieces.
    """
    with pytest.raises(TraitError):
        tune_teacher(make_tiny(), OWL, PANEL)
