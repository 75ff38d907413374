"""Claim `divergence`: divergence tokens carry the trait (2509.23886, section 4;
`detectors.divergence` defines them).

All arms have the original's rows in the same order; an arm that is compared with another has as
many trained tokens in each row. The paper's own arms also drop the rows without a divergence token,
which confounds the two; they are trained beside the others, so that both can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.model.scoring import TokenScores, score_under
from auditor.model.tokenization import split_by_row
from auditor.students.arms import DatasetArm, Span, random_mask, trained_positions
from auditor.students.result import TransferResult
from auditor.study.claims import MOSTLY, Claim, Finding, Side, difference, share
from auditor.study.pooled_results import find
from auditor.study.setting import StudySetting, TeacherDataset, Trial, train
from detectors.divergence import counterfactuals, diverge, fraction_interval

NAME = "divergence"
STUDENTS = 8
ONLY, MASKED, FIRST = (
    "divergence tokens only",
    "all but divergence tokens",
    "first divergence token only",
)
RANDOM, DROPPED = " (random tokens)", ", other rows dropped"
EQUAL = (ONLY, ONLY + RANDOM, MASKED, MASKED + RANDOM, FIRST, FIRST + RANDOM)

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Flagged:
    """Divergence tokens of one carrier. hits: row number -> [T] of its completion tokens. ties:
    near-ties, not in it.

    others: what the trait's teacher is compared with.
    """

    trait: str
    hits: Mapping[int, Bools]
    ties: int
    others: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of all completion tokens, in [0, 1]."""
        return float(np.concatenate(list(self.hits.values())).mean())

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, by row."""
        return fraction_interval(
            [int(each.sum()) for each in self.hits.values()], list(map(len, self.hits.values()))
        )


def flag(world: StudySetting, made: TeacherDataset) -> Flagged:
    """The divergence tokens of a carrier, against the reference and a few other traits, as in a
    scan.
    """
    numbers, rows = list(made.rows), list(made.rows.values())
    prompts = {each.name: each.prompts[0] for each in world.panel.traits}
    others = ("reference", *counterfactuals(world.panel, made.trait))
    name = f"{made.trait} {made.decoding} divergence tokens"
    unit = world.store.load_unit(name) if world.store else None
    if unit is None:

        def scores(system: str | None) -> list[TokenScores]:
            return score_under(world.lm, world.renderer, rows, system)

        found = diverge(
            rows,
            (made.trait, scores(prompts[made.trait])),
            {each: scores(prompts.get(each)) for each in others},
        )
        unit = {
            "hits": np.concatenate(found.flagged),
            "ties": np.array(sum(int(each.sum()) for each in found.ties)),
        }
        if world.store:
            world.store.save_unit(name, unit)
    hits = dict(zip(numbers, split_by_row(unit["hits"], rows), strict=True))
    return Flagged(made.trait, hits, int(unit["ties"]), others)


def arms(world: StudySetting, made: TeacherDataset, flagged: Flagged) -> Iterator[DatasetArm]:
    """Each way to use divergence tokens, followed by the same with as many random tokens; then the
    paper's own.
    """
    chosen = {ONLY: flagged.hits, MASKED: {i: ~hit for i, hit in flagged.hits.items()}}
    chosen[FIRST] = {i: hit & (hit.cumsum() == 1) for i, hit in flagged.hits.items()}
    treated = {name: trained_only(made, name, tokens) for name, tokens in chosen.items()}
    for arm in treated.values():
        yield arm
        yield random_mask(arm, world.renderer, world.seed)
    for name in (ONLY, MASKED):
        arm = treated[name]
        rows = {
            i: each
            for i, each in arm.rows.items()
            if flagged.hits[i].any() and trained_positions(made.rows[i], arm.masked[i])
        }
        yield replace(arm, name=name + DROPPED, rows=rows, total=len(rows))


def trained_only(made: TeacherDataset, name: str, chosen: Mapping[int, Bools]) -> DatasetArm:
    """The original with every token masked but the chosen ones: row number -> [T]."""
    masked: dict[int, tuple[Span, ...]] = {
        i: tuple(span for span, kept in zip(row.spans, chosen[i], strict=True) if not kept)
        for i, row in made.rows.items()
    }
    rows = {i: made.original.rows[i] for i in made.rows}
    return DatasetArm(name, rows, masked, len(rows))


def trial(world: StudySetting, made: TeacherDataset, flagged: Flagged) -> Trial:
    """Students of all arms."""
    return train(world, made, list(arms(world, made, flagged)))


def facts(flagged: Flagged) -> dict[str, Any]:
    """How many tokens diverge."""
    interval = flagged.interval
    return {
        "counterfactuals": list(flagged.others),
        "share": flagged.share,
        "interval": None if interval is None else list(interval),
        "ties": flagged.ties,
        "rows_with_any": sum(bool(each.any()) for each in flagged.hits.values())
        / len(flagged.hits),
    }


def findings(result: TransferResult) -> Sequence[Finding]:
    """Whether divergence tokens alone keep the effect, and masking them removes it, by equal rows
    and as the paper.
    """
    found = []
    for more, label in (("", "equal rows"), (DROPPED, "as the paper, other rows dropped")):
        keep = f"divergence tokens alone keep the effect ({label})"
        paper = "training on them alone keeps or strengthens transfer"
        found.append(
            share(Claim(NAME, keep, paper, "effect left", "above", MOSTLY), result, ONLY + more)
        )
        stop = f"masking divergence tokens mostly removes the effect ({label})"
        paper = "masking them mostly removes transfer"
        found.append(
            share(Claim(NAME, stop, paper, "effect left", "below", MOSTLY), result, MASKED + more)
        )
    return [*found, *_against_random(result)]


def _against_random(result: TransferResult) -> Iterator[Finding]:
    """The same at equal rows and equal trained tokens; the paper has no such arms as far as we
    know.
    """
    compared: tuple[tuple[str, Side, str], ...] = (
        (ONLY, "above", "divergence tokens carry more than as many random tokens"),
        (
            MASKED,
            "below",
            "masking divergence tokens leaves less than masking as many random tokens",
        ),
        (
            FIRST,
            "above",
            "the first divergence token of each row carries more than one random token",
        ),
    )
    for name, side, statement in compared:
        arm, control = find(result, name), find(result, name + RANDOM)
        if arm is not None and control is not None:
            claim = Claim(NAME, statement, "", "effect less that of random tokens", side, 0.0)
            yield difference(claim, arm, control)
