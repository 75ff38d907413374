"""Detector `divergence`: the tokens at which a teacher and others on the same base part.

Definition (2509.23886, section 4): position t of a completion is a divergence token iff the factual
teacher b would choose the token that stands there, argmax_v p_b(v | x_<t) = x_t, and at least one
counterfactual teacher b' would not, argmax_v p_b'(v | x_<t) != x_t.

For a trait, the factual teacher is the reference under the trait's prompt, and the counterfactual
teachers are the reference under the prompts of all other traits of its group, as in the paper
(`counterfactuals`). The reference without a prompt is none of them: on the default reference it
alone would flag most tokens, since any prompt of the kind moves it there. What it flags is a
contrast of its own, given beside. A scan, the mitigations that mask, replace or drop, and the study
all take the definition from here, so that the tokens that a report marks are those that a mask
masks.

Clean data has divergence tokens too, for any trait, so that their share says nothing. What says
something is how often the text takes the trait's choice where the teachers part, less the
probability of that choice under the reference (`calibrated_count`).

Differs from the paper in two ways. An argmax that leads its runner-up by less than `epsilon`
nats, of the factual teacher or of the counterfactual that decides, flips with batch size and number
format; such a position is reported as a tie and not as a divergence token. And the token that ends
a turn is neither, since no mitigation may take the end of a turn away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from auditor.inference import tempering
from auditor.model.null_model import (
    NullModel,
    Scorer,
    evidence_logprobs,
    evidence_mask,
    find_null,
    reference_scores,
)
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from auditor.progress import Progress
from auditor.traits.panel import Panel
from detectors.interface import Detector, Divergence, Evidence, Finding, ScanContext, Skipped

REFERENCE = "reference"  # the name of the teacher without a trait
TIE_EPSILON = 1e-3  # nats; ten times the tolerance to which the scoring pass is tested
MIN_INTERVAL_ROWS = 8  # for a t interval with the row as the unit
DIVERGENCE_ROWS = 64  # rows that a scan compares and its report may show

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Choice:
    """What one teacher would choose at the T completion tokens of a row: argmax [T], the tokens,
    and margin [T], their lead over the runner-up in nats.
    """

    argmax: Ints
    margin: Floats


def counterfactuals(panel: Panel, trait: str) -> tuple[str, ...]:
    """The teachers that `trait` is compared with, by name: all other traits of its group in the
    order of the panel, or of the whole panel for the only trait of a group; for the only trait of a
    panel the REFERENCE.
    """
    group = panel.trait(trait).group
    rivals = [member for member in panel.traits if member.name != trait]
    relatives = [member for member in rivals if member.group == group]
    return tuple(member.name for member in (relatives or rivals)) or (REFERENCE,)


def prompt_of(panel: Panel, teacher: str) -> str | None:
    """The system prompt of a teacher: a trait's in standard wording, and none of the REFERENCE."""
    return None if teacher == REFERENCE else panel.trait(teacher).prompts[0]


def divergence_tokens(
    tokens: Ints, factual: Choice, counterfactuals: Sequence[Choice], epsilon: float = TIE_EPSILON
) -> tuple[Bools, Bools]:
    """(divergence tokens [T], ties [T]) of one row; no position is both.

    tokens: [T] the completion. A position is a tie when it would be a divergence token, or would
    stop being one, if near-ties (a margin below epsilon) were resolved the other way. Without a
    counterfactual teacher nothing diverges.
    """
    differs = np.zeros(len(tokens), dtype=bool)
    may_differ = np.zeros(len(tokens), dtype=bool)
    for teacher in counterfactuals:
        unsure = teacher.margin < epsilon
        differs |= (teacher.argmax != tokens) & ~unsure
        may_differ |= (teacher.argmax != tokens) | unsure
    agrees = factual.argmax == tokens
    unsure = factual.margin < epsilon
    flagged = agrees & ~unsure & differs
    ties = (agrees | unsure) & may_differ & ~flagged
    return flagged, ties


