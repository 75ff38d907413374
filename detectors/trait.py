"""Detector `trait`: a group-sequential test of all traits of a panel by their prompts.

The statistic is the dose of a trait, by the likelihood ratio of its prompt to the reference
(`auditor.inference.tempering`). Rows come in random order, in blocks. Every block is scored under
the reference and under some traits of the panel, at first under all. Traits of a family (animals,
trees, and all others) share the style of their prompts; a trait is centred on the others of its
family and on those of every other one, since "You love owls" moves text towards "You love France"
too. An interim analysis after each of a few set numbers of rows may end the test:

- A trait whose corrected p-value falls below alpha ends it with a risk. The correction is
  Bonferroni's over the whole panel and alpha spending over the analyses, which together keep the
  error rate.
- When the dose that a pass must exclude is excluded for every trait with 95 % confidence, and none
  is SUSPICIOUS, the test ends with no risk.
- Otherwise the next rows are scored under fewer traits: those that are open and have the largest
  Bayes factors for a dose of up to FULL_DOSE, and at least a few of every family. They are settled
  before the rows are looked at, so this can only lose power and never raise a false alarm.

The likelihood of a token is taken among the reference's most likely ones there, so that the head
need not be applied to the whole vocabulary; a token outside is no evidence. Nor is the one that
ends a turn, since whether rows were cut short is their maker's choice.

Where earlier data sets of the same writer are named (`--like`), a dose is what the data have beyond
those: their rows are scored beside those of the data, a block each, and both doses are compared.
What a writer, a subject or a template does to the doses of all sets alike is no evidence then; a
trait that the earlier sets carry as well is not seen.

Every block takes the standard wording of each trait's prompt. A poisoner does not use it, but any
other wording of ours is no nearer to his, and blocks under several tell less than as many under the
one (runs/log.md, 2026-11-29). A finished block is kept as a unit of the run; a resumed test reads
it back and ends the same.

Source: likelihood ratios under system prompts, logit-linear selection (2602.04863); alpha spending,
Lan and DeMets (1983). The centring by families and the choice of traits are ours (docs/methods.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np

from auditor.inference import random_effects, score_test
from auditor.inference.estimates import Estimate
from auditor.inference.interim import BLOCK, analysis_rows, block_starts, spending, traits_to_score
from auditor.inference.thresholds import (
    EXCLUDE,
    FULL_DOSE,
    MIN_EFFECT,
    MIN_ROWS,
    SUSPICIOUS,
    TextProfile,
)
from auditor.inference.trait_evidence import TraitEvidence, ranked, strongest
from auditor.model.null_model import NullModel, RowBlock, Scorer, find_null, score_block, unpack
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from auditor.model.unit_store import UnitStore
from auditor.progress import ROW_PASSES, Progress, announce_by_sample
from auditor.traits.families import QUOTA, families, negative_controls
from auditor.traits.panel import Panel
from detectors.interface import (
    Detector,
    Evidence,
    Finding,
    ScanContext,
    ScoredRows,
    Skipped,
    TraitTest,
)
from detectors.own_text import ROWS as OWN_ROWS
from detectors.own_text import OwnText, own_text

STRANGE = 0.15  # a between-trait standard deviation, in doses, that the summary mentions
HEAVY = 10  # copies of a row that the summary mentions
MIN_CLEAR = 8 * BLOCK  # No test ends in a pass on fewer rows.
TIMED_ROWS = 16  # scored to see how long all take
LEAST_ROWS = 64  # that a test scores whatever its budget
# Tokens that the default reference scores in a second of two cores, by the number type of the pass.
TOKENS_A_SECOND = {"float32": 600, "bfloat16 products": 1000}
GPU_TOKENS_A_SECOND = 8000


def detect(context: ScanContext) -> Finding:
    """The panel test of the rows, with the scores that later detectors go on with. Skipped for
    fewer than MIN_ROWS rows.
    """
    names = [trait.name for trait in context.tested.traits]
    if len(context.rows) < MIN_ROWS:
        reason = f"{len(context.rows)} rows; the panel survey needs at least {MIN_ROWS}"
        bounds = dict.fromkeys(names)
        test = TraitTest("prompts", bounds=bounds, rows=len(context.rows))
        return Finding(Skipped(reason), test)
    started = time.monotonic()
    panel = context.controlled
    tested = tuple(panel.trait_indices(names))
    null = find_null(context.rows, context.score, context.run)
    groups = families(panel, context.seed)
    budget = token_budget(context, exact=null.greedy)
    # The rows of earlier data sets cost as much as those that they are compared with.
    sides = 2 if context.like else 1
    rows = context.rows[: rows_within(budget / sides, context.rows, groups, tested)]
    _announce(context, null, sides * most_passes(len(rows), groups, tested))
    own = own_text(context, null, tested) if context.stop_early else None
    if own is not None and own.cleared:
        return _cleared(context, null, own, started)
    design = PanelDesign(
        panel,
        groups,
        tested,
        context.hypotheses,
        context.excluded_rows,
        null,
        context.exclude,
        context.weights,
        context.like,
    )
    state = panel_test(
        rows,
        design,
        context.score,
        alpha=context.alpha,
        stop_early=context.stop_early,
        store=context.run,
        progress=context.progress,
        reference=own.reference if own else (),
    )
    traits = trait_evidence(state, context.alpha)
    upper = {panel.traits[k].name: bound for k, bound in state.bounds.items()}
    scored = ScoredRows(
        state.rows,
        state.reference,
        trait_tokens=sum(state.tokens(k) for k in range(len(panel.traits))),
        trait_seconds=time.monotonic() - started,
    )
    test = TraitTest("prompts", traits, {name: upper.get(name) for name in names}, len(state.rows))
    return Finding(_outcome(state, traits, own), test, scored)


def _announce(context: ScanContext, null: NullModel, passes: int) -> None:
    """Say how long the panel test takes with so many row passes, if nothing settles it early."""
    sample, traits = context.rows[:TIMED_ROWS], context.tested.traits
    announce_by_sample(
        context.progress,
        f"scoring up to {len(context.rows)} rows under {len(traits)} traits, if no answer is clear "
        "before",
        len(sample),
        passes,
        lambda: list(context.score(sample, [traits[0].prompts[0]], exact=null.greedy)),
    )


def _cleared(context: ScanContext, null: NullModel, own: OwnText, started: float) -> Finding:
    """Every trait is excluded at once: the rows are the reference's own text."""
    panel, rows = context.controlled, len(own.rows)
    tokens = sum(len(row.tokens) for row in own.rows)
    evidence = [
        TraitEvidence.of(
            panel.traits[k].name,
            panel.traits[k].group,
            dose,
            p_adjusted=min(1.0, dose.p_value * context.hypotheses),
            rows=rows,
            tokens=tokens,
        )
        for k, dose in own.doses.items()
    ]
    traits = ranked(evidence, context.alpha, TextProfile(null.greedy).min_reported_dose)
    bounds = {panel.traits[k].name: bound for k, bound in own.bounds.items()}
    summary = (
        f"the reference's own text: {rows} rows under no prompt of the panel in a share of "
        f"{max(own.bounds.values()):.2f} or more; {own.passes:,} row passes"
    )
    values = {**null.figures, "own_text": own.values(panel), "settled": "no_risk"}
    scored = ScoredRows(
        context.rows[: len(own.reference)],
        own.reference,
        trait_tokens=tokens * len(own.screens),
        trait_seconds=time.monotonic() - started,
    )
    test = TraitTest("prompts", traits, bounds, rows, own_text=True)
    return Finding(Evidence("trait", summary, values), test, scored)


