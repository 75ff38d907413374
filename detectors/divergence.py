"""Detector `divergence`: the tokens at which a teacher and others on the same base part.

Definition (2509.23886, section 4): position t of a completion is a divergence token iff the factual
teacher b would choose the token that stands there, argmax_v p_b(v | x_<t) = x_t, and at least one
counterfactual teacher b' would not, argmax_v p_b'(v | x_<t) != x_t.

For a trait, the factual teacher is the reference under the trait's prompt, and the counterfactual
teachers are the reference itself and the reference under the prompts of `counterfactuals`. The
paper's own set has all other traits of the group and no unprompted model; on the default reference
most tokens are flagged for the reference alone, so the share without it is given beside. A scan,
the mitigations that mask, replace or drop, and the study all take the definition from here, so that
the tokens that a report marks are those that a mask masks.

Differs from the paper in two ways more. An argmax that leads its runner-up by less than `epsilon`
nats, of the factual teacher or of the counterfactual that decides, flips with batch size and number
format; such a position is reported as a tie and not as a divergence token. And the token that ends
a turn is neither, since no mitigation may take the end of a turn away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from auditor.progress import Progress
from auditor.traits.panel import Panel
from detectors.interface import Detector, Divergence, Evidence, Finding, ScanContext, Skipped

TIE_EPSILON = 1e-3  # nats; ten times the tolerance to which the scoring pass is tested
DIVERGENCE_ROWS = 64  # rows that a scan compares and its report may show
COUNTERFACTUALS = 3  # other traits that a trait is compared with, beside the reference

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
    """The traits that `trait` is compared with beside the reference: the first COUNTERFACTUALS
    others of its group in the order of the panel, or of the whole panel for the only trait of a
    group.
    """
    group = panel.trait(trait).group
    rivals = [member for member in panel.traits if member.name != trait]
    relatives = [member for member in rivals if member.group == group]
    return tuple(member.name for member in (relatives or rivals)[:COUNTERFACTUALS])


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
    if n < 8:
        return None
    f, t = np.array(flagged, dtype=float), np.array(tokens, dtype=float)
    ratio = f.sum() / t.sum()
    error = math.sqrt(float(np.var(f - ratio * t, ddof=1)) / n) / float(t.mean())
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * error
    return max(0.0, float(ratio) - half), min(1.0, float(ratio) + half)


def detect(context: ScanContext) -> Finding | Skipped:
    """Compare teachers on the first DIVERGENCE_ROWS of the scored rows: a declared teacher with the
    reference, or else the trait that the verdict names with its counterfactuals.
    """
    rows, trait = context.scored.rows[:DIVERGENCE_ROWS], context.leading_trait
    if context.teacher:
        context.progress(Progress("comparing teachers", 0, None))
        declared = context.teacher.name, context.scored.teacher[: len(rows)]
        by_reference = next(context.score(rows, [None], top=1))
        return _finding(diverge(rows, declared, {"reference": by_reference}))
    if context.own_text:
        return Skipped("the text is the reference's own: there is no other teacher to compare with")
    if trait is None:
        return Skipped("no trait was tested, and no teacher is declared")
    context.progress(Progress("comparing teachers", 0, None))
    rivals = counterfactuals(context.panel, trait)
    systems = [None, *(context.panel.trait(name).prompts[0] for name in (trait, *rivals))]
    # Scored again: what the panel test keeps are choices without their probabilities.
    by_reference, by_trait, *by_rivals = context.score(rows, systems, top=1)
    others = dict(zip(rivals, by_rivals, strict=True))
    by_traits = diverge(rows, (trait, by_trait), others) if others else None
    return _finding(
        diverge(rows, (trait, by_trait), {"reference": by_reference, **others}), by_traits
    )


def _finding(divergence: Divergence, by_traits: Divergence | None = None) -> Finding:
    """The divergence as evidence. by_traits: the same without the reference among the
    counterfactuals, where there are others.
    """
    flagged = [int(mask.sum()) for mask in divergence.flagged]
    tokens = [len(mask) for mask in divergence.flagged]
    interval = fraction_interval(flagged, tokens)
    fraction, ties = sum(flagged) / sum(tokens), sum(int(mask.sum()) for mask in divergence.ties)
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
        "places": positions(divergence.flagged),
    }
    beside = ""
    if by_traits is not None and by_traits.counterfactuals:
        count = sum(int(mask.sum()) for mask in by_traits.flagged)
        values["by_other_traits"] = {"flagged": count, "fraction": count / sum(tokens)}
        beside = f", {count / sum(tokens):.1%} by other traits and not by the reference alone"
    summary = (
        f"{fraction:.1%} of {sum(tokens):,} tokens in {len(tokens)} rows diverge for "
        f"{divergence.factual}{beside} ({ties} ties); the share alone says nothing: clean data has "
        "divergence tokens too"
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
