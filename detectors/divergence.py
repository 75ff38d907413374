"""Detector `divergence`: the tokens at which a biased teacher and other teachers on the same base would choose otherwise.

Definition (2509.23886, section 4): position t of a completion is a divergence token iff the factual teacher b would
choose the token that stands there, argmax_v p_b(v | x_<t) = x_t, and at least one counterfactual teacher b' would not,
argmax_v p_b'(v | x_<t) != x_t. All completion tokens count, also separators and the end of the turn.

Differs from the paper: an argmax that leads its runner-up by less than `epsilon` nats, of the factual teacher or of
the counterfactual that decides, flips with batch size and number format; such a position is reported as a tie and not
as a divergence token. With epsilon = 0 this is the paper's definition exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

TIE_EPSILON = 1e-3  # nats; ten times the tolerance to which the scoring pass is tested

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Choice:
    """What one teacher would choose at a row's T completion tokens: argmax [T] and its lead in nats, margin [T]."""

    argmax: Ints
    margin: Floats


def divergence_tokens(
    tokens: Ints, factual: Choice, counterfactuals: Sequence[Choice], epsilon: float = TIE_EPSILON
) -> tuple[Bools, Bools]:
    """(divergence tokens [T], ties [T]) of one row; no position is both.

    tokens: [T] the completion. A position is a tie when it would be a divergence token, or would stop being one, if
    near-ties (margin below epsilon) were resolved the other way. No counterfactual: nothing diverges.
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


def fraction_interval(flagged: Sequence[int], tokens: Sequence[int], level: float = 0.95) -> tuple[float, float] | None:
    """Confidence interval of sum(flagged) / sum(tokens) with the row as the unit (ratio estimator), within [0, 1].

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