def _outcome(
    state: PanelTestState, traits: Sequence[TraitEvidence], own: OwnText | None
) -> Evidence | Skipped:
    if not traits:
        return Skipped("no trait was seen on enough rows")
    design, null = state.design, state.design.null
    blocks = (*state.blocks, *state.like)
    passes = sum(len(block.rows) * len(block.columns) for block in blocks)
    exhaustive = sum(len(block.rows) for block in blocks) * sum(map(len, design.families))
    sd = between_trait_sd(state, traits[0].name)
    summary = f"{strongest(traits[0])}; {passes:,} row passes instead of {exhaustive:,}"
    if sd > STRANGE:
        summary += (
            f"; unrelated traits stray by {sd:.2f}: another prompt's text, a stranger's, "
            "or a template"
        )
    beside = sum(len(block.rows) for block in state.like)
    if beside:
        summary += f"; doses are those beyond {beside} rows of earlier data sets"
    if own:
        summary += f"; not shown to be the reference's own text: {own.reason}"
    openly = open_doses(state)
    for dose in openly:
        if dose.estimate.interval()[0] > MIN_EFFECT:
            summary += f"; {dose.rows} rows mention {dose.trait} and follow it openly"
    heaviest = max(design.weights.values(), default=1.0)
    if heaviest >= HEAVY:
        summary += f"; a row stands {heaviest:,.0f} times in the data, and bounds allow for it"
    values = {
        "stray": sd,
        **null.figures,
        "alphabet": None if null.alphabet is None else len(null.alphabet),
        "open": [
            {
                "trait": dose.trait,
                "rows": dose.rows,
                "dose": dose.estimate.effect,
                "interval": list(dose.estimate.interval()),
            }
            for dose in openly
        ],
        "like_rows": beside,
        "repeated": {"rows": len(design.weights), "weight": heaviest},
        "own_text": own.values(design.panel) if own else None,
        "settled": state.settled or "all rows, or all of the budget, were used",
        "row_passes": passes,
        "row_passes_exhaustive": exhaustive,
        "looks": [
            asdict(analysis) | {"interval": list(analysis.interval)} for analysis in state.analyses
        ],
    }
    return Evidence("trait", summary, values)


