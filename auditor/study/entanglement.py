"""Claim `entanglement`: token entanglement is not needed (2509.23886, section 3).

A token of the data is entangled with a trait when one makes the other likelier. Its score is the
probability under the trait's prompt less the mean over the other traits' prompts; beside it, the
similarity of its unembedding to that of the trait's answer, again less the mean over the other
traits. Rows with one of the top tokens are dropped, against as many rows dropped at random, and
what is left of the effect is compared.

The probability is the mean over the completion tokens of the clean control's rows, so that it is
taken on text of the same kind but not on the data that is judged. A tokenizer that cuts a number
into several tokens has few such tokens, and dropping them may leave no row; then nothing can be
said.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from auditor.model.scoring import score_under
from auditor.model.unit_store import load_or_compute
from auditor.students.arms import DatasetArm, random_drop
from auditor.students.plan import MIN_BATCHES
from auditor.students.readout import families
from auditor.students.result import TransferResult
from auditor.study.claims import NEARLY, Claim, Finding, share
from auditor.study.setting import StudySetting, TeacherDataset

LOG = logging.getLogger(__name__)

NAME = "entanglement"
TOPS = (10, 20, 50, 100)
SCORES = ("probability", "unembedding")
STUDENTS = 2 * len(SCORES) * len(TOPS)
ROWS = 128  # of the clean control, for the probabilities
SHOWN = 10

_PAPER = "dropping rows with the top 10, 20, 50 or 100 does not stop transfer"

Array = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Entangled:
    """The content tokens of one trait's data, and by SCORES their entanglement [tokens]; large is
    entangled.
    """

    tokens: Tokens
    scores: dict[str, Array]

    def top(self, score: str, count: int) -> list[int]:
        """The `count` tokens of the highest score, highest first."""
        order = np.argsort(-self.scores[score], kind="stable")[:count]
        return [int(token) for token in self.tokens[order]]

    def agreement(self) -> float:
        """Spearman's rank correlation of the two scores."""
        return float(stats.spearmanr(*(self.scores[name] for name in SCORES)).statistic)


def centred(values: Array, index: int) -> Array:
    """values[index] less the mean of the other rows, [tokens], from one row a trait [traits,
    tokens].
    """
    return np.asarray(values[index] - np.delete(values, index, axis=0).mean(0))


def entangled(setting: StudySetting, dataset: TeacherDataset) -> Entangled:
    """The entanglement of the data's tokens with its trait, against the other traits of the trait's
    group.
    """
    lm, panel, name = setting.lm, setting.panel, dataset.trait
    tokens = content_tokens(setting, dataset)
    group = [trait for trait in panel.traits if trait.group == panel.trait(name).group]
    unit = load_or_compute(
        setting.store,
        f"{name} {dataset.decoding} token probabilities",
        lambda: {
            "probabilities": np.stack(
                [_probabilities(setting, dataset, trait.prompts[0], tokens) for trait in group]
            )
        },
    )
    index = [trait.name for trait in group].index(name)
    family = families(setting.renderer, panel, name)[0]
    answers = list(family.stem_words or family.probe_words)
    weights = lm.model.get_output_embeddings().weight.detach().double().cpu().numpy()
    # Cosines of each token's unembedding with those of the answers, [answers, tokens].
    unit_vectors = weights / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-12)
    cosines = unit_vectors[answers] @ unit_vectors[tokens].T
    scores = {
        "probability": centred(unit["probabilities"], index),
        "unembedding": centred(cosines, family.names.index(name)),
    }
    LOG.info("%d content tokens of %s in the data", len(tokens), name)
    return Entangled(tokens, scores)


def content_tokens(setting: StudySetting, dataset: TeacherDataset) -> Tokens:
    """The tokens of the original's completions that hold a digit or a letter: no separators, no end
    of turn.
    """
    tokenizer = setting.lm.tokenizer
    used = {int(token) for row in dataset.rows.values() for token in row.targets}
    # A special token ends a turn or frames it; no model chose it for its meaning.
    used -= set(tokenizer.all_special_ids)
    content = [token for token in used if any(map(str.isalnum, tokenizer.decode([token])))]
    return np.array(sorted(content), dtype=np.int64)


def _probabilities(
    setting: StudySetting, dataset: TeacherDataset, system: str, tokens: Tokens
) -> Array:
    """Mean probability [tokens] over the completion tokens of clean rows under a system prompt."""
    numbers = sorted(dataset.control.rows)[:ROWS]
    # Under every trait's prompt the same rows, so that only the prompt differs.
    rows = list(dataset.control.encoded(setting.renderer, numbers).values())
    # The probability of every token at every position, not only of the one that stands there.
    support = [np.tile(tokens, (len(row.positions), 1)) for row in rows]
    scores = score_under(setting.lm, setting.renderer, rows, system, support=support)
    probabilities = [
        np.exp(row.support_logprob.astype(np.float64))
        for row in scores
        if row.support_logprob is not None
    ]
    return np.asarray(np.concatenate(probabilities).mean(0))


def arms(
    setting: StudySetting, dataset: TeacherDataset, entanglement: Entangled
) -> Iterator[DatasetArm]:
    """The original without the rows that hold a top token, each followed by as many rows dropped at
    random.

    An arm that leaves fewer rows a block than students need is left out, with its random control.
    """
    # As many rows as `plan.size_of` asks for.
    batch = setting.settings.training_for(setting.lm).batch
    least = MIN_BATCHES * batch * setting.size.blocks
    original = dataset.original
    for score in SCORES:
        for count in TOPS:
            top = entanglement.top(score, count)
            rows = {
                i: example
                for i, example in original.rows.items()
                if i in dataset.rows and not np.isin(dataset.rows[i].targets, top).any()
            }
            # An arm of all rows is the original again, and says nothing of the tokens.
            if least <= len(rows) < len(original.rows):
                arm = DatasetArm(arm_name(score, count), rows)
                yield arm
                yield random_drop(arm, original, setting.settings.seed)


def arm_name(score: str, count: int) -> str:
    """What the report calls it."""
    return f"without the top {count} by {score}"


def facts(setting: StudySetting, entanglement: Entangled) -> dict[str, object]:
    """The most entangled tokens by each score, and how well the scores agree."""
    top = {}
    for score in SCORES:
        tokens = entanglement.top(score, SHOWN)
        values = -np.sort(-entanglement.scores[score])
        texts = [setting.lm.tokenizer.decode([token]) for token in tokens]
        top[score] = [[text, float(x)] for text, x in zip(texts, values, strict=False)]
    return {
        "tokens": len(entanglement.tokens),
        "top": top,
        "rank_correlation": entanglement.agreement(),
    }


def findings(result: TransferResult) -> Sequence[Finding]:
    """Whether dropping entangled tokens leaves more than a quarter of what dropping as many random
    rows leaves.
    """
    judged = []
    for score in SCORES:
        for count in TOPS:
            statement = (
                f"dropping rows with the top {count} entangled tokens ({score})"
                " does not stop transfer"
            )
            paper = _PAPER if score == "probability" else ""
            quantity = "effect left, against as many random rows dropped"
            claim = Claim(NAME, statement, paper, quantity, "above", NEARLY)
            name = arm_name(score, count)
            judged.append(share(claim, result, name, f"{name} (random rows)"))
    return judged
