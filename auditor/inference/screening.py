"""Screens: trait prompts whose scores stand in for those of all others.

Most of what a trait prompt does to a text is common to all of them: on the default reference the
prompt "You love owls" sees 6 to 9 tenths of what any other prompt of the panel does to a row, as
measured by the signal over its error. To say which prompt a text was written under, that part must
be taken out. To exclude that it was written under any, it is the best evidence there is, and a few
prompts suffice. Which ones is read off a few rows that were scored under every prompt.

Notation. K prompts; s_c is the score of prompt c after the temperature is taken out
(`auditor.inference.score_test`), with mean 0 and variance I_c a row under the reference, and mean
g_ck a row under prompt k. Both are expectations over what may be written, not over what was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auditor.inference.estimates import Array
from auditor.inference.tempering import Moments

# Standard errors that a limit must lie above the estimate: those of the bound, and one more so that
# most texts of the reference are cleared by so many rows.
_ERRORS = 3.5


@dataclass(frozen=True, slots=True)
class Screens:
    """Prompts that stand in for all prompts.

    prompts: their numbers. by_trait: [K] for each prompt the screen that sees it best, as an index
    into `prompts`. visible: [K] what that screen's score gains a row under the prompt, over what it
    gains under its own: 1 for a screen itself, above 0. rows: how many rows exclude the limit for
    most texts of the reference.
    """

    prompts: tuple[int, ...]
    by_trait: tuple[int, ...]
    visible: Array
    rows: int


def choose_screens(pilot: Moments, limit: float) -> Screens | None:
    """The screens that exclude a share of `limit` of every prompt with the fewest row passes.

    pilot: moments of a few rows under every prompt; only covariance and signal are used, so that
    the choice rests on no token's own score. Screens are added one by one, each the one that leaves
    the fewest rows to be scored for the prompt that is seen worst, as long as that saves passes.
    None where some prompt moves nothing, so that no row excludes it.
    """
    covariance, signal = pilot.covariance.mean(0), pilot.signal.mean(0)
    slope = covariance[0, 1:] / covariance[0, 0] if covariance[0, 0] > 0 else np.zeros(1)
    variance = np.diag(covariance)[1:] - slope * covariance[0, 1:]
    gain = signal[1:] - np.multiply.outer(slope, signal[0])
    if (variance <= 0).any() or (np.diag(gain) <= 0).any():
        return None
    # [c, k]: what a row under prompt k adds to the score of screen c, in its standard deviations.
    seen = gain / np.sqrt(variance)[:, None]

    def rows_needed(prompts: Sequence[int]) -> float:
        worst = float(seen[list(prompts)].max(0).min())
        return (_ERRORS / (limit * worst)) ** 2 if worst > 0 else math.inf

    prompts: tuple[int, ...] = ()
    passes = math.inf
    while len(prompts) < len(seen):
        rest = [c for c in range(len(seen)) if c not in prompts]
        # Where no single screen sees every prompt, the one that sees most of them goes first.
        order = {
            c: (rows_needed((*prompts, c)), -float(seen[[*prompts, c]].max(0).sum())) for c in rest
        }
        longer = (*prompts, min(order, key=lambda c: order[c]))
        needed = len(longer) * rows_needed(longer)
        if passes <= needed and math.isfinite(passes):
            break
        prompts, passes = longer, needed
    by_trait = seen[list(prompts)].argmax(0)
    own = np.diag(gain)[list(prompts)]
    visible = gain[np.array(prompts)[by_trait], np.arange(len(seen))] / own[by_trait]
    rows = math.ceil(rows_needed(prompts))
    return Screens(prompts, tuple(int(c) for c in by_trait), visible, rows)