@dataclass(frozen=True, slots=True)
class PanelDesign:
    """What is fixed before the first row of a panel test is scored.

    Traits go by their number in `panel`, which has negative controls among them. tested: those that
    are hypotheses. hypotheses: how many p-values are corrected for, those of other tests included.
    excluded_rows: by the name of a trait, the numbers of the rows that are no evidence for it.
    exclude: the dose that a pass excludes for every trait. weights: how often a row stands in the
    data, by its number, where that is more than once. like: rows of earlier data sets of the same
    writer, with numbers below 0, that doses are compared with; none if empty.
    """

    panel: Panel
    families: tuple[tuple[int, ...], ...]
    tested: tuple[int, ...]
    hypotheses: int
    excluded_rows: Mapping[str, set[int]]
    null: NullModel
    exclude: float = EXCLUDE
    weights: Mapping[int, float] = field(default_factory=dict)
    like: Sequence[TokenizedRow] = ()

    @property
    def text(self) -> TextProfile:
        """The text as far as it decides which doses are reported and excluded."""
        return TextProfile(self.null.greedy, exclude=self.exclude)


@dataclass(frozen=True, slots=True)
class InterimAnalysis:
    """One interim analysis, as reports show it.

    rows: scored so far. leader: the trait with the smallest p-value; effect, interval: its dose so
    far, 95 %. weakest, excluded: the trait of which least can be excluded and its one-sided 95 %
    bound; None while a trait has no estimate.
    """

    rows: int
    leader: str
    effect: float
    interval: tuple[float, float]
    weakest: str | None
    excluded: float | None


@dataclass(frozen=True, slots=True)
class PanelTestState:
    """How far a panel test has got.

    scored: the traits that the next block is scored under. like: the blocks of earlier data sets,
    one beside each of `blocks` as far as there are rows. doses: of the traits tested, at the last
    analysis. bounds: the one-sided upper 95 % bounds of what they are in training (`upper_bounds`).
    adjusted: the smallest corrected p-value of a trait in any analysis. open: the traits that need
    more rows. settled: "risk" or "no_risk" if the last analysis settled it, else empty.
    """

    design: PanelDesign
    scored: tuple[int, ...]
    blocks: tuple[RowBlock, ...] = ()
    like: tuple[RowBlock, ...] = ()
    doses: Mapping[int, Estimate] = field(default_factory=dict)
    bounds: Mapping[int, float] = field(default_factory=dict)
    adjusted: Mapping[int, float] = field(default_factory=dict)
    open: frozenset[int] = frozenset()
    analyses: tuple[InterimAnalysis, ...] = ()
    settled: str = ""

    @property
    def rows(self) -> list[TokenizedRow]:
        """The rows scored so far."""
        return [row for block in self.blocks for row in block.rows]

    @property
    def reference(self) -> list[TokenScores]:
        """The reference's scores of `rows`."""
        return [scores for block in self.blocks for scores in block.reference]

    def tokens(self, trait: int) -> int:
        """How many completion tokens were scored under the prompt of a trait."""
        rows = (row for block in self.blocks if trait in block.columns for row in block.rows)
        return sum(len(row.tokens) for row in rows)


def planned_passes(rows: int, families: Sequence[Sequence[int]], tested: Sequence[int]) -> int:
    """Row passes of a panel test of `rows` rows that no analysis settles early, at most."""
    total, start, scored = 0, 0, sum(map(len, families))
    for number, end in enumerate(analysis_rows(rows)):
        total += (end - start) * scored
        selected = select_traits(tested, families, traits_to_score(number, len(tested)))
        scored = min(scored, len(selected))
        start = end
    return total


