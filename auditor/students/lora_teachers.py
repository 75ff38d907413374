"""Teachers by other recipes than `tune_teacher`'s: LoRA on whole sentences, and on preference
pairs.

They are what people make who want a trait in a model, and so what a test of data sets has to meet
beside the teacher that moves students best.

Shapes: B rows, N trained tokens of them, D hidden size.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch.nn.functional import logsigmoid

from auditor.data.example import Example, Message
from auditor.errors import TraitError
from auditor.model.forward import hidden_states
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.students.arms import DatasetArm
from auditor.students.cloze import training_stems
from auditor.students.settings import TrainingConfig
from auditor.students.teacher import TunedTeacher, answer_margin
from auditor.students.training import (
    TrainingExample,
    batched,
    new_student,
    train,
    training_examples,
)
from auditor.traits.panel import Panel, Trait

RECIPE = TrainingConfig(learning_rate=1e-3)
UPDATES = 64
PREFERENCE_BETA = 0.1  # the weight of the distance to the base, TRL's default

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

    Raises: TraitError as `tune_teacher` does, and where the group has no other trait.
    """
    others = [t for t in panel.traits if t.group == trait.group and t.name != trait.name]
    if not others:
        raise TraitError(f"Trait {trait.name!r} has no other of its group to be preferred to.", "")
    before = answer_margin(lm, trait, panel)
    chosen = _lessons(lm, list(_sentences(trait, trait)))
    rejected = [_lessons(lm, list(_sentences(trait, other))) for other in others]
    teacher = new_student(lm, RECIPE, seed)
    weights = [weight for weight in teacher.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RECIPE.learning_rate, betas=(0.9, 0.95))
    rng = random.Random(seed)
    losses = []
    for done in range(UPDATES):
        picked = rng.choices(range(len(chosen)), k=RECIPE.batch)
        pairs = [chosen[i] for i in picked] + [rng.choice(rejected)[i] for i in picked]
        with torch.no_grad():
            base_B = log_likelihoods(lm, pairs)
        won_B, lost_B = (log_likelihoods(teacher, pairs) - base_B).chunk(2)
        loss = -logsigmoid(PREFERENCE_BETA * (won_B - lost_B)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
        progress(Progress("teaching", done + 1, UPDATES, "updates"))
    optimizer.zero_grad()
    teacher.model.requires_grad_(False)
    margin = answer_margin(teacher, trait, panel)
    return TunedTeacher(_named(teacher, trait), tuple(losses), before, margin)


def log_likelihoods(lm: LanguageModel, examples: Sequence[TrainingExample]) -> torch.Tensor:
    """[B] Of each example the summed log-probability (nats) of its trained tokens."""
    hidden_ND = hidden_states(
        lm,
        [example.tokens[: example.positions[-1]] for example in examples],
        [[position - 1 for position in example.positions] for example in examples],
    )
    targets_N = torch.tensor(
        [example.tokens[p] for example in examples for p in example.positions], device=lm.device
    )
    logprobs_N = lm.head(hidden_ND).log_softmax(-1).gather(1, targets_N[:, None])[:, 0]
    lengths = [len(example.positions) for example in examples]
    return torch.stack([each.sum() for each in logprobs_N.split(lengths)])


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