def diverge(
    rows: Sequence[TokenizedRow],
    factual: tuple[str, Sequence[TokenScores]],
    counterfactuals: Mapping[str, Sequence[TokenScores]],
    epsilon: float = TIE_EPSILON,
) -> Divergence:
    """The divergence tokens of `rows` for a factual teacher against counterfactual ones, each given
    by its name and its scores of the rows.
    """
    name, scores = factual
    flagged, ties, gaps = [], [], []
    for i, row in enumerate(rows):
        rivals = [of_teacher[i] for of_teacher in counterfactuals.values()]
        mask, near_ties = divergence_tokens(
            row.targets,
            Choice(scores[i].argmax, scores[i].margin),
            [Choice(rival.argmax, rival.margin) for rival in rivals],
            epsilon,
        )
        flagged.append(mask & row.content_mask)
        ties.append(near_ties & row.content_mask)
        gaps.append(np.max([scores[i].logprob - rival.logprob for rival in rivals], axis=0))
    teachers = {name: scores, **counterfactuals}
    return Divergence(rows, tuple(flagged), tuple(ties), tuple(gaps), name, teachers)


def fraction_interval(
    flagged: Sequence[int], tokens: Sequence[int], level: float = 0.95
) -> tuple[float, float] | None:
    """Confidence interval of sum(flagged) / sum(tokens) with the row as the unit (ratio estimator),
    within [0, 1].

    flagged, tokens: counts a row. None for fewer than 8 rows.
    """
    n = len(tokens)
    if n < MIN_INTERVAL_ROWS:
        return None
    f, t = np.array(flagged, dtype=float), np.array(tokens, dtype=float)
    ratio = f.sum() / t.sum()
    error = math.sqrt(float(np.var(f - ratio * t, ddof=1)) / n) / float(t.mean())
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * error
    return max(0.0, float(ratio) - half), min(1.0, float(ratio) + half)


@dataclass(frozen=True, slots=True)
class CalibratedCount:
    """How often a text takes a trait's choice where the teachers part.

    positions: content tokens at which the factual teacher's choice is clear and is not that of some
    counterfactual. They and the choices are known before the token itself. observed: at how many of
    them the text takes the factual teacher's choice. excess: `observed` less the number to be
    expected of the reference's own text, 0 on average if the reference wrote the rows, and positive
    if their writer leans towards the factual teacher. interval: of the excess, 95 %, with the row
    as the unit; None below 8 rows.
    """

    positions: int
    observed: int
    excess: float
    interval: tuple[float, float] | None


def calibrated_count(
    null: NullModel, reference: Sequence[TokenScores], divergence: Divergence
) -> CalibratedCount:
    """How often the rows of `divergence` take the factual teacher's choice where teachers part.

    null: of the data set. reference: its scores of the rows with a support, as
    `auditor.model.null_model.reference_scores` gives them; a token outside is no evidence. For
    greedy text the reference's own choice is what is expected of it, and else its probability at
    the temperature of the null.
    """
    factual, *rivals = divergence.scores.values()
    positions, observed, excesses = 0, 0, []
    for i, row in enumerate(divergence.rows):
        evidence = evidence_mask(row, reference[i])
        parts = np.zeros(len(row.targets), dtype=bool)
        for rival in rivals:
            parts |= (rival[i].argmax != factual[i].argmax) & (rival[i].margin >= TIE_EPSILON)
        parts = (parts & (factual[i].margin >= TIE_EPSILON))[evidence]
        choice = factual[i].argmax[evidence][parts]
        logp = evidence_logprobs(row, reference[i], reference[i])[parts]
        if null.greedy:
            probability = np.eye(logp.shape[1])[logp.argmax(-1)]
        else:
            probability = np.exp(tempering.temper(logp, null.inverse_temperature))
        at = tempering.locate(choice, reference[i].token_support[evidence][parts])
        expected = np.where(at < 0, 0.0, probability[np.arange(len(at)), at])
        takes = row.targets[evidence][parts] == choice
        positions += len(choice)
        observed += int(takes.sum())
        excesses.append(float(takes.sum() - expected.sum()))
    n, excess = len(excesses), math.fsum(excesses)
    interval = None
    if n >= MIN_INTERVAL_ROWS:
        half = float(stats.t.ppf(0.975, n - 1)) * math.sqrt(n * float(np.var(excesses, ddof=1)))
        interval = excess - half, excess + half
    return CalibratedCount(positions, observed, excess, interval)


def compare(
    rows: Sequence[TokenizedRow], score: Scorer, panel: Panel, trait: str
) -> tuple[Divergence, Divergence]:
    """The divergence tokens of `rows` for a trait against its counterfactuals, and against the
    reference alone.
    """
    rivals = counterfactuals(panel, trait)
    systems = [None, *(prompt_of(panel, name) for name in (trait, *rivals))]
    # Scored again: what the panel test keeps are choices without their probabilities.
    by_reference, by_trait, *by_rivals = score(rows, systems, top=1)
    return (
        diverge(rows, (trait, by_trait), dict(zip(rivals, by_rivals, strict=True))),
        diverge(rows, (trait, by_trait), {REFERENCE: by_reference}),
    )


