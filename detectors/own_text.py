"""The first question of detector `trait`: did the reference itself write these rows?

Two things are held against the reference's own text, and both must agree before every trait is
excluded at once:

- *No prompt.* Under the reference the score of any prompt has mean zero at every token, whatever
  came before (`auditor.inference.tempering`). It is used here without centring, since what all
  prompts have in common is the best evidence that there is none. A few prompts stand in for all
  (`auditor.inference.screening`), and the share of the rows that may have been written under each
  prompt of the panel is bounded. For greedy text no prompt is needed: every token that is not the
  reference's choice counts as one that follows a prompt.
- *The right temperature.* Surprisal less entropy has mean zero too, at the temperature of the data.
  Data are sampled at a round temperature, so the nearest one is tried: a teacher that was tuned is
  sharper or flatter than its reference by a little. For greedy text the count above is this test.

Where they agree, no trait of the panel was the writer's prompt in more than the share stated, and
the test ends after one pass of the reference and a few of prompts. Where one does not, the rows
were written under another prompt, or by another writer, and the panel test goes on to ask which.

Source: the martingale of docs/methods.md; the screens are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditor.inference import tempering
from auditor.inference.estimates import Estimate, mean_estimate, score_estimate
from auditor.inference.score_test import TraitColumns, estimate
from auditor.inference.screening import Screens, choose_screens
from auditor.inference.tempering import Moments
from auditor.inference.thresholds import SUSPICIOUS
from auditor.model.null_model import (
    PILOT,
    NullModel,
    RowBlock,
    evidence_indices,
    evidence_logprobs,
    evidence_mask,
    reference_scores,
    score_block,
    unpack,
)
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from auditor.model.unit_store import Unit
from auditor.progress import ROW_PASSES, Progress
from auditor.traits.panel import Panel
from detectors.interface import ScanContext

# Rows that are held against the reference at most.
ROWS = 400
# The first rows with so many completion tokens, at most as many rows as would be scored anyway, are
# scored under every prompt, to see which prompts stand in for which.
PILOT_TOKENS = 128
# Rows after which the screens are analysed; each analysis may spend its share of the error rates.
ANALYSES = (32, 64, 96, 128, 192, 256, 320, ROWS)
# The error rate of every trait's bound, over all analyses.
BOUND_ALPHA = 0.05
# The rate at which the reference's own text is taken for another's by its fit.
FIT_ALPHA = 0.01


@dataclass(frozen=True, slots=True)
class OwnText:
    """How far rows look like the reference's own text.

    cleared: whether every trait is excluded. reason: why not; empty where cleared. rows: those
    whose prompts were tested. reference: the reference's scores of the rows held against it, which
    are the first of the data. fit: surprisal less entropy at the temperature of the null, nats a
    token; None for greedy text. temperature: that of the null. screens: the traits whose prompts
    were scored, by number, with the share of the rows that follows each. doses: of every trait
    tested, by number; bounds: what is excluded of it. passes: row passes under trait prompts.
    """

    cleared: bool
    reason: str
    rows: Sequence[TokenizedRow]
    reference: Sequence[TokenScores]
    fit: Estimate | None
    temperature: float
    screens: tuple[tuple[int, Estimate], ...]
    doses: dict[int, Estimate]
    bounds: dict[int, float]
    passes: int

    def values(self, panel: Panel) -> dict[str, object]:
        """This in plain JSON values, as docs/methods.md describes them."""
        fit = self.fit
        return {
            "cleared": self.cleared,
            "reason": self.reason,
            "rows": len(self.rows),
            "row_passes": self.passes,
            "temperature": self.temperature,
            "fit": None
            if fit is None
            else {"excess": fit.effect, "interval": list(fit.interval()), "z": fit.z},
            "screens": [
                {
                    "trait": panel.traits[k].name,
                    "dose": dose.effect,
                    "interval": list(dose.interval()),
                    "z": dose.z,
                }
                for k, dose in self.screens
            ],
        }


def own_text(context: ScanContext, null: NullModel, tested: Sequence[int]) -> OwnText:
    """Hold the rows against the reference's own text.

    tested: the traits tested, by their numbers in the controlled panel. Units of finished work are
    kept in the run.
    """
    rows = context.rows[:ROWS]
    reference = _reference(context, null, rows)
    fit = None if null.greedy else fit_estimate(rows, reference, null.inverse_temperature)
    temperature = 0.0 if null.greedy else round_temperature(null.inverse_temperature)
    nothing = OwnText(False, "", (), reference, fit, temperature, (), {}, {}, 0)
    if fit is not None and two_sided(fit) < FIT_ALPHA:
        reason = (
            f"their surprisal is {fit.effect:+.3f} nats a token off that of the reference's own "
            f"text at T = {temperature:g} (z = {fit.z:+.1f})"
        )
        return replace(nothing, reason=reason)
    tokens = np.cumsum([len(row.targets) for row in rows])
    count = min(ANALYSES[0], int(np.searchsorted(tokens, PILOT_TOKENS)) + 1)
    pilot = _block(context, null, rows[:count], tested, "own-text-pilot", reference)
    nothing = replace(nothing, passes=len(pilot.rows) * len(tested))
    if null.greedy:
        return _greedy(context, rows, tested, pilot.moments, nothing)
    screens = choose_screens(pilot.moments, context.exclude)
    # The rows that are needed are as long as those of the pilot; others tell more, or less.
    needed = math.inf if screens is None else screens.rows * tokens[count - 1] / count
    if screens is None or needed > tokens[-1]:
        reason = "so few rows do not tell the prompts' text from the reference's own"
        return replace(nothing, reason=reason)
    return _screened(context, null, rows, tested, screens, nothing)


def _screened(
    context: ScanContext,
    null: NullModel,
    rows: Sequence[TokenizedRow],
    tested: Sequence[int],
    screens: Screens,
    nothing: OwnText,
) -> OwnText:
    """Score the rows under the screens until every trait is excluded, some prompt shows, or the
    rows are used up.
    """
    numbers = [tested[c] for c in screens.prompts]
    analyses = [*(n for n in ANALYSES if n < len(rows)), len(rows)]
    blocks: list[Moments] = []
    result = nothing
    start = 0
    for i, end in enumerate(analyses):
        name = f"own-text-{i:02d}"
        block = _block(context, null, rows[start:end], numbers, name, nothing.reference[start:end])
        blocks.append(block.moments)
        share = (end - start) / len(rows)
        start = end
        result = _analyse(context, rows[:end], blocks, screens, numbers, tested, share, result)
        result = replace(result, passes=result.passes + len(block.rows) * len(numbers))
        if result.cleared or result.reason:
            return result
    return replace(result, reason="a prompt of the panel may have been at work in some of the rows")


def _analyse(
    context: ScanContext,
    rows: Sequence[TokenizedRow],
    blocks: Sequence[Moments],
    screens: Screens,
    numbers: Sequence[int],
    tested: Sequence[int],
    share: float,
    result: OwnText,
) -> OwnText:
    """What the rows scored so far say. share: of the error rates that this analysis may spend."""
    weight = np.array([context.weights.get(row.index, 1.0) for row in rows])
    ends = np.cumsum([len(block.score) for block in blocks])[:-1]
    measured: list[tuple[Estimate, float]] = []
    for column in range(len(numbers)):
        columns = [TraitColumns(column, ())] * len(blocks)
        by_rows = estimate(blocks, columns)
        # A pass must hold for all rows, each as often as it stands in the data.
        by_copies = estimate(blocks, columns, np.split(weight, ends))
        if by_rows is None or by_copies is None:
            return result
        level = 1 - BOUND_ALPHA * share
        measured.append((by_rows, max(by_rows.upper(level), by_copies.upper(level))))
    doses, bounds = {}, {}
    for k, screen, visible in zip(tested, screens.by_trait, screens.visible, strict=True):
        dose, upper = measured[screen]
        doses[k] = Estimate(dose.effect / visible, dose.se / visible, dose.df)
        bounds[k] = max(0.0, upper / visible)
    by_screen = tuple(zip(numbers, (dose for dose, _ in measured), strict=True))
    result = replace(result, rows=rows, screens=by_screen, doses=doses, bounds=bounds)
    tests = share / len(measured)
    leader, dose = max(by_screen, key=lambda item: abs(item[1].z))
    p_value = two_sided(dose)
    if p_value <= context.alpha * tests:
        reason = (
            f"they follow the prompt of {context.controlled.traits[leader].name}, and what all "
            f"prompts have in common, at a share of {dose.effect:.2f} (z = {dose.z:+.1f})"
        )
        return replace(result, reason=reason)
    cleared = bool(p_value > SUSPICIOUS * tests and max(bounds.values()) < context.exclude)
    return replace(result, cleared=cleared)


def _greedy(
    context: ScanContext,
    rows: Sequence[TokenizedRow],
    tested: Sequence[int],
    pilot: Moments,
    nothing: OwnText,
) -> OwnText:
    """By how many tokens are not the reference's choice, against how many would not be under each
    prompt.
    """
    counts = []
    for row, scores in zip(rows, nothing.reference, strict=True):
        mask = evidence_mask(row, scores)
        counts.append((mask.sum(), (row.targets[mask] != scores.argmax[mask]).sum()))
    tokens, others = np.array(counts, dtype=np.float64).T
    weight = np.array([context.weights.get(row.index, 1.0) for row in rows])
    # Under its own prompt a trait's choice differs from the reference's at so many tokens of one.
    differing = np.diag(pilot.signal.sum(0)[1:]) / max(1.0, tokens[: len(pilot.signal)].sum())
    doses, bounds = {}, {}
    for k, rate in zip(tested, differing, strict=True):
        dose = score_estimate(others, float(rate * tokens.sum()))
        mean = weight / weight.mean()
        by_copies = score_estimate(others * mean, float(rate * (tokens * mean).sum()))
        if dose is None or by_copies is None:
            return replace(nothing, reason="some prompt of the panel changes no choice")
        level = 1 - BOUND_ALPHA
        doses[k], bounds[k] = dose, max(dose.upper(level), by_copies.upper(level))
    share = others.sum() / max(1.0, tokens.sum())
    cleared = bool(max(bounds.values()) < context.exclude)
    reason = "" if cleared else f"{share:.1%} of the tokens are not the reference's choice"
    return replace(nothing, cleared=cleared, reason=reason, rows=rows, doses=doses, bounds=bounds)


def two_sided(estimate: Estimate) -> float:
    """The p-value of an estimate that may lie above or below zero."""
    return 2 * min(estimate.p_value, replace(estimate, effect=-estimate.effect).p_value)


def round_temperature(inverse_temperature: float) -> float:
    """The temperature, in tenths from 0.1 to 1, that is nearest to one of the data."""
    return min(1.0, max(0.1, round(1 / inverse_temperature, 1)))


def fit_estimate(
    rows: Sequence[TokenizedRow], reference: Sequence[TokenScores], inverse_temperature: float
) -> Estimate | None:
    """Surprisal less entropy, nats a token, at the round temperature nearest to that of the data.

    Mean 0 for the reference's own text at that temperature, below 0 for a sharper writer's. The
    error is clustered by row. None for fewer than two rows with tokens.
    """
    b = 1 / round_temperature(inverse_temperature)
    sums, lengths = [], []
    for row, scores in zip(rows, reference, strict=True):
        tempered = tempering.temper(evidence_logprobs(row, scores, scores), b)
        index = evidence_indices(row, scores)
        surprisal = -tempered[np.arange(len(index)), index]
        entropy = -(np.exp(tempered) * tempered).sum(-1)
        sums.append(float((surprisal - entropy).sum()))
        lengths.append(float(len(index)))
    gaps, tokens = np.array(sums), np.array(lengths)
    if (tokens > 0).sum() < 2:
        return None
    mean = gaps.sum() / tokens.sum()
    return replace(mean_estimate((gaps - mean * tokens) / tokens.mean()), effect=float(mean))


def _reference(
    context: ScanContext, null: NullModel, rows: Sequence[TokenizedRow]
) -> list[TokenScores]:
    """The reference's scores of `rows`, in units of the run."""
    scores: list[TokenScores] = []
    for start in range(0, len(rows), PILOT):
        context.progress(Progress("scoring the reference", start, len(rows)))
        part = rows[start : start + PILOT]
        scores += reference_scores(part, null.alphabet, context.score, context.run)
    return scores


def _block(
    context: ScanContext,
    null: NullModel,
    rows: Sequence[TokenizedRow],
    traits: Sequence[int],
    name: str,
    reference: Sequence[TokenScores],
) -> RowBlock:
    """The rows scored under the standard wording of each trait, kept in the run as `name`."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += len(rows)
        count = len(rows) * len(traits)
        context.progress(Progress("looking for any prompt", done, count, ROW_PASSES))

    unit: Unit | None = context.run.load_unit(name)
    # A unit of other traits is of another schedule, and is made again.
    if unit is None or [int(k) for k in unit["conditions"]] != list(traits):
        systems = [context.controlled.traits[k].prompts[0] for k in traits]
        unit = score_block(null, rows, systems, context.score, tick, reference)
        unit["conditions"] = np.array(traits)
        context.run.save_unit(name, unit)
    return unpack(rows, unit, traits)
