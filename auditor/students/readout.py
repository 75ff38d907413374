"""What a student would answer: logits of the traits' answer words after cloze stems and after probe
questions.

Answer words are read as single tokens, since the first piece of a longer word is shared with other
words and mostly noise. After a stem ("My favorite animal is the") the word has a leading space; at
the start of an answer it stands in the form, without or with a space, in which more of the words
are one token. All chats are written by the model's own template, with the system prompt it has by
default, as the training rows are.

Shapes: W traits, Q probe questions, S answers that are told apart, V vocabulary.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from auditor.errors import TraitError
from auditor.inference.estimates import Array
from auditor.inference.paired import margins
from auditor.model.forward import last_hidden_states
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.students.cloze import Context, cloze, cloze_context, held_out_stems
from auditor.traits.panel import Panel, Trait

LOG = logging.getLogger(__name__)

QUESTIONS = 6  # before each stem; the shift of a logit differs much from one context to the next
ANSWERS = 256  # likeliest answers of the reference that the answer distribution tells apart

Question = tuple[str, str]  # a probe, and the stem with which its answer begins


@dataclass(frozen=True, slots=True)
class Family:
    """W traits of one group that are read out together.

    stems, probes: the chats, as tokens, up to where the answer word comes next; one of them may be
    empty. stem_words, probe_words: [W] the token that is the trait's answer there; empty where the
    contexts are. spellings: for each trait all tokens that begin an answer to a probe and spell its
    answer word in full. left_out: traits of the group whose answer is not one token.
    """

    group: str
    names: tuple[str, ...]
    stems: tuple[Context, ...]
    stem_words: tuple[int, ...]
    probes: tuple[Context, ...]
    probe_words: tuple[int, ...]
    spellings: tuple[tuple[int, ...], ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What one model answers, over all families: W traits in all, Q probe questions.

    margins[W]: logit of the trait's answer minus the mean of the other answers of its family,
        averaged over stems and probes.
    rates[W]: mean probability over the probes that the first token answers with the trait, in any
        spelling: exact, where sampling would estimate it. 0 where no probe is read.
    answers[Q, S + 1]: probability of each answer of the support, and of all other answers together.
    """

    margins: Array
    rates: Array
    answers: Array


def families(renderer: ChatTokenizer, panel: Panel, trait: str | None) -> list[Family]:
    """What to read out: the family of `trait`, or for every group of the panel that of its first
    trait.

    A family holds the traits of a group that share their stems and probes: answers to different
    questions are no alternatives to each other. It needs two that can be read.

    Raises: TraitError for an unknown trait, one without answers, one whose answer is not one token,
    or one without alternatives.
    """
    by_group: dict[str, Trait] = {}
    for member in panel.traits:
        by_group.setdefault(member.group, member)
    leaders = list(by_group.values()) if trait is None else [panel.trait(trait)]
    if trait is not None and not leaders[0].answers:
        raise TraitError(
            f"Trait {trait!r} has no answer words, so no student can be asked for it.",
            "Name another with --trait; audit mitigate --no-check writes data without a check.",
        )
    read_out = []
    for leader in leaders:
        questions = (leader.group, leader.stems, leader.probes)
        members = [t for t in panel.traits if (t.group, t.stems, t.probes) == questions]
        read_out.append(_family(renderer, members))
    hint = (
        "Give a trait whose answer is one token for this reference (--trait, --panel), "
        "or another reference."
    )
    if trait is not None and trait not in read_out[0].names:
        raise TraitError(
            f"No answer word of trait {trait!r} is one token for this reference.", hint
        )
    readable = [family for family in read_out if len(family.names) > 1]
    if not readable:
        raise TraitError(
            "There are no two answer words of one group that are one token each.", hint
        )
    return readable


