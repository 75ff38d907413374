"""From prompts to checked rewordings: the engine asked for, then the rules, then the original with
the reason.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mitigations.paraphrase.checks import MIN_SIMILARITY, failures, features, trait_pattern
from mitigations.paraphrase.rules import RulesEngine

LOG = logging.getLogger(__name__)

# Cosine similarities in [-1, 1] of pairs of texts, one for each pair.
Similarity = Callable[[Sequence[str], Sequence[str]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Reworded:
    """What became of one prompt.

    texts: 1 to `variants` different texts; the prompt itself, alone, when engine is "original".
    engine: what wrote them, "rules" or "llm"; with several variants "rules" if it wrote any of
    them; or "original". reason: "" when the engine asked for wrote them all, else the first check
    that its first failing text did not pass (`checks.failures`), or why it gave no text ("no_rule",
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
    may bring in. similarity: of sentence embeddings (`SentenceEncoder`); None leaves that one
    check out, which a report has to say. What fails is replaced by a rewording by rule, and that,
    if it fails too, by the original.

    Raises: ModelError from an engine that cannot go on. ValueError for `variants` below 1.
    """
    if variants < 1:
        raise ValueError(f"variants is {variants}, not at least 1")
    trait_words = trait_pattern(forbidden)
    passed, reasons = _checked(prompts, engine, variants, seed, trait_words, similarity)
    # Rules give the same texts when they are asked again, so they are not their own fallback.
    short = [i for i, texts in enumerate(passed) if len(texts) < variants]
    short = [] if engine.name == "rules" else short
    remaining = [prompts[i] for i in short]
    fallbacks, _ = _checked(remaining, RulesEngine(), variants, seed, trait_words, similarity)
    by_rule = dict(zip(short, fallbacks, strict=True))
    outcomes = []
    for i, prompt in enumerate(prompts):
        texts = tuple(dict.fromkeys([*passed[i], *by_rule.get(i, ())]))[:variants]
        if len(passed[i]) == variants:
            outcomes.append(Reworded(texts, engine.name, ""))
        elif texts:
            writer = engine.name if len(texts) == len(passed[i]) else "rules"
            outcomes.append(Reworded(texts, writer, reasons[i] or "too_few"))
        else:
            outcomes.append(Reworded((prompt,), "original", reasons[i]))
    writers = Counter(reworded.engine for reworded in outcomes)
    LOG.debug("reworded %d prompts by %s: %s", len(prompts), engine.name, dict(writers))
    return outcomes


def _checked(
    prompts: Sequence[str],
    engine: Engine,
    variants: int,
    seed: int,
    trait_words: re.Pattern[str] | None,
    similarity: Similarity | None,
) -> tuple[list[list[str]], list[str]]:
    """For each prompt the texts of `engine` that pass, without repeats, and the first reason why
    one does not.
    """
    drafts = engine.reword(prompts, variants, seed)
    passed: list[list[str]] = [[] for _ in prompts]
    reasons = ["" if texts else engine.missing for texts in drafts]
    for i, texts in enumerate(drafts):
        before = features(prompts[i])
        for text in dict.fromkeys(texts[:variants]):
            if reason := next(failures(before, features(text), trait_words), ""):
                reasons[i] = reasons[i] or reason
            else:
                passed[i].append(text)
    if similarity is not None:
        # All pairs in one call, so that the encoder can fill its batches. What the other checks
        # refuse is not embedded.
        pairs = [(i, text) for i, texts in enumerate(passed) for text in texts]
        cosines = similarity([prompts[i] for i, _ in pairs], [text for _, text in pairs])
        for (i, text), cosine in zip(pairs, cosines, strict=True):
            # Written so that NaN fails.
            if not cosine >= MIN_SIMILARITY:
                passed[i].remove(text)
                reasons[i] = reasons[i] or "similarity"
    return passed, reasons
