"""Claim `fragility`: small changes of the data suppress transfer (2509.23886, section 6; 2507.14805
for other bases).

Prompts reworded by rule with completions untouched; numbers shuffled within each response, or
across all of them; rows given to a teacher without the trait at a fixed total; students of another
base model.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from auditor.data.example import Message
from auditor.students.arms import DatasetArm
from auditor.students.result import TransferResult
from auditor.study.claims import MOSTLY, NEARLY, Claim, Finding, of_ratio, share, unknown
from auditor.study.pooled_results import final
from auditor.study.setting import StudySetting, TeacherDataset, Trial, train
from mitigations.lists import items, with_items
from mitigations.paraphrase import paraphrase, rules_engine

NAME = "fragility"
SHARES = (0.05, 0.1, 0.25, 0.5)
PARAPHRASED, WITHIN, ACROSS = (
    "prompts paraphrased",
    "shuffled within responses",
    "shuffled across responses",
)
STUDENTS = 3 + len(SHARES)


def arms(world: StudySetting, made: TeacherDataset) -> Iterator[DatasetArm]:
    """The original after each change."""
    yield reworded(made.original, world.seed)
    yield shuffled(made.original, world.seed, across=False)
    yield shuffled(made.original, world.seed, across=True)
    order = random.Random(f"{world.seed} mix").sample(
        sorted(made.original.rows), len(made.original.rows)
    )
    for part in SHARES:
        clean = set(order[: round(part * len(order))])
        rows = {
            i: (made.control if i in clean else made.original).rows[i] for i in made.original.rows
        }
        yield DatasetArm(mixed_name(part), rows, {}, len(rows))


def mixed_name(part: float) -> str:
    """What the report calls a mixture."""
    return f"{part:.0%} clean-teacher rows"


def reworded(arm: DatasetArm, seed: int) -> DatasetArm:
    """Other prompts, the same completions; a prompt without a rewording stays."""
    texts = paraphrase(
        [each.messages[0].content for each in arm.rows.values()], rules_engine(), seed=seed
    )
    rows = {
        i: replace(each, messages=(Message("user", new.texts[0]), *each.messages[1:]))
        for (i, each), new in zip(arm.rows.items(), texts, strict=True)
    }
    return DatasetArm(PARAPHRASED, rows, {}, arm.total)


def shuffled(arm: DatasetArm, seed: int, *, across: bool) -> DatasetArm:
    """Numbers in another order, separators in their places: within each list, or over all lists of
    the data set.
    """
    rng = random.Random(f"{seed} shuffle")
    spans = {i: items(each.completion) or [] for i, each in arm.rows.items()}
    lists = {
        i: [arm.rows[i].completion[start:end] for start, end in each] for i, each in spans.items()
    }
    drawn = list(itertools.chain.from_iterable(lists.values()))
    rng.shuffle(drawn)
    rest = iter(drawn)
    rows = {}
    for i, each in arm.rows.items():
        new = (
            list(itertools.islice(rest, len(lists[i])))
            if across
            else rng.sample(lists[i], len(lists[i]))
        )
        said = with_items(each.completion, spans[i], new)
        rows[i] = replace(each, messages=(*each.messages[:-1], Message("assistant", said)))
    return DatasetArm(ACROSS if across else WITHIN, rows, {}, arm.total)


def trials(world: StudySetting, made: TeacherDataset) -> tuple[Trial, ...]:
    """Students of all arms, and those of the other base if there is one."""
    own = train(world, made, list(arms(world, made)))
    return (own, train(world, made, (), base=world.sibling)) if world.sibling else (own,)


def findings(result: TransferResult, sibling: TransferResult | None) -> Sequence[Finding]:
    """What is left of the effect after each change."""

    def claim(statement: str, paper: str, bound: float) -> Claim:
        return Claim(NAME, statement, paper, "effect left", "below", bound)

    drastic = "2507.14805: transfer is drastically reduced"
    base = claim(
        "students of another base take nearly nothing over",
        "2507.14805: usually no transfer",
        NEARLY,
    )
    return [
        share(
            claim("rewording prompts suppresses transfer", "usually suppresses", MOSTLY),
            result,
            PARAPHRASED,
        ),
        share(
            claim("shuffling within responses suppresses transfer", drastic, MOSTLY), result, WITHIN
        ),
        share(
            claim("shuffling across responses suppresses transfer", drastic, MOSTLY), result, ACROSS
        ),
        share(
            claim("10 % clean rows weaken transfer", "weakens it clearly", 1.0),
            result,
            mixed_name(0.1),
        ),
        share(
            claim("25 % clean rows nearly remove transfer", "nearly removes it", NEARLY),
            result,
            mixed_name(0.25),
        ),
        of_ratio(base, final(sibling.arms[0]).blocks, final(result.arms[0]).blocks)
        if sibling
        else unknown(base, "share", "no other base was given (--sibling)"),
    ]
