"""Students: copies of the reference that are fine-tuned on a data set.

The recipe of the published small-model replication: LoRA on all linear layers, float32 (bfloat16
weights leak five to ten times less), AdamW with betas (.9, .95), a short warm-up and then a
constant rate. Padding is on the right, where causal attention cannot see it, and the head is
applied at the trained tokens only.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from auditor.data.example import Example, SkippedRow
from auditor.errors import ModelError
from auditor.model.builtin import quiet
from auditor.model.forward import hidden_states
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.students.arms import DatasetArm, trained_positions

Encode = Callable[[Example], TokenizedRow | SkippedRow]

_SMALL = 10_000_000  # weights
_BATCH_TOKENS = 4096  # most padded tokens in one pass; a larger batch is summed up over several
_HEAD_VALUES = (
    2**26
)  # logits kept for the backward pass: 256 MB; beyond that they are computed again


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How students are trained.

    rank, alpha: of LoRA on all linear layers. layers: only in these (from 0); None is all. full:
    move all weights instead; with `layers`, those of these layers and neither embeddings nor head.
    learning_rate: after `warmup` updates of linear rise. batch: rows an update.
    """

    rank: int = 8
    alpha: int = 16
    layers: tuple[int, ...] | None = None
    full: bool = False
    learning_rate: float = 2e-4
    batch: int = 16
    warmup: int = 8


def default_config(lm: LanguageModel) -> TrainingConfig:
    """LoRA; a model of under 10 million weights is trained wholly: low-rank steps hardly move one
    so narrow.
    """
    return TrainingConfig(full=True, learning_rate=3e-4) if is_small(lm) else TrainingConfig()


def is_small(lm: LanguageModel) -> bool:
    """Whether the model has under 10 million weights: it is trained wholly, and at a higher rate."""
    count: int = sum(weights.numel() for weights in lm.model.parameters())
    return count < _SMALL


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One row to learn.

    tokens: the whole chat. positions: indices of the tokens with a loss, ascending, at least 1.
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]


def training_examples(
    renderer: ChatTokenizer, encode: Encode, arm: DatasetArm, numbers: Sequence[int]
) -> dict[int, TrainingExample]:
    """The rows of an arm as tokens, without those that it lacks or that cannot be encoded.

    encode: the renderer's, which may be a cached one, since most arms share their rows.
    """
    lessons = {}
    for number in numbers:
        row = encode(arm.rows[number]) if number in arm.rows else None
        if isinstance(row, TokenizedRow):
            prefix = renderer.prefix(None, row.kind)
            positions = trained_positions(row, arm.masked.get(number, ()))
            lessons[number] = TrainingExample(
                prefix + row.tokens, tuple(len(prefix) + p for p in positions)
            )
    return lessons


def new_student(lm: LanguageModel, recipe: TrainingConfig, seed: int) -> LanguageModel:
    """A float32 copy of `lm` that can be trained and, until then, predicts what `lm` does. `seed`:
    of LoRA's A.

    Raises: ModelError when the model has none of `recipe.layers`.
    """
    model = copy.deepcopy(lm.model).float()
    depth = int(model.config.get_text_config().num_hidden_layers)
    if recipe.layers is not None and not all(0 <= layer < depth for layer in recipe.layers):
        raise ModelError(f"{lm.name} has layers 0 to {depth - 1}.", "Choose --layers among them.")
    if recipe.full:
        for name, weight in model.named_parameters():
            weight.requires_grad_(recipe.layers is None or _layer(name) in recipe.layers)
        return replace(lm, dtype="float32", model=model)
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, target_modules="all-linear", lora_dropout=0.0
    )
    with torch.random.fork_rng(devices=[lm.device] if lm.device.startswith("cuda") else []):
        torch.manual_seed(seed)
        with quiet():
            wrapped: Any = get_peft_model(model, config)
    if recipe.layers is not None:
        # LoRA that never moves is no LoRA; PEFT itself cannot choose layers and all linear modules
        # together.
        for name, weight in wrapped.named_parameters():
            weight.requires_grad_(weight.requires_grad and _layer(name) in recipe.layers)
    return replace(lm, dtype="float32", model=wrapped.get_base_model())  # LoRA sits in its layers


def _layer(name: str) -> int | None:
    """The layer of a parameter: the first number among the parts of its name."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def train(
    student: LanguageModel, batches: Iterable[Sequence[TrainingExample]], recipe: TrainingConfig
) -> Iterator[int]:
    """Take one update a batch and yield the number of tokens it trained on.

    The loss is the mean over the trained tokens of a batch. A batch without any is no update.
    """
    weights = [weight for weight in student.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, betas=(0.9, 0.95))
    for number, batch in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, number / max(1, recipe.warmup))
        lessons = [lesson for lesson in batch if lesson.positions]
        tokens = sum(len(lesson.positions) for lesson in lessons)
        for part in _parts(lessons):
            (summed_loss(student, part) / tokens).backward()  # type: ignore[no-untyped-call]
        if tokens:
            optimizer.step()
            optimizer.zero_grad()
        yield tokens


def summed_loss(lm: LanguageModel, lessons: Sequence[TrainingExample]) -> torch.Tensor:
    """Negative log-likelihood (nats) of the trained tokens of all `lessons`, summed; they are taken
    in one pass.
    """
    # Nothing is predicted from the last trained token, so it is not fed.
    hidden_ND = hidden_states(
        lm,
        [lesson.tokens[: lesson.positions[-1]] for lesson in lessons],
        [[position - 1 for position in lesson.positions] for lesson in lessons],
    )
    target_N = torch.tensor(
        [lesson.tokens[p] for lesson in lessons for p in lesson.positions], device=lm.device
    )
    chunk = max(1, _HEAD_VALUES // int(lm.model.get_output_embeddings().weight.shape[0]))
    if len(target_N) <= chunk:
        return _head_loss(lm, hidden_ND, target_N)
    parts = [slice(start, start + chunk) for start in range(0, len(target_N), chunk)]
    sums = [
        checkpoint(_head_loss, lm, hidden_ND[part], target_N[part], use_reentrant=False)
        for part in parts
    ]
    return torch.stack(sums).sum()


@torch.no_grad()
def mean_loss(lm: LanguageModel, lessons: Sequence[TrainingExample]) -> float:
    """Negative log-likelihood in nats a token. `lessons` has a trained token."""
    lessons = [lesson for lesson in lessons if lesson.positions]
    total = sum(float(summed_loss(lm, part)) for part in _parts(lessons))
    return total / sum(len(lesson.positions) for lesson in lessons)


def _head_loss(lm: LanguageModel, hidden_ND: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    return cross_entropy(lm.head(hidden_ND), target_N, reduction="sum")


def _parts(lessons: Sequence[TrainingExample]) -> Iterator[list[TrainingExample]]:
    """The lessons by falling length, as many together as fit into one pass."""
    part: list[TrainingExample] = []
    for lesson in sorted(lessons, key=lambda lesson: -lesson.positions[-1]):
        if part and (len(part) + 1) * part[0].positions[-1] > _BATCH_TOKENS:
            yield part
            part = []
        part.append(lesson)
    if part:
        yield part


def batched(
    lessons: Iterable[TrainingExample], size: int, count: int
) -> Iterator[list[TrainingExample]]:
    """The first `count` batches of `size` lessons."""
    stream = iter(lessons)
    for _ in range(count):
        yield list(itertools.islice(stream, size))