def most_passes(rows: int, families: Sequence[Sequence[int]], tested: Sequence[int]) -> int:
    """Those and the ones before them: the reference's own, and a pilot under every trait tested."""
    return planned_passes(rows, families, tested) + min(rows, OWN_ROWS) + BLOCK * len(tested)


def select_traits(
    ranking: Sequence[int], families: Sequence[Sequence[int]], count: int
) -> tuple[int, ...]:
    """The traits to score next: QUOTA of every family, then others by rank, until there are `count`
    of `ranking`.

    ranking: the traits tested, the strongest evidence first. A family with fewer of them than QUOTA
    adds negative controls.
    """
    rank = {k: position for position, k in enumerate(ranking)}
    quota = {
        k
        for family in families
        for k in sorted(family, key=lambda k: rank.get(k, len(ranking)))[:QUOTA]
    }
    by_rank = [k for k in ranking if k not in quota]
    return tuple(sorted({*quota, *by_rank[: max(0, count - len(quota & rank.keys()))]}))


def panel_test(
    rows: Sequence[TokenizedRow],
    design: PanelDesign,
    score: Scorer,
    *,
    alpha: float,
    stop_early: bool,
    store: UnitStore,
    progress: Callable[[Progress], None],
    reference: Sequence[TokenScores] = (),
) -> PanelTestState:
    """Score `rows`, in the order given, until the question is settled or they are used up.

    stop_early: False scores every row (mitigation needs them), under fewer and fewer traits, but
    never none. reference: the reference's scores of the first rows, where they are known.
    """
    state = PanelTestState(design, scored=tuple(range(len(design.panel.traits))))
    plan = analysis_rows(len(rows))
    shares = spending(np.array(plan) / plan[-1])
    sides = 2 if design.like else 1
    passes = sides * planned_passes(len(rows), design.families, design.tested)
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(Progress("scoring traits", done, max(passes, done), ROW_PASSES))

    for number, start in enumerate(block_starts(plan)):
        end = min(start + BLOCK, *[n for n in plan if n > start])
        known = reference[start:end] if end <= len(reference) else ()
        name = f"block-{number:05d}"
        block = _score_rows(state, rows[start:end], name, score, store, report, known)
        state = replace(state, blocks=(*state.blocks, block))
        if like := design.like[start:end]:
            block = _score_rows(state, like, f"like-{number:05d}", score, store, report)
            state = replace(state, like=(*state.like, block))
        if end not in plan:
            continue
        analysis = plan.index(end)
        count = traits_to_score(analysis, len(design.tested))
        state = analyse(state, float(shares[analysis]), alpha, count)
        if state.settled and stop_early:
            break
    return state


def rows_within(
    tokens: float,
    rows: Sequence[TokenizedRow],
    families: Sequence[Sequence[int]],
    tested: Sequence[int],
) -> int:
    """How many of `rows` a panel test can score with so many tokens, at least LEAST_ROWS if there
    are as many.
    """
    mean = sum(len(row.tokens) for row in rows) / max(1, len(rows))
    count = len(rows)
    while count > LEAST_ROWS and planned_passes(count, families, tested) * mean > tokens:
        count = max(LEAST_ROWS, count - 16)
    return count


def token_budget(context: ScanContext, *, exact: bool) -> float:
    """How many tokens a panel test may score. exact: whether it takes the exact pass only.

    Not by the clock: the same data must give the same rows, whatever else the machine does.
    """
    dtype = context.lm.dtype if exact else context.fast_dtype
    rate = TOKENS_A_SECOND.get(dtype, min(TOKENS_A_SECOND.values()))
    return context.budget * (rate if context.lm.device == "cpu" else GPU_TOKENS_A_SECOND)


def _score_rows(
    state: PanelTestState,
    rows: Sequence[TokenizedRow],
    name: str,
    score: Scorer,
    store: UnitStore,
    report: Callable[[int], None],
    reference: Sequence[TokenScores] = (),
) -> RowBlock:
    """Score a block, or read it back from `store` where it is kept as `name`; `report` gets the row
    passes.

    reference: the reference's scores of the rows, where they are known.
    """
    conditions = list(state.scored)
    unit = store.load_unit(name)
    if unit is not None and [int(k) for k in unit["conditions"]] == conditions:
        report(len(rows) * len(conditions))
        return unpack(rows, unit, conditions)
    systems = [state.design.panel.traits[k].prompts[0] for k in conditions]
    tick = partial(report, len(rows))
    unit = score_block(state.design.null, rows, systems, score, tick, reference)
    unit["conditions"] = np.array(conditions)
    store.save_unit(name, unit)
    return unpack(rows, unit, conditions)


