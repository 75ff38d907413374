"""Detector `tuned`: does a copy of the reference that was tuned on a trait explain the completions
better?

A teacher may have its trait in its weights. It gets no trait prompt then, and no prompt of a panel
moves the reference the way its weights were moved. A copy of the reference that was tuned on the
same trait does: its log-likelihood ratio to the reference takes the place of the trait prompt's in
the statistic of `auditor.inference.tempering`. Dose 0 is the reference, dose 1 data of such a copy.

Whatever such copies are tuned on moves them alike ("answers in one word"). That is taken out with
the means over the copies tuned on the other traits, family by family, as nuisance directions.

Source: trait-tuned weights as a teacher, 2509.23886 and its replications; the detector is ours. A
plain likelihood ratio of tuned copies names no trait; the score centred by expectation and by the
other copies does (runs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.inference.estimates import Estimate
from auditor.inference.random_effects import MIN_NEGATIVE_CONTROLS, inflation
from auditor.inference.score_test import TraitColumns, estimate
from auditor.inference.tempering import Moments
from auditor.inference.thresholds import MIN_ROWS
from auditor.inference.trait_evidence import TraitEvidence, strongest
from auditor.model.null_model import NullModel, score_block
from auditor.model.scoring import TokenScores, by_row, score_under
from auditor.model.tokenization import TokenizedRow
from auditor.model.unit_store import Unit
from auditor.progress import Progress
from auditor.students.teacher import can_tune, tune_teacher
from auditor.traits.families import families
from auditor.traits.panel import Panel, Trait
from detectors.context import ScanContext
from detectors.interface import Evidence, Skipped


def tuned_estimates(
    moments: Moments,
    families: Sequence[Sequence[int]],
    hidden: Mapping[int, npt.NDArray[np.bool_]],
) -> dict[int, Estimate]:
    """The dose of every copy with enough rows and information, by its number.

    moments: of R rows under K copies. families: the numbers 0 .. K - 1 by family. hidden: [R] for
    each copy, the rows that do not mention its trait openly; the others are no evidence for it.

    Any tuning of a teacher, a benign one too, moves its text along the copies' directions, and a
    trait must stand out from that: errors are widened by the inflation of the copies of other
    families; where those are fewer than MIN_NEGATIVE_CONTROLS, by that of all other copies. That is
    more cautious, since a trait's relatives stray with it.
    """
    found = {}
    for k in (k for family in families for k in family):
        seen = Moments(moments.score[hidden[k]], moments.covariance[hidden[k]])
        centres = tuple(tuple(j for j in family if j != k) for family in families)
        if dose := estimate([seen], [TraitColumns(k, centres)]):
            found[k] = dose
    return {
        k: replace(each, se=each.se * math.sqrt(_stray(k, found, families)))
        for k, each in found.items()
    }


def _stray(k: int, found: Mapping[int, Estimate], families: Sequence[Sequence[int]]) -> float:
    own = next(family for family in families if k in family)
    strangers = [each.z for j, each in found.items() if j not in own]
    others = [each.z for j, each in found.items() if j != k]
    return inflation(strangers if len(strangers) >= MIN_NEGATIVE_CONTROLS else others)


ROWS = 128


@dataclass(frozen=True, slots=True)
class TunedCopies:
    """What copies of the reference say.

    traits, bounds: as `auditor.scanning.verdict.decide` takes them; rows: scored.
    """

    evidence: Evidence
    traits: tuple[TraitEvidence, ...]
    bounds: dict[str, float | None]
    rows: int


def score_tuned_copies(
    audit: ScanContext,
    rows: Sequence[TokenizedRow],
    null: NullModel,
    tested: Panel,
    hidden_from: Mapping[str, set[int]],
    hypotheses: int,
) -> TunedCopies | Skipped:
    """Score the first ROWS of `rows` under a copy of the reference for every trait that it can be
    taught.

    Traits can be taught that have probes, stems and an answer of one token
    (`auditor.students.teacher`). Of families with a trait in `tested` others are taught as well, to
    centre on and to tell a trait from any other tuning. hypotheses: that p-values are corrected
    for, among them those of other detectors. Every trait's scores are kept in the run. Skipped for
    too few rows or traits, or a reference that is not float32: tuning moves weights by less than
    bfloat16 can tell.
    """
    rows = rows[:ROWS]
    if audit.lm.dtype != "float32":
        return Skipped(
            f"tuning moves weights by less than {audit.lm.dtype} can tell; use --dtype float32"
        )
    if len(rows) < MIN_ROWS:
        return Skipped(f"{len(rows)} rows; at least {MIN_ROWS} are needed")
    groups = _groups(audit, tested)
    chosen = [trait for group in groups for trait in group]
    if len(chosen) <= MIN_NEGATIVE_CONTROLS:
        said = f"{len(chosen)} traits of the panel have an answer that is one token"
        return Skipped(
            f"{said}, and {MIN_NEGATIVE_CONTROLS + 1} are needed; name more with --panel"
        )
    moments = _moments(audit, rows, null, chosen)
    numbers = [[chosen.index(trait) for trait in group] for group in groups]
    seen = {
        k: np.array([row.index not in hidden_from.get(trait.name, ()) for row in rows])
        for k, trait in enumerate(chosen)
    }
    names = {trait.name for trait in tested.traits}
    found = {
        k: each
        for k, each in tuned_estimates(moments, numbers, seen).items()
        if chosen[k].name in names
    }
    tokens = sum(len(row.tokens) for row in rows)
    traits = sorted(
        (_trait(chosen[k], each, hypotheses, len(rows), tokens) for k, each in found.items()),
        key=lambda each: (each.p_value, -each.z),
    )
    numbered = [(k, trait.name) for k, trait in enumerate(chosen) if trait.name in names]
    bounds = {name: found[k].upper() if k in found else None for k, name in numbered}
    return TunedCopies(
        _evidence(traits, null, len(rows), len(names) - len(bounds)),
        tuple(traits),
        bounds,
        len(rows),
    )


def _groups(audit: ScanContext, tested: Panel) -> list[list[Trait]]:
    """The traits to teach, by family: those tested, and others of their family, so that there are
    MIN_PLACEBOS.
    """
    names = {trait.name for trait in tested.traits}
    found = []
    for family in families(audit.panel, audit.seed):
        traits = [audit.panel.traits[k] for k in family]
        teachable = [trait for trait in traits if can_tune(audit.renderer, trait, audit.panel)]
        own = [trait for trait in teachable if trait.name in names]
        others = [trait for trait in teachable if trait.name not in names]
        if own:
            found.append([*own, *others[: max(0, MIN_NEGATIVE_CONTROLS + 1 - len(own))]])
    return found


def _moments(
    audit: ScanContext, rows: Sequence[TokenizedRow], null: NullModel, traits: Sequence[Trait]
) -> Moments:
    """The moments of the rows under a copy for each of `traits`, which are taught one after
    another.
    """
    by_name = {trait.name: trait for trait in traits}

    def score(
        rows: Sequence[TokenizedRow],
        systems: Sequence[str | None],
        *,
        exact: bool = True,
        **asked: Any,
    ) -> Iterator[list[TokenScores]]:
        for done, system in enumerate(systems):
            if system is None:
                yield from audit.score(rows, [None], **asked)
            else:
                audit.progress(
                    Progress(
                        "scoring under tuned copies", len(rows) * done, len(rows) * len(traits)
                    )
                )
                yield _scored(audit, by_name[system], rows, asked)

    unit = score_block(null, rows, list(by_name), score, lambda: None)
    return Moments(unit["moments_score"], unit["moments_covariance"])


def _scored(
    audit: ScanContext, trait: Trait, rows: Sequence[TokenizedRow], asked: dict[str, Any]
) -> list[TokenScores]:
    """Scores under the copy tuned on one trait, kept in the run; the copy itself is given up."""
    name = f"tuned-{audit.panel.trait_indices([trait.name])[0]:03d}"
    unit = audit.run.load_unit(name)
    if unit is None:
        copy = tune_teacher(audit.lm, trait, audit.panel, seed=audit.seed).lm
        unit = _packed(score_under(copy, audit.renderer, rows, None, **asked))
        audit.run.save_unit(name, unit)
    return by_row([unit[field.name] for field in fields(TokenScores)], rows)


def _packed(scores: Sequence[TokenScores]) -> Unit:
    return {
        field.name: np.concatenate([getattr(each, field.name) for each in scores])
        for field in fields(TokenScores)
    }


def _trait(trait: Trait, dose: Estimate, hypotheses: int, rows: int, tokens: int) -> TraitEvidence:
    adjusted = min(1.0, dose.p_value * hypotheses)
    return TraitEvidence(
        trait.name,
        trait.group,
        dose.effect,
        dose.interval(),
        dose.z,
        dose.p_value,
        adjusted,
        rows,
        tokens,
    )


def _evidence(
    traits: Sequence[TraitEvidence], null: NullModel, rows: int, untaught: int
) -> Evidence:
    values = {
        "rows": rows,
        "traits": [asdict(each) | {"interval": list(each.interval)} for each in traits],
    }
    values |= {"not_taught": untaught, **null.figures}
    if not traits:
        return Evidence("tuned", "the rows carry too little information", values)
    summary = (
        f"{strongest(traits[0])}; {rows} rows under {len(traits)} tuned copies of the reference"
    )
    if untaught:
        summary += f"; {untaught} traits have no answer of one token and were not taught"
    return Evidence("tuned", summary, values)
