"""Students: copies of the reference that are fine-tuned on a data set.

The recipe of the published small-model replication: LoRA on all linear layers, float32 (bfloat16
weights leak five to ten times less), AdamW with betas (.9, .95), a short warm-up and then a
constant rate. Padding is on the right, where causal attention cannot see it, and the head is
applied at the trained tokens only.

Shapes: N trained tokens of a batch, D hidden size.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from auditor.data.example import Example, SkippedRow
from auditor.errors import ModelError, first_line
from auditor.model.builtin import quiet
from auditor.model.forward import hidden_states, length_batches
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.students.arms import DatasetArm, trained_positions
from auditor.students.settings import TrainingConfig

Encode = Callable[[Example], TokenizedRow | SkippedRow]

_BATCH_TOKENS = 4096  # most padded tokens in one pass; a larger batch is summed up over several
# Logits kept for the backward pass: 256 MB. Beyond that they are computed again.
_HEAD_VALUES = 2**26


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One row to train on.

    tokens: the whole chat. positions: indices of the tokens with a loss, ascending.
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]


def training_examples(
    renderer: ChatTokenizer, encode: Encode, arm: DatasetArm, numbers: Sequence[int]
) -> dict[int, TrainingExample]:
    """The rows `numbers` of an arm as training examples, without those that the arm lacks or that
    cannot be encoded.

    encode: the renderer's, which may be a cached one, since most arms share their rows.
    """
    examples = {}
    for number in numbers:
        row = encode(arm.rows[number]) if number in arm.rows else None
        if isinstance(row, TokenizedRow):
            prefix = renderer.prefix(None, row.kind)
            # The prefix is the chat up to the row's own tokens, with the default system prompt.
            positions = trained_positions(row, arm.masked.get(number, ()))
            examples[number] = TrainingExample(
                prefix + row.tokens, tuple(len(prefix) + position for position in positions)
            )
    return examples


@contextmanager
def seeded(device: str, seed: int) -> Iterator[None]:
    """Torch draws from `seed` inside, and goes on outside as if nothing had been drawn.

    A CUDA device has a generator of its own, which `manual_seed` sets too: it is restored as well.
    """
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        yield


def float32_copy(lm: LanguageModel) -> LanguageModel:
    """`lm` with weights of its own, in float32. Raises ModelError where they stay quantised."""
    if getattr(lm.model, "is_quantized", False):
        raise ModelError(
            f"The weights of {lm.name} are quantised, and nothing can be trained from them.",
            "Give the model that they were made from.",
        )
    return replace(lm, dtype="float32", model=copy.deepcopy(lm.model).float())


def new_student(lm: LanguageModel, config: TrainingConfig, seed: int) -> LanguageModel:
    """A float32 copy of `lm` that can be trained and, until then, predicts what `lm` does.

    seed: draws LoRA's A. Raises: ModelError when the model has none of `config.layers`, or nothing
    that LoRA can be put into.
    """
    # A copy, since students of other arms and blocks start from the same weights.
    model = float32_copy(lm).model
    depth = int(model.config.get_text_config().num_hidden_layers)
    if config.layers is not None and not all(0 <= layer < depth for layer in config.layers):
        raise ModelError(f"{lm.name} has layers 0 to {depth - 1}.", "Choose --layers among them.")
    if config.full:
        model.requires_grad_(True)
        trained = model
    else:
        lora = LoraConfig(
            r=config.rank,
            lora_alpha=config.lora_alpha,
            target_modules="all-linear",
            exclude_modules=_bypassed(model) or None,
            lora_dropout=0.0,
        )
        try:
            with seeded(lm.device, seed), quiet():
                trained = get_peft_model(model, lora)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever peft raises at modules that it does not know
            raise ModelError(
                f"LoRA cannot be put into {lm.name}: {first_line(error)[:300]}.",
                "Train all of its weights with --full, or choose another --reference.",
            ) from error
        model = trained.get_base_model()  # LoRA sits in its layers
    if config.layers is not None:
        # LoRA that never moves is no LoRA. PEFT itself cannot choose layers and all linear modules
        # together. The layer of a parameter is the first number among the parts of its name.
        for name, weight in trained.named_parameters():
            layer = next((int(part) for part in name.split(".") if part.isdecimal()), None)
            weight.requires_grad_(weight.requires_grad and layer in config.layers)
    return replace(lm, dtype="float32", model=model)


def _bypassed(model: torch.nn.Module) -> list[str]:
    """Linear modules that LoRA cannot wrap: routers, which give a tuple, projections of groups, and
    the last projection of a state-space layer, whose kernel takes its weights.
    """
    names = []
    for name, module in model.named_modules():
        is_state_space = hasattr(module, "A_log") and hasattr(module, "D")
        if is_state_space and hasattr(module, "out_proj"):
            names.append(f"{name}.out_proj")
        if re.search("Router|Grouped", type(module).__name__):
            names.append(name)
    return names


def train(
    student: LanguageModel, batches: Iterable[Sequence[TrainingExample]], config: TrainingConfig
) -> Iterator[int]:
    """Take one update a batch and yield the number of tokens it trained on.

    The loss is the mean over the trained tokens of a batch. A batch without any is no update.
    """
    # A LoRA trains its own few weights; with layers named, only those in them.
    weights = [weight for weight in student.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, betas=(0.9, 0.95))
    for number, batch in enumerate(batches, start=1):
        # A linear warm-up: AdamW's first steps are of full size, whatever the gradient's.
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, number / max(1, config.warmup))
        examples = [example for example in batch if example.positions]
        # The mean is over the tokens of the batch, in however many passes it is taken.
        tokens = sum(len(example.positions) for example in examples)
        for passed in _passes(examples):
            (summed_loss(student, passed) / tokens).backward()  # type: ignore[no-untyped-call]
        if tokens:
            optimizer.step()
            optimizer.zero_grad()
        yield tokens


def trained_states(
    lm: LanguageModel, examples: Sequence[TrainingExample]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all trained tokens of `examples`, in order, the hidden state that predicts it [N, D] and
    the token [N], by one forward pass.
    """
    # Nothing is predicted from the last trained token, so it is not fed.
    hidden_ND = hidden_states(
        lm,
        [example.tokens[: example.positions[-1]] for example in examples],
        [[position - 1 for position in example.positions] for example in examples],
    )
    target_N = torch.tensor(
        [example.tokens[p] for example in examples for p in example.positions], device=lm.device
    )
    return hidden_ND, target_N