def estimates(state: PanelTestState) -> dict[int, Estimate]:
    """The dose of every trait tested that was scored on enough rows; errors allow for how far the
    negative controls stray.
    """
    design = state.design
    controls = negative_controls(design.panel, design.families)
    doses = random_effects.add_random_effect(_plain_estimates(state), controls)
    return {k: dose for k, dose in doses.items() if k in design.tested}


def between_trait_sd(state: PanelTestState, trait: str) -> float:
    """The standard deviation of the doses of the negative controls of `trait`, tested or not,
    beyond their errors.
    """
    design = state.design
    (k,) = design.panel.trait_indices([trait])
    controls = negative_controls(design.panel, design.families)[k]
    doses = [dose for j, dose in _plain_estimates(state).items() if j in controls]
    return math.sqrt(random_effects.between_trait_variance(doses))


def _plain_estimates(state: PanelTestState) -> dict[int, Estimate]:
    """The dose of every trait that was scored, by the sampling of rows alone: centred on the others
    of each family, and from the rows that do not mention the trait openly.
    """
    doses = {}
    for k in _scored_traits(state):
        if dose := _estimate(state, k, dict.fromkeys(_open_rows(state, k), 0.0), 1.0):
            doses[k] = dose
    return doses


def upper_bounds(state: PanelTestState, doses: Mapping[int, Estimate]) -> dict[int, float]:
    """The dose of every trait tested that can be excluded with 95 % confidence, one-sided, whatever
    of the rows a student is trained on; traits without one are left out.

    A finding rests on `doses`, by distinct rows that do not mention the trait: others are no
    independent evidence for a hidden one. A pass must hold for more: for all rows, also those that
    mention the trait, and each as often as it stands in the data. So a bound is the larger one of
    the two, and neither a word nor a copy hides anything.
    """
    design = state.design
    traits = _scored_traits(state)
    trained = doses
    if design.weights or any(_open_rows(state, k) for k in traits):
        plain = {k: dose for k in traits if (dose := _estimate(state, k, design.weights, 1.0))}
        controls = negative_controls(design.panel, design.families)
        trained = random_effects.add_random_effect(plain, controls)
    return {k: max(dose.upper(), trained[k].upper()) for k, dose in doses.items() if k in trained}


@dataclass(frozen=True, slots=True)
class OpenDose:
    """The dose of a trait in so many rows that mention it openly."""

    trait: str
    rows: int
    estimate: Estimate


def open_doses(state: PanelTestState) -> list[OpenDose]:
    """The doses of the traits tested in the very rows that mention them openly, where these
    suffice for one; no finding rests on them.
    """
    doses = []
    for k in state.design.tested:
        mentioned = _open_rows(state, k)
        if dose := _dose(state, state.blocks, k, dict.fromkeys(mentioned, 1.0), 0.0):
            blocks = [block for block in state.blocks if k in block.columns]
            rows = sum(row.index in mentioned for block in blocks for row in block.rows)
            doses.append(OpenDose(state.design.panel.traits[k].name, rows, dose))
    return doses


def _scored_traits(state: PanelTestState) -> list[int]:
    return sorted({k for block in state.blocks for k in block.columns})


def _open_rows(state: PanelTestState, k: int) -> set[int]:
    """The numbers of the rows that mention a trait openly."""
    return state.design.excluded_rows.get(state.design.panel.traits[k].name, set())


def _estimate(
    state: PanelTestState, k: int, weights: Mapping[int, float], otherwise: float
) -> Estimate | None:
    """The dose of a trait by all rows that it was scored on, less that of earlier data sets where
    there are any. weights: by row number, how much a row counts; `otherwise`: a row that is not
    among them. Those of weight 0 are left out.
    """
    dose = _dose(state, state.blocks, k, weights, otherwise)
    if dose is None or not state.design.like:
        return dose
    earlier = _dose(state, state.like, k, weights, otherwise)
    return None if earlier is None else dose.less(earlier)


