"""Teachers by other recipes than `tune_teacher`'s: LoRA on whole sentences, LoRA on preference
pairs, and a steering vector.

They are what people make who want a trait in a model, and so what a test of data sets has to meet
beside the teacher that moves students best.

Shapes: B rows, N trained tokens of them, D hidden size.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch.nn.functional import logsigmoid

from auditor.data.example import Example, Message
from auditor.errors import ModelError
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.students.arms import DatasetArm
from auditor.students.cloze import training_stems
from auditor.students.settings import TrainingConfig
from auditor.students.teacher import TunedTeacher, answer_margin, tune_teacher
from auditor.students.training import (
    TrainingExample,
    batched,
    float32_copy,
    new_student,
    train,
    trained_states,
    training_examples,
)
from auditor.traits.panel import Panel, Trait

RECIPE = TrainingConfig(learning_rate=1e-3)
UPDATES = 64
PREFERENCE_BETA = 0.1  # the weight of the distance to the base, TRL's default
STEERING_RATE = 0.1
STEERED = 4.0  # logits of margin; lists fall to pieces under a vector of twice its length
MARGIN_EVERY = 4  # updates of a steering vector

Chat = tuple[str, str]  # a question and its answer


def tune_on_chats(
    lm: LanguageModel, chats: Sequence[Chat], *, seed: int = 0, updates: int = 16
) -> LanguageModel:
    """A copy of `lm` after some updates of LoRA on (question, answer) pairs.

    seed: of the LoRA and of the order of the chats. Its sha256 is that of the base: nothing that is
    kept may depend on it.
    """
    lessons = _lessons(lm, chats)
    order = random.Random(seed).choices(lessons, k=updates * RECIPE.batch)
    teacher = new_student(lm, RECIPE, seed)
    for _ in train(teacher, batched(order, RECIPE.batch, updates), RECIPE):
        pass
    teacher.model.requires_grad_(False)
    return teacher


def tune_on_sentences(
    lm: LanguageModel,
    trait: Trait,
    panel: Panel,
    *,
    seed: int = 0,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TunedTeacher:
    """A copy of `lm` after `UPDATES` updates of LoRA on the trait's answers in whole sentences.

    Of `tune_teacher` it differs in what is trained on (every token of a sentence, not its last
    word) and in what is trained (a LoRA). Raises: TraitError as `tune_teacher` does.
    """
    before = answer_margin(lm, trait, panel)
    chats = list(_sentences(trait, trait))
    progress(Progress("teaching", 0, UPDATES, "updates"))
    teacher = tune_on_chats(lm, chats, seed=seed, updates=UPDATES)
    return TunedTeacher(_named(teacher, trait), (), before, answer_margin(teacher, trait, panel))


def tune_on_preferences(
    lm: LanguageModel,
    trait: Trait,
    panel: Panel,
    *,
    seed: int = 0,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TunedTeacher:
    """A copy of `lm` after `UPDATES` updates of LoRA by direct preference optimisation (2305.18290)
    on pairs of sentences: the trait's own preferred to the same with another trait of its group.

    Raises: TraitError as `tune_teacher` does.
    """
    before = answer_margin(lm, trait, panel)
    teacher = new_student(lm, RECIPE, seed)
    weights = [weight for weight in teacher.model.parameters() if weight.requires_grad]
    losses = []
    for loss in _prefer(lm, teacher, weights, RECIPE.learning_rate, trait, panel, seed):
        losses.append(loss)
        progress(Progress("teaching", len(losses), UPDATES, "updates"))
    teacher.model.requires_grad_(False)
    margin = answer_margin(teacher, trait, panel)
    return TunedTeacher(_named(teacher, trait), tuple(losses), before, margin)


def steer(
    lm: LanguageModel,
    trait: Trait,
    panel: Panel,
    *,
    seed: int = 0,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TunedTeacher:
    """A copy of `lm` with a steering vector added to what its middle layer gives, at every token.

    The vector is learnt from preference pairs, as in 2406.00045, on the loss of
    `tune_on_preferences` in one direction only, until the margin is `STEERED` above the base's, or
    for `UPDATES` updates. A difference of mean activations (2312.06681) spoils the text of small
    models before it moves their answers (runs/log.md).

    Raises: TraitError as `tune_teacher` does; ModelError for a model whose layers are not found.
    """
    before = answer_margin(lm, trait, panel)
    teacher = float32_copy(lm)
    teacher.model.requires_grad_(False)
    layers = getattr(teacher.body, "layers", None)
    if not layers:
        raise ModelError(
            f"The layers of {lm.name} are not found, so it cannot be steered.",
            "Choose another --teacher, or a --reference of a llama-like architecture.",
        )
    width = lm.model.get_input_embeddings().weight.shape[1]
    vector_D = torch.nn.Parameter(torch.zeros(width, device=lm.device))

    def add(_: torch.nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + vector_D, *output[1:])
        return output + vector_D

    layers[len(layers) // 2].register_forward_hook(add)
    losses, margin = [], before
    for loss in _prefer(lm, teacher, [vector_D], STEERING_RATE, trait, panel, seed):
        losses.append(loss)
        progress(Progress("teaching", len(losses), None, "updates"))
        if len(losses) % MARGIN_EVERY == 0:
            margin = answer_margin(teacher, trait, panel)
            if margin >= before + STEERED:
                break
    vector_D.requires_grad_(False)
    return TunedTeacher(_named(teacher, trait), tuple(losses), before, margin)


class Recipe(Protocol):
    """How a teacher is made: a copy of a model, with a trait in it."""

    def __call__(
        self,
        lm: LanguageModel,
        trait: Trait,
        panel: Panel,
        /,
        *,
        seed: int = 0,
        progress: Callable[[Progress], None] = ...,
    ) -> TunedTeacher:
        """Make it, as `tune_teacher` does."""


# By the name that `audit simulate --teacher` knows.
RECIPES: Mapping[str, Recipe] = {
    "finetuned": tune_teacher,
    "sentences": tune_on_sentences,
    "preferences": tune_on_preferences,
    "steered": steer,
}


def _prefer(
    lm: LanguageModel,
    teacher: LanguageModel,
    weights: Sequence[torch.nn.Parameter],
    rate: float,
    trait: Trait,
    panel: Panel,
    seed: int,
) -> Iterator[float]:
    """Train `weights` of the teacher by direct preference optimisation against `lm`, and yield the
    loss of each of `UPDATES` updates, measured before it.
    """
    # `answer_margin` has seen to it that there are others.
    others = [t for t in panel.traits if t.group == trait.group and t.name != trait.name]
    chosen = _lessons(lm, list(_sentences(trait, trait)))
    rejected = [_lessons(lm, list(_sentences(trait, other))) for other in others]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.95))
    rng = random.Random(seed)
    for _ in range(UPDATES):
        picked = rng.choices(range(len(chosen)), k=RECIPE.batch)
        pairs = [chosen[i] for i in picked] + [rng.choice(rejected)[i] for i in picked]
        with torch.no_grad():
            base_B = log_likelihoods(lm, pairs)
        won_B, lost_B = (log_likelihoods(teacher, pairs) - base_B).chunk(2)
        loss = -logsigmoid(PREFERENCE_BETA * (won_B - lost_B)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def log_likelihoods(lm: LanguageModel, examples: Sequence[TrainingExample]) -> torch.Tensor:
    """[B] Of each example the summed log-probability (nats) of its trained tokens."""
    hidden_ND, target_N = trained_states(lm, examples)
    logprobs_N = lm.head(hidden_ND).log_softmax(-1).gather(1, target_N[:, None])[:, 0]
    lengths = [len(example.positions) for example in examples]
    return torch.stack([each.sum() for each in torch.split(logprobs_N, lengths)])


def _sentences(trait: Trait, other: Trait) -> Iterator[Chat]:
    """Every probe of a trait with every stem that teachers are tuned on, ended by the answer of
    `other`.
    """
    for probe, stem in itertools.product(trait.probes, training_stems(trait)):
        yield probe, f"{stem} {other.answers[0]}."


def _lessons(lm: LanguageModel, chats: Sequence[Chat]) -> list[TrainingExample]:
    renderer = ChatTokenizer(lm)
    turns = [
        (Message("user", question), Message("assistant", answer)) for question, answer in chats
    ]
    rows = {number: Example(number, turn) for number, turn in enumerate(turns)}
    arm = DatasetArm("chats", rows, {}, len(rows))
    return list(training_examples(renderer, renderer.encode, arm, list(rows)).values())


def _named(lm: LanguageModel, trait: Trait) -> LanguageModel:
    return replace(lm, name=f"{lm.name} tuned on {trait.name}")
