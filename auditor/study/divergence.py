"""Claim `divergence`: divergence tokens carry the trait (2509.23886, section 4;
`detectors.divergence` defines them).

All arms have the original's rows in the same order; an arm that is compared with another has as
many trained tokens in each row. The paper's own arms also drop the rows without a divergence token,
which confounds the two; they are trained beside the others, so that both can be compared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditor.model.scoring import TokenScores, score_under
from auditor.model.tokenization import split_by_row
from auditor.model.unit_store import Unit, load_or_compute
from auditor.students.arms import DatasetArm, random_mask, trained_positions
from auditor.students.result import TransferResult
from auditor.study.claims import MOSTLY, Claim, Finding, Side, difference, share
from auditor.study.setting import StudySetting, TeacherDataset
from detectors.divergence import counterfactuals, diverge, fraction_interval, prompt_of

LOG = logging.getLogger(__name__)

NAME = "divergence"
STUDENTS = 8
ONLY, MASKED = "divergence tokens only", "all but divergence tokens"
FIRST = "first divergence token only"
RANDOM, DROPPED = " (random tokens)", ", other rows dropped"
EQUAL = (ONLY, ONLY + RANDOM, MASKED, MASKED + RANDOM, FIRST, FIRST + RANDOM)

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Flagged:
    """Divergence tokens of one data set.

    hits: row number -> [T] of its completion tokens. ties: near-ties, not in it. counterfactuals:
    what the trait's teacher is compared with.
    """

    hits: Mapping[int, Bools]
    ties: int
    counterfactuals: tuple[str, ...]


def flag(setting: StudySetting, dataset: TeacherDataset) -> Flagged:
    """The divergence tokens of a data set, against the other traits of the group, as in a scan."""
    trait, rows = dataset.trait, list(dataset.rows.values())
    compared = counterfactuals(setting.panel, trait)

    def flagged() -> Unit:
        def scores(name: str) -> list[TokenScores]:
            system = prompt_of(setting.panel, name)
            return score_under(setting.lm, setting.renderer, rows, system)

        tokens = diverge(rows, (trait, scores(trait)), {name: scores(name) for name in compared})
        ties = sum(int(tie.sum()) for tie in tokens.ties)
        return {"hits": np.concatenate(tokens.flagged), "ties": np.array(ties)}

    name = f"{trait} {dataset.decoding} divergence tokens"
    unit = load_or_compute(setting.store, name, flagged)
    hits = dict(zip(dataset.rows, split_by_row(unit["hits"], rows), strict=True))
    count = int(unit["hits"].sum())
    LOG.info("%d of %d tokens diverge from %s", count, len(unit["hits"]), ", ".join(compared))
    return Flagged(hits, int(unit["ties"]), compared)


def arms(setting: StudySetting, dataset: TeacherDataset, flagged: Flagged) -> Iterator[DatasetArm]:
    """Each way to use divergence tokens, followed by the same with as many random tokens; then the
    paper's own.
    """
    trained = {
        ONLY: flagged.hits,
        MASKED: {i: ~hit for i, hit in flagged.hits.items()},
        # The running count is 1 at the first hit, and up to the next one, where nothing is hit.
        FIRST: {i: hit & (hit.cumsum() == 1) for i, hit in flagged.hits.items()},
    }
    treated = {name: trained_only(dataset, name, tokens) for name, tokens in trained.items()}
    for arm in treated.values():
        yield arm
        yield random_mask(arm, setting.renderer, setting.settings.seed)
    # A row of the paper's arms has a divergence token and at least one trained token.
    for name in (ONLY, MASKED):
        arm = treated[name]
        rows = {
            i: example
            for i, example in arm.rows.items()
            if flagged.hits[i].any() and trained_positions(dataset.rows[i], arm.masked[i])
        }
        yield replace(arm, name=name + DROPPED, rows=rows)


def trained_only(dataset: TeacherDataset, name: str, tokens: Mapping[int, Bools]) -> DatasetArm:
    """The original with every token masked but `tokens`: row number -> [T]."""
    masked = {
        i: tuple(
            span for span, is_trained in zip(row.spans, tokens[i], strict=True) if not is_trained
        )
        for i, row in dataset.rows.items()
    }
    rows = {i: dataset.original.rows[i] for i in dataset.rows}
    return DatasetArm(name, rows, masked)


def facts(flagged: Flagged) -> dict[str, object]:
    """How many tokens diverge: their share of all completion tokens, with its 95 % interval over
    the rows.
    """
    hits = flagged.hits.values()
    # Tokens of one row are no independent draws, so the interval is by row.
    interval = fraction_interval([int(hit.sum()) for hit in hits], list(map(len, hits)))
    return {
        "counterfactuals": list(flagged.counterfactuals),
        "share": float(np.concatenate(list(hits)).mean()),
        "interval": None if interval is None else list(interval),
        "ties": flagged.ties,
        "rows_with_any": sum(bool(hit.any()) for hit in hits) / len(hits),
    }


def findings(result: TransferResult) -> Sequence[Finding]:
    """Whether divergence tokens alone keep the effect, and masking them removes it: by equal rows
    and as the paper, and at equal rows and equal trained tokens. Of the last the paper has no arms
    as far as we know.
    """
    judged = []
    keep = "training on them alone keeps or strengthens transfer"
    stop = "masking them mostly removes transfer"
    papers: tuple[tuple[str, Side, str, str], ...] = (
        (ONLY, "above", "divergence tokens alone keep the effect", keep),
        (MASKED, "below", "masking divergence tokens mostly removes the effect", stop),
    )
    for suffix, label in (("", "equal rows"), (DROPPED, "as the paper, other rows dropped")):
        for name, side, statement, paper in papers:
            claim = Claim(NAME, f"{statement} ({label})", paper, "effect left", side, MOSTLY)
            judged.append(share(claim, result, name + suffix))
    more = "divergence tokens carry more than as many random tokens"
    less = "masking divergence tokens leaves less than masking as many random tokens"
    first = "the first divergence token of each row carries more than one random token"
    against_random: tuple[tuple[str, Side, str], ...] = (
        (ONLY, "above", more),
        (MASKED, "below", less),
        (FIRST, "above", first),
    )
    for name, side, statement in against_random:
        arm, control = result.arm(name), result.arm(name + RANDOM)
        if arm is not None and control is not None:
            claim = Claim(NAME, statement, "", "effect less that of random tokens", side, 0.0)
            judged.append(difference(claim, arm, control))
    return judged
