"""Detector `first_step`: which answers to neutral questions would one small training step on the
data move?

By the theorem of 2507.14805 a student's first step on data of a teacher that shares its base points
where the teacher went, whatever the data look like. So we take the step and look: no trait prompt
is needed, and a trait that was made in the teacher's weights shows as well as a prompted one.

The student is the reference with LoRA on all linear layers (rank 8, as in 2509.23886); at the start
B = 0, so the step moves B only. The gradient is that of the log-likelihood under the null of the
`trait` detector (the data set's inverse temperature, its closed alphabet if it has one). Under that
null its mean is zero at every token, so no control student has to be trained: the null is the
expectation over all of them. Rows are taken in blocks; each block gives one step from the same
start, and the block is the unit of inference.

Readout: shift of an answer word's logit after cloze stems ("My favorite animal is the" -> " owl"),
in a chat turn, less the mean shift of the alternatives of its group. Words are read as one token
with a leading space; words of several tokens are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from auditor.data.example import Message
from auditor.inference.estimates import Estimate, mean_estimate, with_spread
from auditor.model.chat_template import render
from auditor.model.forward import hidden_states, last_hidden_states
from auditor.model.language_model import LanguageModel
from auditor.model.null_model import find_null
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.progress import Progress
from auditor.students.settings import TrainingConfig
from auditor.students.training import new_student
from auditor.traits.panel import Panel, Trait
from detectors.interface import Detector, Evidence, ScanContext, Skipped

BLOCK = 8  # rows of a step
MIN_BLOCKS = 8
MAX_BLOCKS = 20
STEMS = 12
MIN_ANSWERS = 4  # of a group, so that an answer has alternatives to be compared with
STEP = 0.02  # largest change of a logit aimed at: small enough that doubling it doubles the shifts

Floats = npt.NDArray[np.float64]


def detect(context: ScanContext) -> Evidence | Skipped:
    """Take the first step on the rows. Skipped for greedy rows, under which the gradient has no
    known mean.
    """
    context.progress(Progress("taking a first step", 0, None))
    if context.own_text:
        return Skipped("the text is the reference's own: a step on it goes nowhere")
    null = find_null(context.rows, context.score, context.run)
    if null.greedy:
        return Skipped("the rows are greedy choices; the gradient's null needs samples")
    return first_step(
        context.lm,
        context.rows,
        context.panel,
        null.inverse_temperature,
        null.alphabet,
        seed=context.seed,
    )


def first_step(
    lm: LanguageModel,
    rows: Sequence[TokenizedRow],
    panel: Panel,
    inverse_temperature: float,
    alphabet: Sequence[int] | None,
    *,
    seed: int,
) -> Evidence | Skipped:
    """Shifts of every answer word of the panel's groups with common stems.

    rows: in random order; the first MAX_BLOCKS * BLOCK are used. inverse_temperature, alphabet: of
    the null, see auditor.inference.tempering. Values: `answers`, a list of {name, group, shift
    (logits per unit step, arbitrary scale), z, p_value, p_adjusted} sorted by evidence; `blocks`;
    `left_out`, traits whose answer is not one token. Skipped with fewer than MIN_BLOCKS blocks, or
    without a group of at least MIN_ANSWERS one-token answers.
    """
    rows = rows[: MAX_BLOCKS * BLOCK]
    blocks = [rows[i : i + BLOCK] for i in range(0, len(rows) - BLOCK + 1, BLOCK)]
    if len(blocks) < MIN_BLOCKS:
        return Skipped(f"{len(blocks)} blocks of {BLOCK} rows; at least {MIN_BLOCKS} are needed")
    groups, left_out = answer_groups(lm, panel)
    if not groups:
        return Skipped(
            "no group of the panel has four answer words of one token after common stems"
        )
    student = FirstStepStudent.of(lm, seed)
    gradients = [student.gradient(block, inverse_temperature, alphabet) for block in blocks]
    # All blocks take steps of one scale, so that the shifts keep the mean of zero that the
    # gradients have under the null.
    norms = [
        torch.sqrt(torch.stack([(part.float() ** 2).sum() for part in step]).sum())
        for step in gradients
    ]
    scale = STEP / float(np.median([float(norm) for norm in norms]))
    answers: list[dict[str, Any]] = []
    for group, words in groups.items():
        stems = stem_tokens(lm, words[0].trait)
        tokens = [word.token for word in words]
        before = student.next_logits(stems, tokens, [torch.zeros_like(p) for p in gradients[0]])
        shifts = np.stack(
            [
                (student.next_logits(stems, tokens, [scale * p for p in step]) - before).mean(0)
                for step in gradients
            ]
        )
        for word, shift in zip(words, shift_estimates(shifts.astype(np.float64)), strict=True):
            if shift.se > 0:
                answers.append(
                    {
                        "name": word.trait.name,
                        "group": group,
                        "shift": shift.effect,
                        "z": shift.z,
                        "p_value": shift.p_value,
                    }
                )
    if not answers:
        return Skipped("no answer moved at all")
    for answer in answers:
        answer["p_adjusted"] = min(1.0, answer["p_value"] * len(answers))
    answers.sort(key=lambda answer: answer["p_value"])
    best = answers[0]
    summary = (
        f"one step moves {best['name']!r} most, z = {best['z']:.1f}, corrected p = "
        f"{best['p_adjusted']:.2g} of {len(answers)} answers over {len(blocks)} blocks"
    )
    values = {"answers": answers, "blocks": len(blocks), "left_out": left_out}
    return Evidence("first_step", summary, values)


@dataclass(frozen=True, slots=True)
class AnswerWord:
    """A trait, and the one token of its answer after a space."""

    trait: Trait
    token: int


def answer_groups(
    lm: LanguageModel, panel: Panel
) -> tuple[Mapping[str, Sequence[AnswerWord]], list[str]]:
    """The answer words of every group whose traits share their stems, if it has MIN_ANSWERS of
    them; and the traits whose answer is not one token.
    """
    groups: dict[str, list[AnswerWord]] = {}
    left_out = []
    for trait in panel.traits:
        if not trait.stems or len(trait.answers) != 1:
            continue
        ids = lm.tokenizer(f" {trait.answers[0]}", add_special_tokens=False).input_ids
        if len(ids) == 1:
            groups.setdefault(trait.group, []).append(AnswerWord(trait, ids[0]))
        else:
            left_out.append(trait.name)
    usable = {
        group: words
        for group, words in groups.items()
        if len({word.trait.stems for word in words}) == 1 and len(words) >= MIN_ANSWERS
    }
    return usable, left_out


def stem_tokens(lm: LanguageModel, trait: Trait) -> list[list[int]]:
    """Chats whose assistant turn has begun with a stem, ready for the next word to be read."""
    chats = []
    for i, stem in enumerate(trait.stems[:STEMS]):
        question = Message("user", trait.probes[i % len(trait.probes)])
        text = render(lm.tokenizer, [question], reply=True) + stem
        chats.append(list(lm.tokenizer(text, add_special_tokens=False).input_ids))
    return chats


@dataclass(frozen=True, slots=True)
class FirstStepStudent:
    """A student whose only state is B of its LoRA layers, which is zero but inside `next_logits`.

    lm: the student. b: the matrices B. renderer: of the reference.
    """

    lm: LanguageModel
    b: Sequence[torch.nn.Parameter]
    renderer: ChatTokenizer

    @classmethod
    def of(cls, lm: LanguageModel, seed: int) -> FirstStepStudent:
        """The student of a reference. seed: of LoRA's A."""
        student = new_student(lm, TrainingConfig(rank=8, lora_alpha=8), seed)
        named = list(student.model.named_parameters())
        for name, parameter in named:
            parameter.requires_grad_("lora_B" in name)
        b = [parameter for name, parameter in named if "lora_B" in name]
        return cls(student, b, ChatTokenizer(lm))

    def gradient(
        self,
        rows: Sequence[TokenizedRow],
        inverse_temperature: float,
        alphabet: Sequence[int] | None,
    ) -> list[torch.Tensor]:
        """Gradient by B of the rows' log-likelihood under the null, summed over their completion
        tokens but those that end a turn, which are no evidence (see detectors.trait).
        """
        self.lm.model.zero_grad(set_to_none=True)
        prefixes = [self.renderer.prefix(None, row.kind) for row in rows]
        evidence = [np.array(row.positions)[row.content_mask] for row in rows]
        hidden_ND = hidden_states(
            self.lm,
            [[*prefix, *row.tokens] for prefix, row in zip(prefixes, rows, strict=True)],
            [
                [len(prefix) + position - 1 for position in of_row.tolist()]
                for prefix, of_row in zip(prefixes, evidence, strict=True)
            ],
        )
        targets = np.concatenate([row.targets[row.content_mask] for row in rows])
        target_N = torch.tensor(targets, device=self.lm.device)
        ids = None if alphabet is None else torch.tensor(sorted(alphabet), device=self.lm.device)
        if ids is not None:
            target_N = torch.searchsorted(ids, target_N)
        logits_NV = inverse_temperature * self.lm.head(hidden_ND, ids)
        loss = torch.nn.functional.cross_entropy(logits_NV, target_N, reduction="sum")
        (-loss).backward()  # type: ignore[no-untyped-call]
        return [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in self.b]

    @torch.no_grad()
    def next_logits(
        self, stems: Sequence[Sequence[int]], words: Sequence[int], step: Sequence[torch.Tensor]
    ) -> npt.NDArray[np.float32]:
        """[S, W] logits of `words` after each stem when B is `step`."""
        for parameter, value in zip(self.b, step, strict=True):
            parameter.copy_(value)
        last = last_hidden_states(self.lm, stems)
        for parameter in self.b:
            parameter.zero_()
        tokens = torch.tensor(list(words), device=self.lm.device)
        logits: npt.NDArray[np.float32] = self.lm.head(last, tokens).cpu().numpy()
        return logits


def shift_estimates(shifts: Floats) -> list[Estimate]:
    """For each answer its shift less the mean of its alternatives, widened by the spread of the
    alternatives about zero.

    shifts: [blocks, answers] in any unit; z and p-values do not depend on it.
    """
    count = shifts.shape[1]
    centred = (shifts - shifts.mean(1, keepdims=True)) * count / (count - 1)
    plain = [mean_estimate(column) for column in centred.T]
    excess = [shift.effect**2 - shift.se**2 for shift in plain]
    return [
        with_spread(shift, max(0.0, float(np.mean(excess[:a] + excess[a + 1 :]))), count - 2)
        for a, shift in enumerate(plain)
    ]


DETECTOR = Detector(
    "first_step", "which answers one small training step on the data would move", "scores", detect
)