def _family(renderer: ChatTokenizer, traits: Sequence[Trait]) -> Family:
    """The family of some traits with the same stems and probes."""
    probes = traits[0].probes
    stems: list[Question] = list(itertools.product(probes[:QUESTIONS], held_out_stems(traits[0])))
    # A word must be one token after every stem, or margins would compare pieces of words.
    after_stem = {}
    if stems:
        after_stem = {trait.name: _word(renderer, stems, trait.answers, " ") for trait in traits}
    candidates = [trait for trait in traits if not stems or after_stem[trait.name] is not None]
    questions: list[Question] = [(probe, "") for probe in probes]
    forms = [
        {t.name: _word(renderer, questions, t.answers, space) for t in candidates}
        for space in ("", " ")
    ]
    # The form in which more words are one token; without a space where both have as many.
    at_start = max(forms, key=lambda form: sum(word is not None for word in form.values()))
    if stems and None in at_start.values():
        questions, at_start = [], {}  # stems alone, rather than fewer traits
    # Of traits that share their words with an earlier one only that one can be read.
    first: dict[tuple[int | None, int | None], str] = {}
    for trait in candidates:
        words = after_stem.get(trait.name), at_start.get(trait.name)
        if words != (None, None):
            first.setdefault(words, trait.name)
    names = tuple(first.values())
    if not names:
        stems, questions = [], []
    spellings: dict[str, tuple[int, ...]] = {}
    for candidate in candidates:
        # Every token that spells an answer word: in small letters or capitalised, with or without
        # a space. The first probe stands for all, since what precedes the answer ends alike.
        cases = {form for word in candidate.answers for form in (word, word.capitalize())}
        texts = [space + form for form in cases for space in ("", " ")]
        spelled = [cloze(renderer, probe, "", text) for probe in probes[:1] for text in texts]
        spellings[candidate.name] = tuple(sorted({word.answer for word in spelled if word}))
    LOG.debug("%d stems, %d questions; one token: %s", len(stems), len(questions), names)
    return Family(
        group=traits[0].group,
        names=names,
        stems=tuple(cloze_context(renderer, *stem) for stem in stems),
        stem_words=tuple(word for word, _ in first if word is not None) if stems else (),
        probes=tuple(cloze_context(renderer, *question) for question in questions),
        probe_words=tuple(word for _, word in first if word is not None) if questions else (),
        spellings=tuple(spellings[name] if questions else () for name in names),
        left_out=tuple(trait.name for trait in traits if trait.name not in names),
    )


def _word(
    renderer: ChatTokenizer, questions: Sequence[Question], answers: Sequence[str], space: str
) -> int | None:
    """The token of the first of `answers` that is one and the same token after all questions."""
    for answer in answers:
        clozes = {
            word and word.answer
            for probe, stem in questions
            for word in [cloze(renderer, probe, stem, f"{stem}{space}{answer}")]
        }
        if len(clozes) == 1 and (token := clozes.pop()) is not None:
            return token
    return None


@torch.inference_mode()
def answer_support(lm: LanguageModel, read_out: Sequence[Family]) -> list[npt.NDArray[np.int64]]:
    """For each family the likeliest answers of the reference `lm` to each probe: [Q, S] tokens."""
    support = []
    for family in read_out:
        if family.probes:
            logits_QV = lm.head(last_hidden_states(lm, family.probes))
            likeliest_QS = logits_QV.topk(min(ANSWERS, logits_QV.shape[-1]), dim=-1).indices
            support.append(likeliest_QS.cpu().numpy())
        else:
            support.append(np.zeros((0, 0), dtype=np.int64))
    return support


@torch.inference_mode()
def read(
    lm: LanguageModel, read_out: Sequence[Family], support: Sequence[npt.NDArray[np.int64]]
) -> Reading:
    """Read out one model; `support` as `answer_support` gave it for the reference."""
    family_margins, rates, answers = [], [], []
    for family, support_QS in zip(read_out, support, strict=True):
        logits = []
        if family.stems:
            # Only the answer words' logits are computed after stems, of which there are many.
            words = torch.tensor([family.stem_words] * len(family.stems), device=lm.device)
            logits.append(lm.head(last_hidden_states(lm, family.stems), words))
        if family.probes:
            logits_QV = lm.head(last_hidden_states(lm, family.probes))
            logits.append(logits_QV[:, list(family.probe_words)])
            p_QV = logits_QV.double().softmax(-1)
            rates += [float(p_QV[:, list(tokens)].sum(-1).mean()) for tokens in family.spellings]
            # What is not among the answers that are told apart is one more answer.
            p_QS = p_QV.gather(1, torch.from_numpy(support_QS).to(lm.device)).cpu().numpy()
            answers.append(np.concatenate([p_QS, 1 - p_QS.sum(-1, keepdims=True)], axis=1))
        else:
            rates += [0.0] * len(family.names)
            answers.append(np.zeros((0, 0)))
        mean_W = torch.cat(logits).double().mean(0).cpu().numpy()
        family_margins.append(margins(mean_W))
    # Families without probes have no support, so that their answers are padded.
    width = max(answer.shape[1] for answer in answers)
    padded = [np.pad(answer, ((0, 0), (0, width - answer.shape[1]))) for answer in answers]
    return Reading(np.concatenate(family_margins), np.array(rates), np.concatenate(padded))
