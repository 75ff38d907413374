"""What a student would answer: logits of the traits' answer words after cloze stems and after probe
questions.

Answer words are read as single tokens, since the first piece of a longer word is shared with others
and mostly noise. After a stem ("My favorite animal is the") the word has a leading space; at the
start of an answer it stands in the form, without or with a space, in which more of the words are
one token. All chats are written by the model's own template, with the system prompt it has by
default, as the training rows are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from auditor.data.example import Example, Message, SkippedRow
from auditor.errors import TraitError
from auditor.inference.paired import Array, margins
from auditor.model.forward import last_hidden_states
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.students.teacher import held_out_stems
from auditor.traits.panel import Panel, Trait

QUESTIONS = 6  # before each stem; the shift of a logit differs much from one context to the next
ANSWERS = 256  # likeliest answers of the reference that the answer distribution tells apart

Context = tuple[int, ...]


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

    margins[W]: logit of the trait's answer minus the mean of the others' of its family, averaged
    over stems and probes.
    rates[W]: mean probability over the probes that the first token answers with the trait, in any
        spelling: exact, where sampling would estimate it. 0 where no probe is read.
    answers[Q, S + 1]: probability of each answer of the support, and of all others together.
    """

    margins: Array
    rates: Array
    answers: Array


def families(renderer: ChatTokenizer, panel: Panel, trait: str | None) -> list[Family]:
    """What to read out: the family of `trait`, or for every group of the panel that of its first
    trait.

    A family holds the traits of a group that share their stems and probes. It needs two that can be
    read.

    Raises: TraitError for an unknown trait, one whose answer is not one token, or one without
    alternatives.
    """
    leads = list({each.group: each for each in reversed(panel.traits)}.values())[::-1]
    if trait is not None:
        leads = list(panel.select([trait]).traits)
    found = [
        _family(renderer, [each for each in panel.traits if _asked_alike(each, lead)])
        for lead in leads
    ]
    readable = [family for family in found if len(family.names) > 1]
    hint = "Give a trait whose answer is one token for this reference (--trait, --panel), or another reference."
    if trait is not None and trait not in found[0].names:
        raise TraitError(
            f"No answer word of trait {trait!r} is one token for this reference.", hint
        )
    if not readable:
        raise TraitError(
            "There are no two answer words of one group that are one token each.", hint
        )
    return readable


def _asked_alike(trait: Trait, other: Trait) -> bool:
    """Answers to different questions are no alternatives to each other."""
    return (trait.group, trait.stems, trait.probes) == (other.group, other.stems, other.probes)


def _family(renderer: ChatTokenizer, traits: Sequence[Trait]) -> Family:
    """The family of some traits with the same stems and probes."""
    probes, stems = traits[0].probes, held_out_stems(traits[0])
    asked = list(itertools.product(probes[:QUESTIONS], stems))
    after_stem = {}
    if asked:
        after_stem = {trait.name: _words(renderer, asked, trait.answers, " ") for trait in traits}
    candidates = [trait for trait in traits if not asked or after_stem[trait.name]]
    questions = [(probe, "") for probe in probes]
    forms = [
        {t.name: _words(renderer, questions, t.answers, space) for t in candidates}
        for space in ("", " ")
    ]
    at_start = max(forms, key=lambda form: sum(map(bool, form.values())))
    if asked and not all(at_start.values()):
        questions, at_start = [], {}  # stems alone, rather than fewer traits
    names = [t.name for t in candidates if after_stem.get(t.name) or at_start.get(t.name)]
    names = _distinct(names, after_stem, at_start)
    spelled = {t.name: _spellings(renderer, questions[:1], t.answers) for t in candidates}
    return Family(
        group=traits[0].group,
        names=tuple(names),
        stems=_contexts(renderer, asked) if names else (),
        stem_words=tuple(after_stem[name][0] for name in names) if asked else (),
        probes=_contexts(renderer, questions) if names else (),
        probe_words=tuple(at_start[name][0] for name in names) if questions else (),
        spellings=tuple(spelled[name] for name in names),
        left_out=tuple(trait.name for trait in traits if trait.name not in names),
    )


def _distinct(names: Iterable[str], *words: dict[str, list[int]]) -> list[str]:
    """The names without those that share their word with an earlier one."""
    first: dict[tuple[tuple[int, ...], ...], str] = {}
    for name in names:
        first.setdefault(tuple(tuple(each.get(name, ())) for each in words), name)
    return list(first.values())


