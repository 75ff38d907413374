"""Claim `entanglement`: token entanglement is not needed (2509.23886, section 3).

A carrier token is entangled with a trait when one makes the other likelier. Its score is the
probability under the trait's prompt less the mean over the other traits' prompts; beside it, the
similarity of its unembedding to that of the trait's answer, again less the mean over the other
traits. Rows with one of the top tokens are dropped, against as many rows dropped at random, and
what is left of the effect is compared.

The probability is the mean over the completion tokens of the clean control's rows, so that it is
taken where the carrier is written but not on the data that is judged. A tokenizer that cuts a
number into several tokens has few carrier tokens, and dropping them may leave no row; then nothing
can be said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from auditor.model.scoring import score_under
from auditor.model.tokenization import TokenizedRow
from auditor.students.arms import DatasetArm, random_drop
from auditor.students.plan import MIN_BATCHES
from auditor.students.readout import families
from auditor.students.result import TransferResult
from auditor.study.claims import NEARLY, Claim, Finding, share
from auditor.study.setting import StudySetting, TeacherDataset, Trial, train

NAME = "entanglement"
TOPS = (10, 20, 50, 100)
SCORES = ("probability", "unembedding")
STUDENTS = 2 * len(SCORES) * len(TOPS)
ROWS = 128  # of the clean control, for the probabilities
SHOWN = 10

_PAPER = "dropping rows with the top 10, 20, 50 or 100 does not stop transfer"

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Entangled:
    """The carrier tokens of one trait, and by SCORES their entanglement [tokens]; large is
    entangled.
    """

    trait: str
    tokens: npt.NDArray[np.int64]
    scores: dict[str, Array]

    def top(self, score: str, count: int) -> list[int]:
        """The `count` tokens of the highest score, highest first."""
        return [
            int(each)
            for each in self.tokens[np.argsort(-self.scores[score], kind="stable")[:count]]
        ]

    def agreement(self) -> float:
        """Spearman's rank correlation of the two scores."""
        return float(stats.spearmanr(*(self.scores[name] for name in SCORES)).statistic)


def centred(values: Array, place: int) -> Array:
    """values[place] less the mean of the other rows, [tokens], from one row a trait [traits,
    tokens].
    """
    return np.asarray(values[place] - np.delete(values, place, axis=0).mean(0))


def entangled(world: StudySetting, made: TeacherDataset) -> Entangled:
    """The entanglement of the carrier's tokens with its trait, against the other traits of the
    trait's group.
    """
    tokens = carrier_tokens(world, made)
    group = world.panel.trait(made.trait).group
    traits = [each for each in world.panel.traits if each.group == group]
    name = f"{made.trait} {made.decoding} token probabilities"
    unit = world.store.load_unit(name) if world.store else None
    if unit is None:
        prompts = [each.prompts[0] for each in traits]
        unit = {
            "probabilities": np.stack(
                [_probabilities(world, made, each, tokens) for each in prompts]
            )
        }
        if world.store:
            world.store.save_unit(name, unit)
    place = [each.name for each in traits].index(made.trait)
    scores = {
        "probability": centred(unit["probabilities"], place),
        "unembedding": _similarity(world, made, tokens),
    }
    return Entangled(made.trait, tokens, scores)


def carrier_tokens(world: StudySetting, made: TeacherDataset) -> npt.NDArray[np.int64]:
    """The tokens of the original's completions that hold a digit or a letter: no separators, no end
    of turn.
    """
    found = {int(token) for row in made.rows.values() for token in row.targets}
    texts = {
        token: world.lm.tokenizer.decode([token])
        for token in found - set(world.lm.tokenizer.all_special_ids)
    }
    return np.array(
        sorted(token for token, text in texts.items() if any(map(str.isalnum, text))),
        dtype=np.int64,
    )


def _probabilities(
    world: StudySetting, made: TeacherDataset, system: str, tokens: npt.NDArray[np.int64]
) -> Array:
    """Mean probability [tokens] over the completion tokens of clean rows under a system prompt."""
    clean = [made.control.rows[i] for i in sorted(made.control.rows)[:ROWS]]
    rows = [row for each in clean if isinstance(row := world.renderer.encode(each), TokenizedRow)]
    support = [np.tile(tokens, (len(row.positions), 1)) for row in rows]
    scores = score_under(world.lm, world.renderer, rows, system, support=support)
    found = [
        np.exp(each.support_logprob.astype(np.float64))
        for each in scores
        if each.support_logprob is not None
    ]
    return np.asarray(np.concatenate(found).mean(0))


def _similarity(world: StudySetting, made: TeacherDataset, tokens: npt.NDArray[np.int64]) -> Array:
    """Cosine [tokens] of each token's unembedding with the trait's answer, less the mean over the
    others' answers.
    """
    family = families(world.renderer, world.panel, made.trait)[0]
    answers = list(family.stem_words or family.probe_words)
    weight = world.lm.model.get_output_embeddings().weight.detach().double().cpu().numpy()
    unit = weight / np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-12)
    return centred(unit[answers] @ unit[tokens].T, family.names.index(made.trait))


def arms(world: StudySetting, made: TeacherDataset, found: Entangled) -> Iterator[DatasetArm]:
    """The original without the rows that hold a top token, each followed by as many rows dropped at
    random.

    An arm that leaves fewer rows a block than students need is left out, with its random control.
    """
    least = MIN_BATCHES * world.recipe.batch * world.size.blocks
    for score in SCORES:
        for count in TOPS:
            top = found.top(score, count)
            kept = {i for i, row in made.rows.items() if not np.isin(row.targets, top).any()}
            rows = {i: each for i, each in made.original.rows.items() if i in kept}
            if least <= len(rows) < len(made.original.rows):
                arm = DatasetArm(arm_name(score, count), rows, {}, len(rows))
                yield arm
                yield random_drop(arm, made.original, world.seed)


def arm_name(score: str, count: int) -> str:
    """What the report calls it."""
    return f"without the top {count} by {score}"


def trial(world: StudySetting, made: TeacherDataset, found: Entangled) -> Trial:
    """Students of all arms."""
    return train(world, made, list(arms(world, made, found)))


def facts(world: StudySetting, found: Entangled) -> dict[str, Any]:
    """The most entangled tokens by each score, and how well the scores agree."""
    text = world.lm.tokenizer.decode
    by_score = {
        score: [
            [text([token]), float(value)]
            for token, value in zip(found.top(score, SHOWN), values, strict=False)
        ]
        for score, values in ((score, -np.sort(-found.scores[score])[:SHOWN]) for score in SCORES)
    }
    return {"tokens": len(found.tokens), "top": by_score, "rank_correlation": found.agreement()}


def findings(result: TransferResult) -> Sequence[Finding]:
    """Whether dropping entangled tokens leaves more than a quarter of what dropping as many random
    rows leaves.
    """
    return [
        share(
            Claim(
                NAME,
                f"dropping rows with the top {count} entangled tokens ({score}) does not stop transfer",
                _PAPER if score == "probability" else "",
                "effect left, against as many random rows dropped",
                "above",
                NEARLY,
            ),
            result,
            arm_name(score, count),
            f"{arm_name(score, count)} (random rows)",
        )
        for score in SCORES
        for count in TOPS
    ]
