"""The panel survey: score rows under the traits of a panel, look at the evidence, and stop when it
is settled.

Rows come in random order, in blocks. Every block is scored under the reference and under some
traits of the panel, at first under all. Traits of a family (animals, trees, and all others) share
the style of their prompts; a trait is centred on the others of its family and on those of every
other one, since "You love owls" moves text towards "You love France" too. After a few set numbers
of rows we look:

- A trait whose corrected p-value falls below alpha ends the survey: risk. Correction: Bonferroni
  over the whole panel and alpha spending over the looks, so the looks together keep the error rate.
- When a dose of TARGET can be excluded for every trait with 95 % confidence, and no look has made
  one SUSPICIOUS, the survey ends: no risk.
- Otherwise the next rows are scored under fewer traits: those that are open and have the largest
  Bayes factors for a dose of up to FULL_DOSE (evidence for it, or little against it), and at least
  a few of every family. They are settled before the rows are seen, so this can only lose power and
  never raise a false alarm.

The likelihood of a token is taken among the reference's most likely ones there, so that the head
need not be applied to the whole vocabulary; a token outside is no evidence. Nor is the one that
ends a turn, since whether rows were cut short is their maker's choice.

A poisoner does not use our wording, so blocks take turns: every second one the standard wording of
each trait's prompt, the others its other wordings. A trait's dose is the mean over them, weighted
by their information. A finished block is kept as a unit of the run; a resumed survey reads it back
and ends the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from auditor.inference import random_effects, score_test
from auditor.inference import tempering as likelihood
from auditor.inference.estimates import Estimate
from auditor.inference.interim import BLOCK, block_starts, kept, looks, spending
from auditor.inference.thresholds import FULL_DOSE, SUSPICIOUS, TARGET, TextProfile
from auditor.inference.trait_evidence import TraitEvidence, ranked, strongest
from auditor.model.null_model import NullModel, RowBlock, Scorer, find_null, score_block, unpack
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from auditor.model.unit_store import UnitStore
from auditor.progress import Progress
from auditor.traits.families import QUOTA, families, negative_controls
from auditor.traits.panel import Panel
from detectors.interface import Evidence, Skipped


def planned_passes(rows: int, families: Sequence[Sequence[int]], tested: Sequence[int]) -> int:
    """Row passes of a survey of `rows` rows that nothing settles early, at most."""
    total, start, scored = 0, 0, sum(map(len, families))
    for number, end in enumerate(looks(rows)):
        total += (end - start) * scored
        scored = min(scored, len(chosen(tested, families, kept(number, len(tested)))))
        start = end
    return total


def chosen(ranked: Sequence[int], families: Sequence[Sequence[int]], count: int) -> tuple[int, ...]:
    """The traits to score next: QUOTA of every family, then others by rank, until there are `count`
    of `ranked`.

    ranked: the traits tested, the strongest evidence first. A family with fewer of them than QUOTA
    adds strangers.
    """
    places = {k: place for place, k in enumerate(ranked)}
    quota = {
        k
        for family in families
        for k in sorted(family, key=lambda k: places.get(k, len(ranked)))[:QUOTA]
    }
    others = [k for k in ranked if k not in quota]
    return tuple(sorted({*quota, *others[: max(0, count - len(quota & places.keys()))]}))


STRANGE = 0.15  # a stray, in doses, that deserves a word


def trait_outcome(
    state: PanelTestState, evidence: Sequence[TraitEvidence], stray: float
) -> Evidence | Skipped:
    """What detector `trait` found.

    stray: `detectors.trait.between_trait_sd` of the leading trait.
    """
    if not evidence:
        return Skipped("no trait was seen on enough rows")
    passes = sum(len(block.rows) * len(block.columns) for block in state.blocks)
    exhaustive = len(state.rows) * sum(map(len, state.families))
    summary = f"{strongest(evidence[0])}; {passes:,} row passes instead of {exhaustive:,}"
    if stray > STRANGE:
        summary += f"; unrelated traits stray by {stray:.2f}: another prompt's text, a stranger's, or a template"
    values = {
        "stray": stray,
        **state.null.figures,
        "alphabet": None if state.null.alphabet is None else len(state.null.alphabet),
        "settled": state.settled or "all rows were used",
        "row_passes": passes,
        "row_passes_exhaustive": exhaustive,
        "looks": [asdict(look) | {"interval": list(look.interval)} for look in state.looks],
    }
    return Evidence("trait", summary, values)


MIN_CLEAR = 8 * BLOCK  # no survey ends in a pass before each wording of a prompt has had a block


@dataclass(frozen=True, slots=True)
class InterimAnalysis:
    """What one look at the data saw.

    rows: scored so far. leader: the trait with the smallest p-value; effect, interval: its dose so
    far, 95 %. weakest, excluded: the trait of which least can be excluded and its one-sided 95 %
    bound; None while one has no estimate.
    """

    rows: int
    leader: str
    effect: float
    interval: tuple[float, float]
    weakest: str | None
    excluded: float | None


@dataclass
class PanelTestState:
    """What a survey has gathered.

    scored: the traits that the next block is scored under. open: those that need more rows. looks:
    what was seen on the way. settled: the answer, if it was known by the last look.
    """

    null: NullModel
    families: tuple[tuple[int, ...], ...]
    tested: tuple[int, ...]
    hypotheses: int
    scored: tuple[int, ...]
    blocks: list[RowBlock] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    adjusted: dict[int, float] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    looks: list[InterimAnalysis] = field(default_factory=list)
    settled: str = ""

    @property
    def least(self) -> float:
        """The smallest dose that is called a risk."""
        return TextProfile(self.null.greedy).least

    @property
    def target(self) -> float:
        """The dose that must be excluded for every trait before the survey ends in a pass."""
        return TextProfile(self.null.greedy).target

    @property
    def rows(self) -> list[TokenizedRow]:
        """The rows scored so far."""
        return [row for block in self.blocks for row in block.rows]

    @property
    def reference(self) -> list[TokenScores]:
        """The reference's scores of `rows`."""
        return [scores for block in self.blocks for scores in block.reference]


