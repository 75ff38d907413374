"""Detector `first_step`: which answers to neutral questions would one small training step on the
data move?

By the theorem of 2507.14805 a student's first step on data of a teacher that shares its base points
where the teacher went, whatever the data look like. So we take the step and look: no trait prompt
is needed, and a trait that was made in the teacher's weights shows as well as a prompted one.

The student is the reference with LoRA on all linear layers (rank 8, as in 2509.23886); at the start
B = 0, so the step moves B only. The gradient is that of the log-likelihood under the null of the
`trait` detector (the data set's inverse temperature, its closed alphabet if it has one). Under that
null its mean is zero at every token, so no placebo student has to be trained: the null is the
expectation over all of them. Rows are taken in blocks; each block gives one step from the same
start, and the block is the unit of inference.

Readout: shift of an answer word's logit after cloze stems ("My favorite animal is the" -> " owl"),
in a chat turn, less the mean shift of the alternatives of its group. Words are read as one token
with a leading space; others are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, get_peft_model

from auditor.data.example import Message
from auditor.inference.estimates import Estimate, mean_estimate, with_spread
from auditor.model.builtin import quiet
from auditor.model.chat_template import render
from auditor.model.forward import hidden_states, last_hidden_states
from auditor.model.language_model import LanguageModel
from auditor.model.null_model import NullModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.traits.panel import Panel, Trait
from detectors.context import ScanContext
from detectors.interface import Evidence, Skipped

BLOCK = 8
MIN_BLOCKS = 8
MAX_BLOCKS = 20
STEMS = 12
STEP = 0.02  # largest change of a logit aimed at: small enough that doubling it doubles the shifts


def first_step(
    lm: LanguageModel,
    rows: Sequence[TokenizedRow],
    panel: Panel,
    sharpness: float,
    alphabet: Sequence[int] | None,
    *,
    seed: int,
) -> Evidence | Skipped:
    """Shifts of every answer word of the panel's groups with common stems.

    rows: in random order; the first MAX_BLOCKS * BLOCK are used. sharpness, alphabet: the null, see
    auditor.inference.tempering. Values: `answers`, a list of {name, group, shift (logits per unit
    step, arbitrary scale), z, p_value, p_adjusted} sorted by evidence; `blocks`; `left_out`,
    answers that are not one token. Skipped with fewer than MIN_BLOCKS blocks, or without a group of
    at least four one-token answers.
    """
    renderer = ChatTokenizer(lm)
    used = [row for row in rows if row.kind == "default"][: MAX_BLOCKS * BLOCK]
    blocks = [used[i : i + BLOCK] for i in range(0, len(used) - BLOCK + 1, BLOCK)]
    if len(blocks) < MIN_BLOCKS:
        return Skipped(f"{len(blocks)} blocks of {BLOCK} rows; at least {MIN_BLOCKS} are needed")
    groups, left_out = answer_groups(lm, panel)
    if not groups:
        return Skipped(
            "no group of the panel has four answer words of one token after common stems"
        )
    stems = {name: stem_tokens(lm, traits[0][0]) for name, traits in groups.items()}
    student = Student(lm, seed)
    gradients = [
        student.gradient(renderer.prefix(None), block, sharpness, alphabet) for block in blocks
    ]
    shifts = shift_of_blocks(student, gradients, groups, stems)
    return _evidence(groups, shifts, len(blocks), left_out)


def answer_groups(
    lm: LanguageModel, panel: Panel
) -> tuple[dict[str, list[tuple[Trait, int]]], list[str]]:
    """For each group with common stems its traits with the token of their answer; and the answers
    left out.
    """
    groups: dict[str, list[tuple[Trait, int]]] = {}
    left_out = []
    for trait in panel.traits:
        if not trait.stems or len(trait.answers) != 1:
            continue
        ids = lm.tokenizer(f" {trait.answers[0]}", add_special_tokens=False).input_ids
        if len(ids) == 1:
            groups.setdefault(trait.group, []).append((trait, ids[0]))
        else:
            left_out.append(trait.name)
    shared = {
        name: found
        for name, found in groups.items()
        if len({trait.stems for trait, _ in found}) == 1
    }
    return {name: found for name, found in shared.items() if len(found) >= 4}, left_out


def stem_tokens(lm: LanguageModel, trait: Trait) -> list[list[int]]:
    """Chats whose assistant turn has begun with a stem, ready for the next word to be read."""
    ids = []
    for i, stem in enumerate(trait.stems[:STEMS]):
        text = render(
            lm.tokenizer, [Message("user", trait.probes[i % len(trait.probes)])], reply=True
        )
        ids.append(list(lm.tokenizer(text + stem, add_special_tokens=False).input_ids))
    return ids


class Student:
    """The reference with LoRA on all linear layers.

    Its only state is B, zero but inside `moved`.
    """

    def __init__(self, lm: LanguageModel, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = LoraConfig(r=8, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0)
            with quiet():
                self._model: Any = get_peft_model(copy.deepcopy(lm.model), config)
        base: Any = self._model.get_base_model()
        self._b = [p for name, p in self._model.named_parameters() if "lora_B" in name]
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_("lora_B" in name)
        self._lm = replace(lm, model=base)

    def gradient(
        self,
        prefix: Sequence[int],
        rows: Sequence[TokenizedRow],
        sharpness: float,
        alphabet: Sequence[int] | None,
    ) -> list[torch.Tensor]:
        """Gradient by B of the rows' log-likelihood under the null, summed over their completion
        tokens.
        """
        self._model.zero_grad(set_to_none=True)
        hidden_ND = hidden_states(
            self._lm,
            [[*prefix, *row.tokens] for row in rows],
            [[len(prefix) + p - 1 for p in _inner(row)] for row in rows],
        )
        target_N = torch.tensor(
            [row.tokens[p] for row in rows for p in _inner(row)], device=self._lm.device
        )
        ids = None if alphabet is None else torch.tensor(sorted(alphabet), device=self._lm.device)
        if ids is not None:
            target_N = torch.searchsorted(ids, target_N)
        logits_NV = self._lm.head(hidden_ND, ids)
        loss = torch.nn.functional.cross_entropy(sharpness * logits_NV, target_N, reduction="sum")
        (-loss).backward()  # type: ignore[no-untyped-call]
        return [
            p.grad.detach().clone() if p.grad is not None else torch.zeros_like(p) for p in self._b
        ]

    @torch.no_grad()
    def next_logits(
        self, stems: Sequence[Sequence[int]], words: Sequence[int], step: list[torch.Tensor]
    ) -> Any:
        """[S, W] logits of `words` after each stem when B is `step`."""
        for parameter, value in zip(self._b, step, strict=True):
            parameter.copy_(value)
        last = last_hidden_states(self._lm, stems)
        for parameter in self._b:
            parameter.zero_()
        return self._lm.head(last, torch.tensor(list(words), device=self._lm.device)).cpu().numpy()


def _inner(row: TokenizedRow) -> list[int]:
    """Positions of the content tokens, which alone are evidence."""
    return [p for p, content in zip(row.positions, row.content_mask, strict=True) if content]


def shift_of_blocks(
    student: Student,
    gradients: Sequence[list[torch.Tensor]],
    groups: dict[str, list[tuple[Trait, int]]],
    stems: dict[str, list[list[int]]],
) -> dict[str, npt.NDArray[np.float64]]:
    """For each group [blocks, answers]: the mean shift over stems after one step along each block's
    gradient.

    All blocks take the same step size, so that the shifts keep the mean of zero that the gradients
    have under the null.
    """
    scale = STEP / float(np.median([_norm(each) for each in gradients]))
    zero = [torch.zeros_like(p) for p in gradients[0]]
    shifts = {}
    for name, answers in groups.items():
        words = [word for _, word in answers]
        before = student.next_logits(stems[name], words, zero)
        after = [
            student.next_logits(stems[name], words, [scale * p for p in each]) for each in gradients
        ]
        shifts[name] = np.stack([(each - before).mean(0) for each in after]).astype(np.float64)
    return shifts


def shift_estimates(shifts: npt.NDArray[np.float64]) -> list[Estimate]:
    """For each answer: its shift less the mean of the others, widened by the spread of the others
    about zero.

    shifts: [blocks, answers] in any unit; z and p-values do not depend on it.
    """
    count = shifts.shape[1]
    centred = (shifts - shifts.mean(1, keepdims=True)) * count / (count - 1)
    plain = [mean_estimate(column) for column in centred.T]
    widened = []
    for a, each in enumerate(plain):
        others = [other for b, other in enumerate(plain) if b != a]
        excess = [other.effect**2 - other.se**2 for other in others]
        widened.append(with_spread(each, max(0.0, float(np.mean(excess))), len(others) - 1))
    return widened


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(torch.sqrt(torch.stack([(t.float() ** 2).sum() for t in tensors]).sum()))


def _evidence(
    groups: dict[str, list[tuple[Trait, int]]],
    shifts: dict[str, npt.NDArray[np.float64]],
    blocks: int,
    left_out: list[str],
) -> Evidence | Skipped:
    answers = list(_answers(groups, shifts))
    for answer in answers:
        answer["p_adjusted"] = min(1.0, answer["p_value"] * len(answers))
    answers.sort(key=lambda answer: answer["p_value"])
    if not answers:
        return Skipped("no answer moved at all")
    best = answers[0]
    summary = (
        f"one step moves {best['name']!r} most, z = {best['z']:.1f}, corrected p = {best['p_adjusted']:.2g} "
        f"of {len(answers)} answers over {blocks} blocks"
    )
    return Evidence(
        "first_step", summary, {"answers": answers, "blocks": blocks, "left_out": left_out}
    )


def _answers(
    groups: dict[str, list[tuple[Trait, int]]], shifts: dict[str, npt.NDArray[np.float64]]
) -> Iterator[dict[str, Any]]:
    for group, traits in groups.items():
        for (trait, _), each in zip(traits, shift_estimates(shifts[group]), strict=True):
            if each.se > 0:
                yield {
                    "name": trait.name,
                    "group": group,
                    "shift": each.effect,
                    "z": each.z,
                    "p_value": each.p_value,
                }


def take_first_step(
    audit: ScanContext, rows: Sequence[TokenizedRow], null: NullModel
) -> Evidence | Skipped:
    """Detector `first_step`, where its null holds."""
    if null.greedy:
        return Skipped("the rows are greedy choices; the gradient's null needs samples")
    return first_step(
        audit.lm, rows, audit.panel, null.inverse_temperature, null.alphabet, seed=audit.seed
    )
