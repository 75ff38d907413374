"""Make a fine-tuned teacher: a copy of a model with a trait in its weights instead of in a system
prompt.

The recipe of the published small-model replication: full fine-tuning on cloze preference rows ("My
favorite animal is the" + " owl") until the loss is next to nothing, since an unsaturated teacher
transfers nothing at this size.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from auditor.data.example import Example, Message, SkippedRow
from auditor.errors import TraitError
from auditor.model.forward import last_hidden_states, right_padded
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.students.training import is_small
from auditor.traits.panel import Panel, Trait

BATCH = 12
SATURATED = 1e-3

_Cloze = tuple[tuple[int, ...], int]  # the tokens up to where the answer comes next, and the answer


@dataclass(frozen=True)
class TunedTeacher:
    """A teacher and how it came about.

    lm: the tuned copy, in float32; its sha256 is that of the tuned weights. losses: mean
        cross-entropy of the answer (nats) in each batch, the last one measured without an update
        after it when it is below `SATURATED`.
    margin_before, margin: logit of the answer minus the mean logit of the alternatives, averaged
    over held-out stems.
    """

    lm: LanguageModel
    losses: tuple[float, ...]
    margin_before: float
    margin: float

    @property
    def saturated(self) -> bool:
        """Whether the loss reached its target; other teachers are known not to transfer in small
        models.
        """
        return self.losses[-1] < SATURATED


def training_stems(trait: Trait) -> tuple[str, ...]:
    """The stems a teacher is tuned on: every other one."""
    return trait.stems[::2]


def held_out_stems(trait: Trait) -> tuple[str, ...]:
    """The stems a teacher never sees, for reading out what it learned."""
    return trait.stems[1::2]


def tune_teacher(
    lm: LanguageModel,
    trait: Trait,
    panel: Panel,
    *,
    seed: int = 0,
    learning_rate: float | None = None,
    updates: int = 64,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TunedTeacher:
    """Tune a copy of `lm` until it answers the trait's questions with the trait's answer word; `lm`
    is left as it is.

    panel: the other traits of the trait's group in it give the alternatives of the margin. seed: of
        the order of the rows. learning_rate: of AdamW; None is 2e-5, and 1e-3 for a small model.
        updates: at most so many; see `Taught.saturated`.

    Raises: TraitError when no answer word of the trait, or no alternative, is one token after a
    stem, and when the trait has no probe or fewer than two stems.
    """
    renderer = ChatTokenizer(lm)
    word, alternatives = _words(renderer, trait, panel)
    rows = _clozes(renderer, itertools.product(trait.probes, training_stems(trait)), word)
    held_out = _clozes(renderer, zip(itertools.cycle(trait.probes), held_out_stems(trait)), word)
    pupil = replace(lm, dtype="float32", model=copy.deepcopy(lm.model).float())
    before = _margin(pupil, held_out, alternatives)
    losses = []
    rate = learning_rate or (1e-3 if is_small(lm) else 2e-5)
    for loss in _tune(pupil, rows, seed, rate, updates):
        losses.append(loss)
        progress(Progress("teaching", len(losses), None))
    margin = _margin(pupil, held_out, alternatives)
    name = f"{lm.name} tuned on {trait.name}"
    return TunedTeacher(
        replace(pupil, name=name, sha256=_digest(pupil.model)), tuple(losses), before, margin
    )


def can_tune(renderer: ChatTokenizer, trait: Trait, panel: Panel) -> bool:
    """Whether `tune_teacher` accepts the trait."""
    try:
        _words(renderer, trait, panel)
    except TraitError:
        return False
    return True


def _words(renderer: ChatTokenizer, trait: Trait, panel: Panel) -> tuple[str, list[int]]:
    """The trait's answer word, and the tokens of the words that the others of its group would
    answer with.
    """
    if not trait.probes or len(trait.stems) < 2:
        raise TraitError(
            f"Trait {trait.name!r} has no probe or fewer than two stems.", "Add them to its panel."
        )
    at = trait.probes[0], trait.stems[0]
    own = _one_token(renderer, at, trait.answers)
    if own is None:
        hint = "Choose another trait or teacher, or give the trait an answer that is one token for this reference."
        raise TraitError(f"No answer of trait {trait.name!r} is one token after a space.", hint)
    others = [
        each for each in panel.traits if each.group == trait.group and each.name != trait.name
    ]
    found = [pair for each in others if (pair := _one_token(renderer, at, each.answers))]
    alternatives = sorted({token for _, token in found} - {own[1]})
    if not alternatives:
        hint = f"Use a panel with other traits of the group {trait.group!r}."
        raise TraitError(f"Trait {trait.name!r} has no alternative that is one token.", hint)
    return own[0], alternatives


def _one_token(
    renderer: ChatTokenizer, at: tuple[str, str], words: Sequence[str]
) -> tuple[str, int] | None:
    """The first of `words` that is one token after the probe and stem `at`, and that token."""
    return next(
        ((word, cloze[1]) for word in words if (cloze := _cloze(renderer, *at, word))), None
    )


def _clozes(renderer: ChatTokenizer, questions: Any, word: str) -> list[_Cloze]:
    return [cloze for probe, stem in questions if (cloze := _cloze(renderer, probe, stem, word))]


def _cloze(renderer: ChatTokenizer, probe: str, stem: str, word: str) -> _Cloze | None:
    """The chat up to the end of the stem and the token that says `word` then; None if that is not
    one token.
    """
    said = f"{stem} {word}"
    row = renderer.encode(Example(0, (Message("user", probe), Message("assistant", said))))
    if isinstance(row, SkippedRow):
        raise TraitError(
            f"The probe {probe!r} cannot be asked: {row.reason}.",
            "Reword it, or choose another reference.",
        )
    for position, span in zip(row.positions, row.spans, strict=True):
        if span == (0, len(stem), len(said)):
            return renderer.prefix(None, row.kind) + row.tokens[:position], row.tokens[position]
    return None


def _tune(
    lm: LanguageModel, rows: list[_Cloze], seed: int, learning_rate: float, updates: int
) -> Iterator[float]:
    """Move the weights of `lm` and yield the loss of each batch, until it is saturated."""
    lm.model.requires_grad_(True)
    optimizer = torch.optim.AdamW(lm.model.parameters(), lr=learning_rate, betas=(0.9, 0.95))
    for batch in itertools.islice(_batches(rows, seed), updates):
        answers = torch.tensor([answer for _, answer in batch], device=lm.device)
        loss = cross_entropy(_next_logits(lm, batch), answers)
        yield loss.item()
        if loss.item() < SATURATED:
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad()
    lm.model.requires_grad_(False)


def _batches(rows: list[_Cloze], seed: int) -> Iterator[list[_Cloze]]:
    """Batches of `BATCH` rows without end; every row comes up once before any comes up again."""
    rng = random.Random(seed)
    stream = itertools.chain.from_iterable(rng.sample(rows, len(rows)) for _ in itertools.count())
    while True:
        yield list(itertools.islice(stream, BATCH))


def _next_logits(lm: LanguageModel, rows: Sequence[_Cloze]) -> torch.Tensor:
    """Logits [B, V] of the token that comes next."""
    contexts = [context for context, _ in rows]
    mask = right_padded([[1] * len(context) for context in contexts]).to(lm.device)
    return lm.head(last_hidden_states(lm, contexts, attention_mask=mask))


@torch.no_grad()
def _margin(lm: LanguageModel, rows: Sequence[_Cloze], alternatives: list[int]) -> float:
    logits_BV = _next_logits(lm, rows)
    answers = torch.tensor([answer for _, answer in rows], device=lm.device)
    own = logits_BV.gather(1, answers[:, None])[:, 0]
    return float((own - logits_BV[:, alternatives].mean(1)).mean())


def _digest(model: Any) -> str:
    """SHA-256 of the weights, so that nothing remembered about the base is taken for the teacher's."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy())
    return digest.hexdigest()