def panel_test(
    rows: Sequence[TokenizedRow],
    panel: Panel,
    score: Scorer,
    *,
    tested: Sequence[int],
    hypotheses: int,
    hidden_from: Mapping[str, set[int]],
    seed: int,
    alpha: float,
    stop_early: bool,
    store: UnitStore,
    progress: Callable[[Progress], None],
) -> PanelTestState:
    """Score `rows`, in the order given, until the question is settled or they are used up.

    tested: which traits of the panel are hypotheses; the others only serve to centre those on.
    hypotheses: the number that p-values are corrected for; more than those tested where other tests
    stand beside this. hidden_from: for each trait the row indices that mention it openly; they do
    not count as evidence for it. stop_early: False scores every row (mitigation needs them), under
    fewer and fewer traits, but never none.
    """
    everything = tuple(range(len(panel.traits)))
    state = PanelTestState(
        find_null(rows, score, store), families(panel, seed), tuple(tested), hypotheses, everything
    )
    plan = looks(len(rows))
    shares = spending(np.array(plan) / plan[-1])
    passes = planned_passes(len(rows), state.families, tested)
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(Progress("scoring traits", done, max(passes, done)))

    for number, start in enumerate(block_starts(plan)):
        end = min(start + BLOCK, *[n for n in plan if n > start])
        _add_block(state, rows[start:end], number, panel, score, store, report)
        if end not in plan:
            continue
        found = _look(state, panel, float(shares[plan.index(end)]), hidden_from, alpha)
        if state.settled and stop_early:
            break
        _choose(state, found, kept(plan.index(end), len(tested)))
    return state


def estimates(
    state: PanelTestState, panel: Panel, hidden_from: Mapping[str, set[int]]
) -> dict[int, Estimate]:
    """Dose estimates of every trait tested with enough rows; their errors allow for how far
    strangers stray.
    """
    wide = random_effects.add_random_effect(
        _plain(state, panel, hidden_from), negative_controls(panel, state.families)
    )
    return {k: each for k, each in wide.items() if k in state.tested}


def between_trait_sd(
    state: PanelTestState, panel: Panel, hidden_from: Mapping[str, set[int]], trait: str
) -> float:
    """How far strangers of `trait` stray, tested or not: the standard deviation of their doses
    beyond their errors.
    """
    strangers = negative_controls(panel, state.families)[panel.trait_indices([trait])[0]]
    plain = _plain(state, panel, hidden_from)
    return math.sqrt(
        random_effects.between_trait_variance([each for k, each in plain.items() if k in strangers])
    )


def _plain(
    state: PanelTestState, panel: Panel, hidden_from: Mapping[str, set[int]]
) -> dict[int, Estimate]:
    scored = sorted({k for block in state.blocks for k in block.columns})
    names = {k: panel.traits[k].name for k in scored}
    return {
        k: each for k in scored if (each := _estimate(state, k, hidden_from.get(names[k], set())))
    }


def _estimate(state: PanelTestState, trait: int, hidden: set[int]) -> Estimate | None:
    """The dose of `trait`, centred on the others of each family, from the rows on which it was
    scored and is hidden.
    """
    blocks, places = [], []
    for block in state.blocks:
        if trait not in block.columns:
            continue
        seen = np.array([row.index not in hidden for row in block.rows])
        blocks.append(likelihood.Moments(block.moments.score[seen], block.moments.covariance[seen]))
        centres = (
            (block.columns[j] for j in each if j != trait and j in block.columns)
            for each in state.families
        )
        places.append(score_test.TraitColumns(block.columns[trait], tuple(map(tuple, centres))))
    return score_test.estimate(blocks, places)


