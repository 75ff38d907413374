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
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.inference.estimates import Array, Estimate
from auditor.inference.random_effects import MIN_NEGATIVE_CONTROLS, inflation
from auditor.inference.score_test import TraitColumns, estimate
from auditor.inference.tempering import Moments
from auditor.inference.thresholds import MIN_ROWS, TextProfile
from auditor.inference.trait_evidence import TraitEvidence, ranked, strongest
from auditor.model.null_model import NullModel, find_null, score_block, stacked_moments
from auditor.model.scoring import TokenScores, pack_scores, score_under, unpack_scores
from auditor.model.tokenization import TokenizedRow
from auditor.progress import ROW_PASSES, Progress, announce
from auditor.students.teacher import can_tune, tune_teacher
from auditor.traits.families import families
from auditor.traits.panel import Trait
from detectors.interface import Detector, Evidence, Finding, ScanContext, Skipped, TraitTest

ROWS = 128  # scored under every copy; more would cost more than the tuning


def detect(context: ScanContext) -> Finding:
    """Score the first ROWS of the scored rows under a copy of the reference for every trait that it
    can be tuned on.

    Traits can be tuned on that have probes, stems and an answer of one token
    (`auditor.students.teacher`). Skipped for too few rows or traits, or a reference that is not
    float32: tuning moves weights by less than bfloat16 can tell.
    """
    rows = context.scored.rows[:ROWS]
    if context.lm.dtype != "float32":
        dtype = context.lm.dtype
        return _skipped(f"tuning moves weights by less than {dtype} can tell; use --dtype float32")
    if len(rows) < MIN_ROWS:
        return _skipped(f"{len(rows)} rows; at least {MIN_ROWS} are needed")
    copies = _copies(context)
    if len(copies.traits) <= MIN_NEGATIVE_CONTROLS:
        return _skipped(
            f"{len(copies.traits)} traits of the panel have an answer that is one token, and "
            f"{MIN_NEGATIVE_CONTROLS + 1} are needed; name more with --panel"
        )
    null = find_null(context.rows, context.score, context.run)
    moments = _moments(context, rows, null, copies.traits)
    counted = {
        k: np.array([row.index not in context.excluded_rows.get(trait.name, ()) for row in rows])
        for k, trait in enumerate(copies.traits)
    }
    doses = tuned_estimates(moments, copies.families, counted)
    # A pass must hold for all rows, each as often as it stands in the data (`trait.upper_bounds`).
    every = dict.fromkeys(counted, np.ones(len(rows), dtype=bool))
    weights = np.array([context.weights.get(row.index, 1.0) for row in rows])
    trained = tuned_estimates(moments, copies.families, every, weights)
    tested = {trait.name for trait in context.tested.traits}
    tokens = sum(len(row.tokens) for row in rows)
    bounds: dict[str, float | None] = {}
    evidence = []
    for k, trait in enumerate(copies.traits):
        if trait.name not in tested:
            continue
        dose = doses.get(k)
        both = [dose.upper() for dose in (dose, trained.get(k)) if dose]
        bounds[trait.name] = max(both) if len(both) == 2 else None
        if dose:
            evidence.append(
                TraitEvidence.of(
                    trait.name,
                    trait.group,
                    dose,
                    p_adjusted=min(1.0, dose.p_value * context.hypotheses),
                    rows=len(rows),
                    tokens=tokens,
                )
            )
    traits = ranked(evidence, context.alpha, TextProfile(null.greedy).min_reported_dose)
    untuned = len(tested) - len(bounds)
    summary = "the rows carry too little information"
    if traits:
        summary = (
            f"{strongest(traits[0])}; {len(rows)} rows under {len(traits)} tuned copies of the "
            "reference"
        )
        if untuned:
            summary += f"; {untuned} traits have no answer of one token and were not taught"
    values = {
        "rows": len(rows),
        "traits": [asdict(trait) | {"interval": list(trait.interval)} for trait in traits],
        "not_taught": untuned,
        **null.figures,
    }
    return Finding(
        Evidence("tuned", summary, values), TraitTest("tuned copies", traits, bounds, len(rows))
    )


def _skipped(reason: str) -> Finding:
    return Finding(Skipped(reason), TraitTest("tuned copies", skipped=reason))


