"""From prompts to checked rewordings: the engine asked for, then the rules, then the original with
the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mitigations.paraphrase.checks import (
    MIN_SIMILARITY,
    Check,
    Features,
    features,
    first_failure,
    trait_words,
)
from mitigations.paraphrase.rules import RulesEngine

# Cosine similarities in [-1, 1] of pairs of texts, one for each pair.
Similarity = Callable[[Sequence[str], Sequence[str]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Reworded:
    """What became of one prompt.

    texts: 1 to `variants` different texts; the prompt itself, alone, when engine is "original".
    engine: what wrote them, "rules" or "llm"; with several variants "rules" if it wrote any of
    them; or "original". reason: "" when the engine asked for wrote them all, else the first check
    that its first failing text did not pass (`checks.NAMES`), or why it gave no text ("no_rule",
    "spending_cap", "empty_reply", "too_few").
    """

    texts: tuple[str, ...]
    engine: str
    reason: str


class Engine(Protocol):
    """Something that rewords prompts. It need not be right: what it writes is checked."""

    @property
    def name(self) -> str:
        """ "rules" or "llm"."""

    @property
    def missing(self) -> str:
        """The reason to give for a prompt for which it writes nothing."""

    def reword(self, prompts: Sequence[str], variants: int, seed: int) -> list[list[str]]:
        """Up to `variants` rewordings of each prompt. Same arguments, same texts."""


def paraphrase(
    prompts: Sequence[str],
    engine: Engine,
    *,
    variants: int = 1,
    seed: int = 0,
    forbidden: Sequence[str] = (),
    similarity: Similarity | None = None,
) -> list[Reworded]:
    """Reword `prompts` and check every rewording; one answer for each prompt, in order.

    variants: how many different rewordings of each. forbidden: words of a trait that no rewording
    may bring in. similarity: of sentence embeddings (`embedding_similarity`); None leaves that one
    check out, which a report has to say. What fails is replaced by a rewording by rule, and that,
    if it fails too, by the original.

    Raises: ModelError from an engine that cannot go on. ValueError for `variants` below 1.
    """
    if variants < 1:
        raise ValueError(f"variants is {variants}, not at least 1")
    extra = [trait_words(forbidden)] if forbidden else []
    counted = [features(prompt) for prompt in prompts]
    own, reasons = _checked(prompts, counted, engine, variants, seed, extra, similarity)
    short = (
        [i for i, texts in enumerate(own) if len(texts) < variants]
        if engine.name != "rules"
        else []
    )
    chosen = [prompts[i] for i in short]
    rules, _ = _checked(
        chosen, [counted[i] for i in short], RulesEngine(), variants, seed, extra, similarity
    )
    spare = dict(zip(short, rules, strict=True))
    return [
        _settled(prompt, own[i], spare.get(i, []), reasons[i], engine.name, variants)
        for i, prompt in enumerate(prompts)
    ]


def _settled(
    prompt: str, own: list[str], spare: list[str], reason: str, name: str, variants: int
) -> Reworded:
    """Take the engine's own texts, fill up with those by rule, and keep the prompt where there are
    none.
    """
    if len(own) == variants:
        return Reworded(tuple(own), name, "")
    texts = tuple(dict.fromkeys([*own, *spare]))[:variants]
    if not texts:
        return Reworded((prompt,), "original", reason)
    return Reworded(texts, name if len(texts) == len(own) else "rules", reason or "too_few")


def _checked(
    prompts: Sequence[str],
    counted: Sequence[Features],
    engine: Engine,
    variants: int,
    seed: int,
    extra: Sequence[Check],
    similarity: Similarity | None,
) -> tuple[list[list[str]], list[str]]:
    """For each prompt the texts of `engine` that pass, without repeats, and the first reason why
    one does not.
    """
    drawn = engine.reword(prompts, variants, seed)
    passed: list[list[str]] = [[] for _ in prompts]
    reasons = ["" if texts else engine.missing for texts in drawn]
    for i, texts in enumerate(drawn):
        for text in dict.fromkeys(texts[:variants]):
            if reason := first_failure(counted[i], features(text), extra):
                reasons[i] = reasons[i] or reason
            else:
                passed[i].append(text)
    if similarity is not None:
        _drop_dissimilar(prompts, passed, reasons, similarity)
    return passed, reasons


def _drop_dissimilar(
    prompts: Sequence[str], passed: list[list[str]], reasons: list[str], similarity: Similarity
) -> None:
    pairs = [(i, text) for i, texts in enumerate(passed) for text in texts]
    cosines = similarity([prompts[i] for i, _ in pairs], [text for _, text in pairs])
    for (i, text), cosine in zip(pairs, cosines, strict=True):
        if not cosine >= MIN_SIMILARITY:
            passed[i].remove(text)
            reasons[i] = reasons[i] or "similarity"