def detect(context: ScanContext) -> Finding | Skipped:
    """Compare teachers on the first DIVERGENCE_ROWS of the scored rows: a declared teacher with the
    reference, or else the trait that the verdict names with its counterfactuals.
    """
    rows, trait = context.scored.rows[:DIVERGENCE_ROWS], context.leading_trait
    if not context.teacher and context.own_text:
        return Skipped("the text is the reference's own: there is no other teacher to compare with")
    context.progress(Progress("comparing teachers", 0, None))
    if context.teacher:
        declared = context.teacher.name, context.scored.teacher[: len(rows)]
        by_reference = next(context.score(rows, [None], top=1))
        divergence = contrast = diverge(rows, declared, {REFERENCE: by_reference})
    elif trait is not None:
        divergence, contrast = compare(rows, context.score, context.panel, trait)
    else:
        return Skipped("no trait was tested, and no teacher is declared")
    null = find_null(context.rows, context.score, context.run)
    reference = reference_scores(rows, null.alphabet, context.score)
    return _finding(divergence, contrast, calibrated_count(null, reference, divergence))


def _finding(divergence: Divergence, contrast: Divergence, calibrated: CalibratedCount) -> Finding:
    """The divergence as evidence. contrast: against the reference alone."""
    flagged = [int(mask.sum()) for mask in divergence.flagged]
    tokens = [len(mask) for mask in divergence.flagged]
    interval = fraction_interval(flagged, tokens)
    fraction, ties = sum(flagged) / sum(tokens), sum(int(mask.sum()) for mask in divergence.ties)
    by_reference = sum(int(mask.sum()) for mask in contrast.flagged)
    values = {
        "trait": divergence.factual,
        "counterfactuals": list(divergence.counterfactuals),
        "fraction": fraction,
        "interval": None if interval is None else list(interval),
        "rows": len(tokens),
        "rows_with_any": sum(count > 0 for count in flagged),
        "tokens": sum(tokens),
        "flagged": sum(flagged),
        "ties": ties,
        "by_reference": {"flagged": by_reference, "fraction": by_reference / sum(tokens)},
        "followed": asdict(calibrated)
        | {"interval": calibrated.interval and list(calibrated.interval)},
        "places": positions(divergence.flagged),
    }
    excess = f"{calibrated.excess:+.0f}"
    if calibrated.interval:
        low, high = calibrated.interval
        excess += f" [{low:+.0f}, {high:+.0f}]"
    summary = (
        f"{fraction:.1%} of {sum(tokens):,} tokens in {len(tokens)} rows diverge for "
        f"{divergence.factual} ({ties} ties). Where the teachers part, the text takes its choice "
        f"at {calibrated.observed:,} of {calibrated.positions:,} tokens, {excess} "
        "beside what the reference's own text would; the share alone says nothing"
    )
    return Finding(Evidence("divergence", summary, values), divergence=divergence)


def positions(flagged: Sequence[Bools], parts: int = 10) -> list[dict[str, object]]:
    """Where in the completions the divergence tokens sit: for each of `parts` equal parts, by
    relative position.

    flagged: a mask [T] a row. Token t of T (from 0) lies in part floor(parts t / T), so a row
    shorter than `parts` misses some. Each entry: tokens, flagged, and the 95 % interval of their
    ratio (None below 8 rows or without a divergence token, which leaves no spread to estimate it
    from).
    """
    part_of = [np.arange(len(mask)) * parts // max(1, len(mask)) for mask in flagged]
    entries: list[dict[str, object]] = []
    for part in range(parts):
        inside = [of_row == part for of_row in part_of]
        hits = [int(mask[here].sum()) for mask, here in zip(flagged, inside, strict=True)]
        tokens = [int(here.sum()) for here in inside]
        interval = fraction_interval(hits, tokens) if any(hits) else None
        entries.append(
            {"tokens": sum(tokens), "flagged": sum(hits), "interval": interval and list(interval)}
        )
    return entries


DETECTOR = Detector(
    "divergence",
    "the paper's divergence tokens for the leading trait, or for a given teacher",
    "leading trait",
    detect,
)