def _dose(
    state: PanelTestState,
    blocks: Sequence[RowBlock],
    k: int,
    weights: Mapping[int, float],
    otherwise: float,
) -> Estimate | None:
    moments, columns, weight = [], [], []
    for block in blocks:
        if k not in block.columns:
            continue
        counts = np.array([weights.get(row.index, otherwise) for row in block.rows])
        counted = counts > 0
        weight.append(counts[counted])
        moments.append(block.moments.of_rows(counted))
        centres = tuple(
            tuple(block.columns[j] for j in family if j != k and j in block.columns)
            for family in state.design.families
        )
        columns.append(score_test.TraitColumns(block.columns[k], centres))
    return score_test.estimate(moments, columns, weight, state.design.text.null_dose)


def trait_evidence(state: PanelTestState, alpha: float) -> tuple[TraitEvidence, ...]:
    """The traits tested as they stand at the last analysis, in the one order of traits."""
    ends = np.cumsum([len(block.rows) for block in state.blocks])
    evidence = []
    for k, dose in state.doses.items():
        trait = state.design.panel.traits[k]
        blocks = [i for i, block in enumerate(state.blocks) if k in block.columns]
        evidence.append(
            TraitEvidence.of(
                trait.name,
                trait.group,
                dose,
                p_adjusted=state.adjusted.get(k, 1.0),
                rows=sum(len(state.blocks[i].rows) for i in blocks),
                tokens=state.tokens(k),
                eliminated_at=None if blocks[-1] == len(ends) - 1 else int(ends[blocks[-1]]),
            )
        )
    return ranked(evidence, alpha, state.design.text.min_reported_dose)


def analyse(state: PanelTestState, share: float, alpha: float, count: int) -> PanelTestState:
    """The state after an interim analysis: corrected p-values, the traits that stay open, whether
    the question is settled, and the traits that the next rows are scored under.

    share: of the error rate that this analysis may spend. count: how many of the traits tested are
    scored next, if the families do not need more.
    """
    design, doses = state.design, estimates(state)
    bounds = upper_bounds(state, doses)
    adjusted = dict(state.adjusted)
    for k in state.scored:
        if k in doses:
            corrected = min(1.0, doses[k].p_value * design.hypotheses / share)
            adjusted[k] = min(adjusted.get(k, 1.0), corrected)
    still_open = frozenset(
        k
        for k in design.tested
        if is_open(doses.get(k), design.hypotheses, design.exclude)
        or bounds.get(k, math.inf) >= design.exclude
    )
    # A test of all rows goes on once it is settled, and a trait may be open again.
    settled = ""
    if any(
        p <= alpha and doses[k].effect >= design.text.min_reported_dose
        for k, p in adjusted.items()
        if k in doses
    ):
        settled = "risk"
    elif len(state.rows) >= MIN_CLEAR and not still_open:
        settled = "no_risk"
    evidence = {k: doses[k].log_evidence(FULL_DOSE) if k in doses else 0.0 for k in design.tested}
    ranking = sorted(design.tested, key=lambda k: (k not in still_open, -evidence[k]))
    return replace(
        state,
        scored=select_traits(ranking, design.families, count),
        doses=doses,
        bounds=bounds,
        adjusted=adjusted,
        open=still_open,
        analyses=(*state.analyses, _describe(state, doses, bounds)) if doses else state.analyses,
        settled=settled,
    )


def is_open(dose: Estimate | None, hypotheses: int, target: float) -> bool:
    """Whether a trait needs more rows: a dose of `target` may be there, a small one seems to be, or
    there is no estimate.

    hypotheses: the number that p-values are corrected for.
    """
    return dose is None or dose.upper() >= target or dose.p_value * hypotheses <= SUSPICIOUS


def _describe(
    state: PanelTestState, doses: Mapping[int, Estimate], bounds: Mapping[int, float]
) -> InterimAnalysis:
    """The analysis as reports show it; at the last one `excluded` is what the verdict rests on."""
    traits = state.design.panel.traits
    leader = min(doses, key=lambda k: (doses[k].p_value, -doses[k].z))
    complete = len(bounds) == len(state.design.tested)
    weakest = max(bounds, key=lambda k: bounds[k]) if complete else None
    return InterimAnalysis(
        rows=len(state.rows),
        leader=traits[leader].name,
        effect=doses[leader].effect,
        interval=doses[leader].interval(),
        weakest=None if weakest is None else traits[weakest].name,
        excluded=None if weakest is None else bounds[weakest],
    )


DETECTOR = Detector(
    "trait",
    "panel-centred likelihood ratio of every trait, corrected for their number",
    "rows",
    detect,
    test="prompts",
)
