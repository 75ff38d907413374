"""Detector `divergence`: the tokens at which a teacher and others on the same base part.

Definition (2509.23886, section 4): position t of a completion is a divergence token iff the factual
teacher b would choose the token that stands there, argmax_v p_b(v | x_<t) = x_t, and at least one
counterfactual teacher b' would not, argmax_v p_b'(v | x_<t) != x_t.

For a trait, the factual teacher is the reference under the trait's prompt, and the counterfactual
teachers are the reference itself and the reference under the prompts of `counterfactuals`. A scan,
the mitigations that mask, replace or drop, and the study all take the definition from here, so that
the tokens that a report marks are those that a mask masks.

Differs from the paper in two ways. An argmax that leads its runner-up by less than `epsilon` nats,
of the factual teacher or of the counterfactual that decides, flips with batch size and number
format; such a position is reported as a tie and not as a divergence token. And the token that ends
a turn is neither, since no mitigation may take the end of a turn away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow
from auditor.progress import Progress
from auditor.traits.panel import Panel
from detectors.context import ScanContext
from detectors.interface import Evidence
from detectors.trait import PanelTestState

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


@dataclass(frozen=True, slots=True)
class Divergence:
    """The divergence tokens of some rows, in the order of `rows`.

    flagged, ties: a mask [T] a row. gaps: [T] a row, the nats by which the factual teacher's
    log-probability of the token exceeds that of a counterfactual teacher, the largest over these.
    factual: the name of the factual teacher. scores: every teacher's scores of the rows by name,
    the factual teacher's first.
    """

    rows: Sequence[TokenizedRow]
    flagged: tuple[Bools, ...]
    ties: tuple[Bools, ...]
    gaps: tuple[Floats, ...]
    factual: str
    scores: Mapping[str, Sequence[TokenScores]]

    @property
    def counterfactuals(self) -> tuple[str, ...]:
        """The names of the counterfactual teachers."""
        return tuple(self.scores)[1:]


def counterfactuals(panel: Panel, trait: str) -> tuple[str, ...]:
    """The traits that `trait` is compared with beside the reference: the first COUNTERFACTUALS
    others of its group in the order of the panel, or of the whole panel for the only trait of a
    group.
    """
    group = next(member.group for member in panel.traits if member.name == trait)
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
        content = np.array([start < end for _, start, end in row.spans])
        flagged.append(mask & content)
        ties.append(near_ties & content)
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


def compare(
    audit: ScanContext,
    rows: Sequence[TokenizedRow],
    state: PanelTestState | None,
    leader: str,
    by_teacher: list[TokenScores] | None,
) -> Divergence:
    """Divergence tokens of the first rows: for the declared teacher, given its scores of `rows`,
    else for the trait `leader`.
    """
    rows = rows[:DIVERGENCE_ROWS]
    # The panel test keeps what each teacher chooses, but not with which probability.
    audit.progress(Progress("comparing teachers", 0, None))
    if audit.teacher and by_teacher:
        declared = audit.teacher.name, by_teacher[: len(rows)]
        return diverge(rows, declared, {"reference": next(audit.score(rows, [None], top=1))})
    rivals = counterfactuals(audit.panel, leader)
    prompts = {trait.name: trait.prompts[0] for trait in audit.panel.traits}
    systems = [None, *(prompts[name] for name in (leader, *rivals))]
    by_reference, by_leader, *by_rivals = audit.score(rows, systems, top=1)
    return diverge(
        rows,
        (leader, by_leader),
        {"reference": by_reference, **dict(zip(rivals, by_rivals, strict=True))},
    )