def tuned_estimates(
    moments: Moments,
    families: Sequence[Sequence[int]],
    counted: Mapping[int, npt.NDArray[np.bool_]],
    weights: Array | None = None,
) -> dict[int, Estimate]:
    """The dose of every copy with enough rows and information, by its number.

    moments: of R rows under K copies. families: the numbers 0 .. K - 1 by family. counted: [R] for
    each copy, the rows that do not mention its trait openly; the others are no evidence for it.
    weights: [R] how often each row counts, once if None.

    Any tuning of a teacher, a benign one too, moves its text along the copies' directions, and a
    trait must stand out from that: errors are widened by the inflation of the copies of other
    families; where those are fewer than MIN_NEGATIVE_CONTROLS, by that of all other copies. That is
    more cautious, since a trait's relatives stray with it.
    """
    plain: dict[int, Estimate] = {}
    family_of = {k: family for family in families for k in family}
    for k in family_of:
        rows = moments.of_rows(counted[k])
        centres = tuple(tuple(j for j in family if j != k) for family in families)
        weight = None if weights is None else [weights[counted[k]]]
        if dose := estimate([rows], [TraitColumns(k, centres)], weight):
            plain[k] = dose
    doses = {}
    for k, dose in plain.items():
        controls = [plain[j].z for j in plain if j not in family_of[k]]
        if len(controls) < MIN_NEGATIVE_CONTROLS:
            controls = [plain[j].z for j in plain if j != k]
        doses[k] = replace(dose, se=dose.se * math.sqrt(inflation(controls)))
    return doses


@dataclass(frozen=True, slots=True)
class _Copies:
    """The traits that copies are tuned on, and the numbers of these by family."""

    traits: Sequence[Trait]
    families: Sequence[Sequence[int]]


def _copies(context: ScanContext) -> _Copies:
    """The traits tested, and others of their families to centre on and to tell a trait from any
    other tuning: so many that a family has MIN_NEGATIVE_CONTROLS beside one.
    """
    names = {trait.name for trait in context.tested.traits}
    traits: list[Trait] = []
    numbers = []
    for family in families(context.panel, context.seed):
        tunable = [
            trait
            for trait in (context.panel.traits[k] for k in family)
            if can_tune(context.renderer, trait, context.panel)
        ]
        tested = [trait for trait in tunable if trait.name in names]
        controls = [trait for trait in tunable if trait.name not in names]
        if tested:
            members = [*tested, *controls[: max(0, MIN_NEGATIVE_CONTROLS + 1 - len(tested))]]
            numbers.append(range(len(traits), len(traits) + len(members)))
            traits += members
    return _Copies(traits, numbers)


def _moments(
    context: ScanContext, rows: Sequence[TokenizedRow], null: NullModel, traits: Sequence[Trait]
) -> Moments:
    """The moments of the rows under a copy for each of `traits`, which are tuned one after
    another.
    """
    by_name = {trait.name: trait for trait in traits}
    announced = False

    # The scorer of `score_block`, with the name of a trait in the place of a system prompt.
    def score(
        rows: Sequence[TokenizedRow],
        systems: Sequence[str | None],
        *,
        exact: bool = True,
        **options: Any,
    ) -> Iterator[list[TokenScores]]:
        nonlocal announced
        for done, name in enumerate(systems):
            if name is None:
                yield from context.score(rows, [None], **options)
                continue
            count = len(rows) * len(traits)
            stage = "scoring under tuned copies"
            context.progress(Progress(stage, len(rows) * done, count, ROW_PASSES))
            # Scores are kept in the run; the copy itself is given up.
            key = f"tuned-{context.panel.trait_indices([name])[0]:03d}"
            unit = context.run.load_unit(key)
            if unit is None:
                trait, began = by_name[name], time.perf_counter()
                copy = tune_teacher(context.lm, trait, context.panel, seed=context.seed).lm
                scores = score_under(copy, context.renderer, rows, None, **options)
                unit = pack_scores(scores)
                context.run.save_unit(key, unit)
                if not announced and (left := len(systems) - done - 1):
                    announced = True
                    work, seconds = f"tuning {left} more copies", time.perf_counter() - began
                    announce(context.progress, work, seconds * left)
            yield unpack_scores(unit, rows)

    unit = score_block(null, rows, list(by_name), score, lambda: None)
    return stacked_moments(unit)


DETECTOR = Detector(
    "tuned",
    "the same for copies of the reference tuned on each trait: for teachers with it in their "
    "weights",
    "scores",
    detect,
    test="tuned copies",
)