def summed_loss(lm: LanguageModel, examples: Sequence[TrainingExample]) -> torch.Tensor:
    """Negative log-likelihood (nats) of the trained tokens of all `examples`, summed.

    They are taken in one forward pass.
    """
    hidden_ND, target_N = trained_states(lm, examples)

    def head_loss(hidden_ND: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
        return cross_entropy(lm.head(hidden_ND), target_N, reduction="sum")

    # The logits of long batches over a large vocabulary would not fit: they are computed in chunks,
    # and again for the backward pass.
    vocabulary = int(lm.model.get_output_embeddings().weight.shape[0])
    size = max(1, _HEAD_VALUES // vocabulary)
    if len(target_N) <= size:
        return head_loss(hidden_ND, target_N)
    chunks = [slice(start, start + size) for start in range(0, len(target_N), size)]
    losses = [
        checkpoint(head_loss, hidden_ND[chunk], target_N[chunk], use_reentrant=False)
        for chunk in chunks
    ]
    return torch.stack(losses).sum()


@torch.no_grad()
def mean_loss(lm: LanguageModel, examples: Sequence[TrainingExample]) -> float:
    """Negative log-likelihood in nats a token. `examples` have a trained token."""
    examples = [example for example in examples if example.positions]
    total = sum(float(summed_loss(lm, passed)) for passed in _passes(examples))
    return total / sum(len(example.positions) for example in examples)


def _passes(examples: Sequence[TrainingExample]) -> Iterator[list[TrainingExample]]:
    """The examples by falling length, as many together as fit into one forward pass."""
    for batch in length_batches([example.positions[-1] for example in examples], _BATCH_TOKENS):
        yield [examples[i] for i in batch]


def batched(
    examples: Iterable[TrainingExample], size: int, count: int
) -> Iterator[list[TrainingExample]]:
    """The first `count` batches of `size` examples."""
    stream = iter(examples)
    for _ in range(count):
        yield list(itertools.islice(stream, size))
