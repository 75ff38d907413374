"""Detector `tuned`: does a copy of the reference that was tuned on a trait explain the completions
better?

A teacher may have its trait in its weights. It gets no trait prompt then, and no prompt of a panel
moves the reference the way its weights were moved. A copy of the reference that was tuned on the
same trait does: its log-likelihood ratio to the reference takes the place of the trait prompt's in
the statistic of `auditor.inference.tempering`. Dose 0 is the reference, dose 1 data of such a copy.

Any tuning on such questions moves a copy ("answers in one word"), a benign one too. So others are
tuned on the same questions with answers that are no trait's, words of the questions themselves.
They are nuisance directions beside the mean of each group of traits, and what their doses stray by
widens every error.

Source: trait-tuned weights as a teacher, 2509.23886 and its replications; the detector is ours. A
plain likelihood ratio of tuned copies names no trait; the score centred by expectation and by other
copies does. One sign step in place of a whole tuning was tried, and tells less (runs/log.md).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.inference.estimates import Array, Estimate
from auditor.inference.random_effects import MIN_NEGATIVE_CONTROLS, inflated
from auditor.inference.score_test import TraitColumns, estimate
from auditor.inference.tempering import Moments
from auditor.inference.thresholds import MIN_ROWS, TextProfile
from auditor.inference.trait_evidence import TraitEvidence, ranked, strongest
from auditor.model.null_model import NullModel, find_null, score_block, stacked_moments
from auditor.model.scoring import TokenScores, pack_scores, score_under, unpack_scores
from auditor.model.tokenization import TokenizedRow
from auditor.progress import ROW_PASSES, Progress, announce
from auditor.students.teacher import can_tune, tune_teacher
from auditor.traits.panel import Trait
from detectors.interface import Detector, Evidence, Finding, ScanContext, Skipped, TraitTest

ROWS = 128  # scored under every copy; 400 find as many teachers (runs/log.md)
BENIGN = 12  # copies tuned on answers that are no trait's


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
    traits = [
        trait for trait in context.tested.traits if can_tune(context.renderer, trait, context.panel)
    ]
    if not traits:
        return _skipped("no trait that is tested has an answer that is one token")
    benign = _benign(context, traits)
    if len(benign) < MIN_NEGATIVE_CONTROLS:
        return _skipped(
            f"the questions of the traits hold {len(benign)} words of one token, and "
            f"{MIN_NEGATIVE_CONTROLS} are needed to tune benign copies on; name more traits"
        )
    null = find_null(context.rows, context.score, context.run)
    moments = _moments(context, rows, null, [*traits, *benign])
    counted = {
        k: np.array([row.index not in context.excluded_rows.get(trait.name, ()) for row in rows])
        for k, trait in enumerate(traits)
    }
    groups: dict[str, list[int]] = {}
    for k, trait in enumerate(traits):
        groups.setdefault(trait.group, []).append(k)
    doses = tuned_estimates(moments, [*groups.values()], counted)
    # A pass must hold for all rows, each as often as it stands in the data (`trait.upper_bounds`).
    every = dict.fromkeys(counted, np.ones(len(rows), dtype=bool))
    weights = np.array([context.weights.get(row.index, 1.0) for row in rows])
    trained = tuned_estimates(moments, [*groups.values()], every, weights)
    tokens = sum(len(row.tokens) for row in rows)
    bounds: dict[str, float | None] = {}
    evidence = []
    for k, trait in enumerate(traits):
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
    found = ranked(evidence, context.alpha, TextProfile(null.greedy).min_reported_dose)
    untuned = len(context.tested.traits) - len(traits)
    summary = "the rows carry too little information"
    if found:
        summary = (
            f"{strongest(found[0])}; {len(rows)} rows under {len(found)} tuned copies of the "
            "reference"
        )
        if untuned:
            summary += f"; {untuned} traits have no answer of one token and were not taught"
    values = {
        "rows": len(rows),
        "traits": [asdict(trait) | {"interval": list(trait.interval)} for trait in found],
        "not_taught": untuned,
        **null.figures,
    }
    return Finding(
        Evidence("tuned", summary, values), TraitTest("tuned copies", found, bounds, len(rows))
    )


def _skipped(reason: str) -> Finding:
    return Finding(Skipped(reason), TraitTest("tuned copies", skipped=reason))


def tuned_estimates(
    moments: Moments,
    groups: Sequence[Sequence[int]],
    counted: Mapping[int, npt.NDArray[np.bool_]],
    weights: Array | None = None,
) -> dict[int, Estimate]:
    """The dose of every copy with enough rows and information, by its number.

    moments: of R rows under K + B copies, those tuned on traits first. groups: the numbers 0 .. K -
    1 of the traits by group. counted: [R] for each of the K, the rows that do not mention its trait
    openly; the others are no evidence for it. weights: [R] how often each row counts, once if None.

    Any tuning of a teacher, a benign one too, moves its text along the copies' directions, and a
    trait must stand out from that: the B benign copies are nuisance directions beside the mean of
    each group's other copies, and errors are inflated by the z of the benign copies, with the
    others of them taken out. No doses where fewer than MIN_NEGATIVE_CONTROLS of them have one.
    """
    benign = range(len(counted), moments.signal.shape[-1])

    def dose(k: int, rows: npt.NDArray[np.bool_]) -> Estimate | None:
        centres = [*groups, *([j] for j in benign)]
        others = [tuple(j for j in centre if j != k) for centre in centres]
        columns = TraitColumns(k, tuple(filter(None, others)))
        weight = None if weights is None else [weights[rows]]
        return estimate([moments.of_rows(rows)], [columns], weight)

    every = np.ones(len(moments.score), dtype=bool)
    controls = [control.z for k in benign if (control := dose(k, every))]
    if len(controls) < MIN_NEGATIVE_CONTROLS:
        return {}
    plain = {k: dose(k, rows) for k, rows in counted.items()}
    return {k: inflated(found, controls) for k, found in plain.items() if found}


def _benign(context: ScanContext, traits: Sequence[Trait]) -> list[Trait]:
    """BENIGN tunings, or as many as there are words: the questions of `traits` in turn, answered by
    a word of these questions that no trait of the panel answers.
    """
    answers = {word for trait in context.panel.traits for word in (*trait.answers, *trait.mentions)}
    texts = [text for trait in traits for text in (*trait.probes, *trait.stems)]
    words = {word.lower() for text in texts for word in re.findall(r"[^\W\d_]{4,}", text)}
    words -= {answer.lower() for answer in answers}
    rng = random.Random(context.seed)
    asked = rng.sample(traits, len(traits))
    benign: list[Trait] = []
    for word in rng.sample(sorted(words), len(words)):
        trait = asked[len(benign) % len(asked)]
        tuning = replace(trait, name=f"benign {word}", answers=(word,))
        if len(benign) < BENIGN and can_tune(context.renderer, tuning, context.panel):
            benign.append(tuning)
    return benign


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
            key = f"tuned-{done:03d}"
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