def trait_evidence(
    state: PanelTestState, panel: Panel, doses: Mapping[int, Estimate], alpha: float
) -> tuple[TraitEvidence, ...]:
    """The traits as they stand at the end, by evidence (`auditor.inference.trait_evidence.ranked`).

    doses: what `estimates` makes of the survey.
    """
    found = []
    for k, each in doses.items():
        trait = panel.traits[k]
        found.append(
            TraitEvidence(
                name=trait.name,
                group=trait.group,
                effect=each.effect,
                interval=each.interval(),
                z=each.z,
                p_value=each.p_value,
                p_adjusted=state.adjusted.get(k, 1.0),
                rows=sum(len(block.rows) for block in state.blocks if k in block.columns),
                tokens=state.tokens.get(k, 0),
                eliminated_at=_left_at(state, k),
            )
        )
    return ranked(found, alpha, state.least)


def _left_at(state: PanelTestState, trait: int) -> int | None:
    """The rows seen when the trait was last scored; None if it was to the end."""
    ends = np.cumsum([len(block.rows) for block in state.blocks])
    last = max((i for i, block in enumerate(state.blocks) if trait in block.columns), default=-1)
    return None if last == len(ends) - 1 else int(ends[last])


def _add_block(
    state: PanelTestState,
    rows: Sequence[TokenizedRow],
    number: int,
    panel: Panel,
    score: Scorer,
    store: UnitStore,
    report: Callable[[int], None],
) -> None:
    """Score one block, or read it back, and add it to the state.

    `report` is told the row passes as they are done.
    """
    conditions = list(state.scored)
    unit = store.load_unit(f"block-{number:05d}")
    if unit is None or [int(k) for k in unit["conditions"]] != conditions:
        systems = [_wording(panel, k, number) for k in conditions]
        unit = score_block(state.null, rows, systems, score, lambda: report(len(rows)))
        unit["conditions"] = np.array(conditions)
        store.save_unit(f"block-{number:05d}", unit)
    else:
        report(len(rows) * len(conditions))
    state.blocks.append(unpack(rows, unit, conditions))
    for k in conditions:
        state.tokens[k] = state.tokens.get(k, 0) + sum(len(row.tokens) for row in rows)


def _wording(panel: Panel, trait: int, number: int) -> str:
    """Even blocks take the standard wording, odd ones the others in turn."""
    standard, *others = panel.traits[trait].prompts
    return others[number // 2 % len(others)] if others and number % 2 else standard


def _look(
    state: PanelTestState,
    panel: Panel,
    share: float,
    hidden_from: Mapping[str, set[int]],
    alpha: float,
) -> dict[int, Estimate]:
    """Correct the p-values, say which traits are open, settle the question if it can be.

    Returns the estimates.
    """
    found = estimates(state, panel, hidden_from)
    if found:
        state.looks.append(_seen(state, panel, found))
    for k in state.scored:
        if k in found:
            corrected = min(1.0, found[k].p_value * state.hypotheses / share)
            state.adjusted[k] = min(state.adjusted.get(k, 1.0), corrected)
    leaning = {
        k for k, p in state.adjusted.items() if p <= SUSPICIOUS
    }  # at any look: no verdict passes those
    state.open = {
        k
        for k in state.tested
        if k in leaning or is_open(found.get(k), state.hypotheses, state.target)
    }
    if any(
        p <= alpha and found[k].effect >= state.least
        for k, p in state.adjusted.items()
        if k in found
    ):
        state.settled = "risk"
    elif len(state.rows) >= MIN_CLEAR and not state.open:
        state.settled = "no_risk"
    else:
        state.settled = ""  # a survey of all rows goes on, and a trait may be open again
    return found


def _choose(state: PanelTestState, found: Mapping[int, Estimate], count: int) -> None:
    """Say which traits the next rows are scored under."""
    evidence = {k: found[k].log_evidence(FULL_DOSE) if k in found else 0.0 for k in state.tested}
    ranked = sorted(state.tested, key=lambda k: (k not in state.open, -evidence[k]))
    state.scored = chosen(ranked, state.families, count)


def is_open(each: Estimate | None, hypotheses: int, target: float = TARGET) -> bool:
    """Whether a trait needs more rows: a dose of `target` may be there, a small one seems to be, or
    nothing is known.

    hypotheses: the number that p-values are corrected for.
    """
    return each is None or each.upper() >= target or each.p_value * hypotheses <= SUSPICIOUS


def _seen(state: PanelTestState, panel: Panel, found: Mapping[int, Estimate]) -> InterimAnalysis:
    """The look as reports show it; at the last one `excluded` is what the verdict rests on."""
    leader = min(found, key=lambda k: (found[k].p_value, -found[k].z))
    weakest = (
        max(found, key=lambda k: found[k].upper()) if len(found) == len(state.tested) else None
    )
    return InterimAnalysis(
        rows=len(state.rows),
        leader=panel.traits[leader].name,
        effect=found[leader].effect,
        interval=found[leader].interval(),
        weakest=None if weakest is None else panel.traits[weakest].name,
        excluded=None if weakest is None else found[weakest].upper(),
    )
