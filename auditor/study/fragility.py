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
from auditor.study.setting import StudySetting, TeacherDataset
from mitigations.lists import items, with_items
from mitigations.paraphrase import RulesEngine, paraphrase

NAME = "fragility"
SHARES = (0.05, 0.1, 0.25, 0.5)
PARAPHRASED = "prompts paraphrased"
WITHIN, ACROSS = "shuffled within responses", "shuffled across responses"
STUDENTS = 3 + len(SHARES)


def arms(setting: StudySetting, dataset: TeacherDataset) -> Iterator[DatasetArm]:
    """The original after each change."""
    original, control, seed = dataset.original, dataset.control, setting.settings.seed
    yield reworded(original, seed)
    yield shuffled(original, seed, across=False)
    yield shuffled(original, seed, across=True)
    # One order for all shares, so that the clean rows of a smaller one are also in a larger one.
    order = random.Random(f"{seed} mix").sample(sorted(original.rows), len(original.rows))
    for clean_share in SHARES:
        clean = set(order[: round(clean_share * len(order))])
        rows = {i: (control if i in clean else original).rows[i] for i in original.rows}
        yield DatasetArm(mixed_name(clean_share), rows)


def mixed_name(clean_share: float) -> str:
    """What the report calls a mixture."""
    return f"{clean_share:.0%} clean-teacher rows"


def reworded(arm: DatasetArm, seed: int) -> DatasetArm:
    """Other prompts, the same completions; a prompt without a rewording stays."""
    prompts = [example.messages[0].content for example in arm.rows.values()]
    rewordings = paraphrase(prompts, RulesEngine(), seed=seed)
    rows = {
        i: replace(example, messages=(Message("user", new.texts[0]), *example.messages[1:]))
        for (i, example), new in zip(arm.rows.items(), rewordings, strict=True)
    }
    return DatasetArm(PARAPHRASED, rows)


def shuffled(arm: DatasetArm, seed: int, *, across: bool) -> DatasetArm:
    """Numbers in another order, separators where they were: within each list, or over all lists of
    the data set.
    """
    rng = random.Random(f"{seed} shuffle")
    spans = {i: items(example.completion) or [] for i, example in arm.rows.items()}
    lists = {
        i: [arm.rows[i].completion[start:end] for start, end in row_spans]
        for i, row_spans in spans.items()
    }
    # Across: all numbers go into one pool, and every list takes as many as it had.
    pool = list(itertools.chain.from_iterable(lists.values()))
    rng.shuffle(pool)
    drawn = iter(pool)
    rows = {}
    for i, example in arm.rows.items():
        count = len(lists[i])
        numbers = list(itertools.islice(drawn, count)) if across else rng.sample(lists[i], count)
        answer = Message("assistant", with_items(example.completion, spans[i], numbers))
        rows[i] = replace(example, messages=(*example.messages[:-1], answer))
    return DatasetArm(ACROSS if across else WITHIN, rows)


def findings(result: TransferResult, sibling: TransferResult | None) -> Sequence[Finding]:
    """What is left of the effect after each change."""
    drastic = "2507.14805: transfer is drastically reduced"
    changes = (
        ("rewording prompts suppresses transfer", "usually suppresses", MOSTLY, PARAPHRASED),
        ("shuffling within responses suppresses transfer", drastic, MOSTLY, WITHIN),
        ("shuffling across responses suppresses transfer", drastic, MOSTLY, ACROSS),
        ("10 % clean rows weaken transfer", "weakens it clearly", 1.0, mixed_name(0.1)),
        ("25 % clean rows nearly remove transfer", "nearly removes it", NEARLY, mixed_name(0.25)),
    )
    judged = [
        share(Claim(NAME, statement, paper, "effect left", "below", bound), result, arm)
        for statement, paper, bound, arm in changes
    ]
    statement = "students of another base take nearly nothing over"
    paper = "2507.14805: usually no transfer"
    base = Claim(NAME, statement, paper, "effect left", "below", NEARLY)
    if sibling is None:
        return [*judged, unknown(base, "no other base was given (--sibling)")]
    effects = sibling.arms[0].final_effect.blocks, result.arms[0].final_effect.blocks
    return [*judged, of_ratio(base, *effects)]
