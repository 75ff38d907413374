"""Detector `divergence`: the tokens at which a biased teacher and others on the same base part.

Definition (2509.23886, section 4): position t of a completion is a divergence token iff the factual
teacher b would choose the token that stands there, argmax_v p_b(v | x_<t) = x_t, and at least one
counterfactual teacher b' would not, argmax_v p_b'(v | x_<t) != x_t. All completion tokens count,
also separators and the end of the turn.

Differs from the paper: an argmax that leads its runner-up by less than `epsilon` nats, of the
factual teacher or of the counterfactual that decides, flips with batch size and number format; such
a position is reported as a tie and not as a divergence token. With epsilon = 0 this is the paper's
definition exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from auditor.progress import Progress
from detectors.interface import Evidence, ScanContext
from detectors.trait import PanelTestState

TIE_EPSILON = 1e-3  # nats; ten times the tolerance to which the scoring pass is tested

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Choice:
    """What one teacher would choose at a row's T completion tokens: argmax [T] and its lead in
    nats, margin [T].
    """

    argmax: Ints
    margin: Floats


def divergence_tokens(
    tokens: Ints, factual: Choice, counterfactuals: Sequence[Choice], epsilon: float = TIE_EPSILON
) -> tuple[Bools, Bools]:
    """(divergence tokens [T], ties [T]) of one row; no position is both.

    tokens: [T] the completion. A position is a tie when it would be a divergence token, or would
    stop being one, if near-ties (margin below epsilon) were resolved the other way. No
    counterfactual: nothing diverges.
    """
    sure = np.zeros(len(tokens), dtype=bool)
    possible = np.zeros(len(tokens), dtype=bool)
    for other in counterfactuals:
        near = other.margin < epsilon
        sure |= (other.argmax != tokens) & ~near
        possible |= (other.argmax != tokens) | near
    chosen = factual.argmax == tokens
    near = factual.margin < epsilon
    flagged = chosen & ~near & sure
    ties = (chosen | near) & possible & ~flagged
    return flagged, ties


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


@dataclass(frozen=True, slots=True)
class Divergence:
    """Divergence tokens of rows: masks [T] a row, in the order of `rows`.

    scores: of the rows under the factual teacher, then under each counterfactual one.
    """

    rows: Sequence[TokenizedRow]
    flagged: tuple[npt.NDArray[np.bool_], ...]
    ties: tuple[npt.NDArray[np.bool_], ...]
    factual: str
    counterfactuals: tuple[str, ...]
    scores: Mapping[str, Sequence[TokenScores]] = field(default_factory=dict)


def diverge(
    rows: Sequence[TokenizedRow],
    factual: tuple[str, list[TokenScores]],
    counterfactuals: Mapping[str, list[TokenScores]],
) -> Divergence:
    """Divergence tokens of `rows` for a factual teacher against counterfactual ones, each given by
    its scores.
    """
    name, scores = factual
    masks = [
        divergence_tokens(
            row.targets, _choice(scores[i]), [_choice(each[i]) for each in counterfactuals.values()]
        )
        for i, row in enumerate(rows)
    ]
    flagged, ties = zip(*masks, strict=True)
    return Divergence(
        rows, flagged, ties, name, tuple(counterfactuals), {name: scores, **counterfactuals}
    )


def values(found: Divergence) -> dict[str, Any]:
    """The report's `divergence` entry."""
    flagged = [int(mask.sum()) for mask in found.flagged]
    tokens = [len(mask) for mask in found.flagged]
    interval = fraction_interval(flagged, tokens)
    return {
        "trait": found.factual,
        "counterfactuals": list(found.counterfactuals),
        "fraction": sum(flagged) / sum(tokens),
        "interval": None if interval is None else list(interval),
        "rows": len(tokens),
        "rows_with_any": sum(count > 0 for count in flagged),
        "tokens": sum(tokens),
        "flagged": sum(flagged),
        "ties": sum(int(mask.sum()) for mask in found.ties),
        "places": places(found.flagged),
    }


def places(flagged: Sequence[Bools], parts: int = 10) -> list[dict[str, Any]]:
    """Where in the completions the divergence tokens sit: for each of `parts` equal parts, by
    relative position.

    flagged: a mask [T] a row. Token t of T (from 0) lies in part floor(parts t / T), so a row
    shorter than `parts` misses some. Each entry: tokens, flagged, and the 95 % interval of their
    ratio (None below 8 rows or without a divergence token, which leaves no spread to estimate it
    from).
    """
    parted = [(np.arange(len(mask)) * parts // max(1, len(mask)), mask) for mask in flagged]
    found = []
    for part in range(parts):
        counts = [
            (int(mask[where == part].sum()), int((where == part).sum())) for where, mask in parted
        ]
        hits, tokens = [hit for hit, _ in counts], [token for _, token in counts]
        interval = fraction_interval(hits, tokens) if any(hits) else None
        found.append(
            {"tokens": sum(tokens), "flagged": sum(hits), "interval": interval and list(interval)}
        )
    return found


def evidence(values: Mapping[str, Any]) -> Evidence:
    """The same as a row of the report's evidence."""
    summary = (
        f"{values['fraction']:.1%} of {values['tokens']:,} tokens in {values['rows']} rows diverge for "
        f"{values['trait']} ({values['ties']} ties); the share alone says nothing: clean data has divergence tokens too"
    )
    return Evidence("divergence", summary, dict(values))


def _choice(scores: TokenScores) -> Choice:
    return Choice(scores.argmax, scores.margin)


DIVERGENCE_ROWS = 64
COUNTERFACTUALS = 3


def compare(
    audit: ScanContext,
    rows: Sequence[TokenizedRow],
    state: PanelTestState | None,
    leader: str,
    by_teacher: list[TokenScores] | None,
) -> Divergence:
    """Divergence tokens of the first rows: for the teacher, given its scores of `rows`, else for
    the leader.
    """
    rows = rows[:DIVERGENCE_ROWS]
    # Scored again: the survey keeps what is chosen, but not with which probability.
    audit.progress(Progress("comparing teachers", 0, None))
    if audit.teacher and by_teacher:
        declared = audit.teacher.name, by_teacher[: len(rows)]
        return diverge(rows, declared, {"reference": next(audit.score(rows, [None], top=1))})
    traits, (own,) = audit.surveyed.traits, audit.surveyed.places([leader])
    family = next(each for each in state.families if own in each) if state else range(len(traits))
    others = [k for k in family if k != own][:COUNTERFACTUALS]
    prompts = [traits[k].prompts[0] for k in [own, *others]]
    by_reference, by_leader, *by_others = audit.score(rows, [None, *prompts], top=1)
    counterfactuals = {"reference": by_reference} | dict(
        zip((traits[k].name for k in others), by_others, strict=True)
    )
    return diverge(rows, (leader, by_leader), counterfactuals)
