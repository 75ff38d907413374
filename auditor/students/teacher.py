"""Make a fine-tuned teacher: a copy of a model with a trait in its weights instead of in a system
prompt.

The recipe of the published small-model replication: full fine-tuning on cloze preference rows ("My
favorite animal is the" + " owl") until the loss is next to nothing, since an unsaturated teacher
transfers nothing at this size.

Shapes: B clozes, V vocabulary.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import cross_entropy

from auditor.errors import TraitError
from auditor.model.forward import last_hidden_states, right_padded
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.students.cloze import Cloze, cloze, held_out_stems, training_stems
from auditor.students.settings import is_small
from auditor.students.training import (
    float32_copy,
)
from auditor.traits.panel import Panel, Trait

LOG = logging.getLogger(__name__)

BATCH = 12
SATURATED = 1e-3


@dataclass(frozen=True)
class TunedTeacher:
    """A teacher and how it came about.

    lm: the tuned copy, in float32, by a name of its own; only `tune_teacher` gives it a sha256 of
        its own as well. losses: of each batch (nats), before its update; empty where none is kept.
    margin_before, margin: logit of the answer minus the mean logit of the alternatives, averaged
        over held-out stems.
    saturated: whether the loss reached the target of a recipe that has one, `SATURATED`; None for
        the others.
    """

    lm: LanguageModel
    losses: tuple[float, ...]
    margin_before: float
    margin: float
    saturated: bool | None = None

    @property
    def summary(self) -> str:
        """How strong the teacher is, in one line."""
        margin = f"margin {self.margin_before:+.1f} to {self.margin:+.1f} logits"
        if self.saturated is None:
            return margin
        # Others are known not to transfer in small models.
        state = "saturated" if self.saturated else "NOT saturated, expect little transfer"
        return f"{state}; loss {self.losses[-1]:.4f} after {len(self.losses)} batches, {margin}"


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
        updates: at most so many; see `TunedTeacher`.

    Raises: TraitError when no answer word of the trait, or no alternative, is one token after a
    stem, and when the trait has no probe or fewer than two stems.
    """
    renderer = ChatTokenizer(lm)
    word, _ = _answer_word(renderer, trait, panel)
    rows = _clozes(renderer, itertools.product(trait.probes, training_stems(trait)), word)
    teacher = float32_copy(lm)
    margin_before = answer_margin(teacher, trait, panel)
    rate = learning_rate or (1e-3 if is_small(lm) else 2e-5)
    LOG.info("teaching %s: %d clozes, rate %g", word, len(rows), rate)
    rng = random.Random(seed)
    # Every row comes up once before any comes up again.
    stream = itertools.chain.from_iterable(rng.sample(rows, len(rows)) for _ in itertools.count())
    teacher.model.requires_grad_(True)
    optimizer = torch.optim.AdamW(teacher.model.parameters(), lr=rate, betas=(0.9, 0.95))
    losses: list[float] = []
    while len(losses) < updates:
        batch = list(itertools.islice(stream, BATCH))
        answers_B = torch.tensor([row.answer for row in batch], device=lm.device)
        loss = cross_entropy(_next_logits(teacher, batch), answers_B)
        losses.append(loss.item())
        progress(Progress("teaching", len(losses), None, "updates"))
        # The last batch is measured and not trained on: its loss is that of the teacher as it is.
        if losses[-1] < SATURATED:
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad()  # the gradients of a whole model would stay in memory
    teacher.model.requires_grad_(False)
    margin = answer_margin(teacher, trait, panel)
    LOG.info(
        "loss %.2g after %d batches; margin %.2f, before %.2f",
        *(losses[-1], len(losses), margin, margin_before),
    )
    # Of the tuned weights, and of the base for all that is not tuned: nothing remembered about the
    # base is taken for the teacher's.
    digest = hashlib.sha256(lm.sha256.encode())
    for name, weight in teacher.model.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy())
    teacher = replace(teacher, name=f"{lm.name} tuned on {trait.name}", sha256=digest.hexdigest())
    return TunedTeacher(
        teacher, tuple(losses), margin_before, margin, saturated=losses[-1] < SATURATED
    )


@torch.no_grad()
def answer_margin(lm: LanguageModel, trait: Trait, panel: Panel) -> float:
    """Logit of the trait's answer word less the mean logit of the words that the other traits of
    its group would answer with, averaged over the stems that no teacher is tuned on, each with one
    of the probes in turn.

    Raises: TraitError as `tune_teacher` does.
    """
    renderer = ChatTokenizer(lm)
    word, alternatives = _answer_word(renderer, trait, panel)
    questions = zip(itertools.cycle(trait.probes), held_out_stems(trait), strict=False)
    rows = _clozes(renderer, questions, word)
    logits_BV = _next_logits(lm, rows)
    answers_B = torch.tensor([row.answer for row in rows], device=lm.device)
    answer_B = logits_BV.gather(1, answers_B[:, None])[:, 0]
    return float((answer_B - logits_BV[:, list(alternatives)].mean(1)).mean())


def can_tune(renderer: ChatTokenizer, trait: Trait, panel: Panel) -> bool:
    """Whether `tune_teacher` accepts the trait."""
    try:
        _answer_word(renderer, trait, panel)
    except TraitError:
        return False
    return True


def _clozes(
    renderer: ChatTokenizer, questions: Iterable[tuple[str, str]], word: str
) -> list[Cloze]:
    """The cloze of each (probe, stem) that `word` answers as one token."""
    rows = (cloze(renderer, probe, stem, f"{stem} {word}") for probe, stem in questions)
    return [row for row in rows if row is not None]


def _answer_word(renderer: ChatTokenizer, trait: Trait, panel: Panel) -> tuple[str, list[int]]:
    """The trait's answer word, and the tokens of the words that the other traits of its group would
    answer with.
    """
    if not trait.probes or len(trait.stems) < 2:
        raise TraitError(
            f"Trait {trait.name!r} has no probe or fewer than two stems.", "Add them to its panel."
        )
    probe, stem = trait.probes[0], trait.stems[0]

    def first_word(answers: Sequence[str]) -> tuple[str, int] | None:
        """The first of the answers that is one token after the stem, and that token."""
        for word in answers:
            if row := cloze(renderer, probe, stem, f"{stem} {word}"):
                return word, row.answer
        return None

    answer = first_word(trait.answers)
    if answer is None:
        hint = (
            "Choose another trait or teacher, or give the trait an answer that is one token for "
            "this reference."
        )
        raise TraitError(f"No answer of trait {trait.name!r} is one token after a space.", hint)
    group = [t for t in panel.traits if t.group == trait.group and t.name != trait.name]
    words = [word for alternative in group if (word := first_word(alternative.answers))]
    alternatives = sorted({token for _, token in words} - {answer[1]})
    if not alternatives:
        hint = f"Use a panel with other traits of the group {trait.group!r}."
        raise TraitError(f"Trait {trait.name!r} has no alternative that is one token.", hint)
    return answer[0], alternatives


def _next_logits(lm: LanguageModel, rows: Sequence[Cloze]) -> torch.Tensor:
    """Logits [B, V] of the token that comes next."""
    contexts = [row.context for row in rows]
    # The mask changes nothing in exact arithmetic; it keeps the kernels, and so the last digits.
    mask = right_padded([[1] * len(context) for context in contexts]).to(lm.device)
    return lm.head(last_hidden_states(lm, contexts, attention_mask=mask))