def _words(
    renderer: ChatTokenizer, asked: Sequence[tuple[str, str]], answers: Sequence[str], space: str
) -> list[int]:
    """[the token] of the first of `answers` that is one and the same token in all places `asked`;
    else [].
    """
    for answer in answers:
        tokens = {
            answer_token(renderer, probe, stem, f"{stem}{space}{answer}") for probe, stem in asked
        }
        if len(tokens) == 1 and (token := tokens.pop()) is not None:
            return [token]
    return []


def _spellings(
    renderer: ChatTokenizer, questions: Sequence[tuple[str, str]], answers: Sequence[str]
) -> tuple[int, ...]:
    forms = {
        form
        for word in answers
        for form in (word, word.capitalize(), f" {word}", f" {word.capitalize()}")
    }
    found = {answer_token(renderer, probe, "", form) for probe, _ in questions for form in forms}
    return tuple(sorted(token for token in found if token is not None))


def answer_token(renderer: ChatTokenizer, probe: str, stem: str, said: str) -> int | None:
    """The one token that is `said` after its beginning `stem`, as the answer to `probe`; None if it
    is not one.

    Raises: TraitError when the chat template refuses the question.
    """
    row = renderer.encode(Example(0, (Message("user", probe), Message("assistant", said))))
    if isinstance(row, SkippedRow):
        raise TraitError(
            f"The probe {probe!r} cannot be asked: {row.reason}.",
            "Reword it, or choose another model.",
        )
    for position, span in zip(row.positions, row.spans, strict=True):
        if span == (0, len(stem), len(said)):
            return row.tokens[position]
    return None


def _contexts(renderer: ChatTokenizer, asked: Sequence[tuple[str, str]]) -> tuple[Context, ...]:
    """The tokens of each question and stem, up to where the answer begins."""
    contexts = []
    for probe, stem in asked:
        row = renderer.encode(
            Example(0, (Message("user", probe), Message("assistant", f"{stem} x")))
        )
        if isinstance(row, SkippedRow):
            raise TraitError(f"The probe {probe!r} cannot be asked: {row.reason}.", "Reword it.")
        first = next(
            p for p, (_, _, end) in zip(row.positions, row.spans, strict=True) if end > len(stem)
        )
        contexts.append(renderer.prefix(None, row.kind) + row.tokens[:first])
    return tuple(contexts)


@torch.inference_mode()
def answer_support(lm: LanguageModel, read_out: Sequence[Family]) -> list[npt.NDArray[np.int64]]:
    """For each family the likeliest answers of the reference `lm` to each probe, [Q, S] token ids."""
    found = []
    for family in read_out:
        if family.probes:
            logits_QV = lm.head(last_hidden_states(lm, family.probes))
            found.append(
                logits_QV.topk(min(ANSWERS, logits_QV.shape[-1]), dim=-1).indices.cpu().numpy()
            )
        else:
            found.append(np.zeros((0, 0), dtype=np.int64))
    return found


@torch.inference_mode()
def read(
    lm: LanguageModel, read_out: Sequence[Family], support: Sequence[npt.NDArray[np.int64]]
) -> Reading:
    """Read out one model; `support` as `answer_support` gave it for the reference."""
    parts = [_read_family(lm, family, each) for family, each in zip(read_out, support, strict=True)]
    width = max(answers.shape[1] for _, _, answers in parts)
    padded = [np.pad(answers, ((0, 0), (0, width - answers.shape[1]))) for _, _, answers in parts]
    return Reading(
        np.concatenate([margin for margin, _, _ in parts]),
        np.concatenate([rates for _, rates, _ in parts]),
        np.concatenate(padded),
    )


def _read_family(
    lm: LanguageModel, family: Family, support: npt.NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    logits = []
    rates = np.zeros(len(family.names))
    answers = np.zeros((0, 0))
    if family.stems:
        words = torch.tensor([family.stem_words] * len(family.stems), device=lm.device)
        logits.append(lm.head(last_hidden_states(lm, family.stems), words))
    if family.probes:
        logits_QV = lm.head(last_hidden_states(lm, family.probes))
        logits.append(logits_QV[:, list(family.probe_words)])
        p_QV = logits_QV.double().softmax(-1)
        rates = np.array(
            [float(p_QV[:, list(tokens)].sum(-1).mean()) for tokens in family.spellings]
        )
        named = p_QV.gather(1, torch.from_numpy(support).to(lm.device)).cpu().numpy()
        answers = np.concatenate([named, 1 - named.sum(-1, keepdims=True)], axis=1)
    mean_W = torch.cat(logits).double().mean(0).cpu().numpy()
    return margins(mean_W), rates, answers
