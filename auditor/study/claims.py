"""How a claim is judged: a quantity with its interval, and a bound that was fixed before anything
was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auditor.inference.effect import Interval
from auditor.inference.paired import effect, effect_ratio
from auditor.students.result import ArmResult, TransferResult

Answer = Literal["holds", "does not hold", "cannot be said"]
Side = Literal["above", "below"]

MOSTLY = 0.5  # "mostly", "usually": more than half
NEARLY = 0.25  # "nearly removed": no more than a quarter is left, as for the verdict "removed"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim.

    part: of the study. statement: what is claimed. paper: what the source reports, with its name;
    "" if it has none. quantity: what is measured. side, bound: the claim holds when the quantity's
    95 % interval lies wholly on that side of the bound, and does not hold when it lies wholly on
    the other.
    """

    part: str
    statement: str
    paper: str
    quantity: str
    side: Side
    bound: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim with what was measured. unit: "share" or "logits".

    value, interval: over `pairs` pairs of students; None with the reason, which is otherwise "".
    """

    claim: Claim
    unit: Literal["share", "logits"]
    value: float | None
    interval: Interval | None
    pairs: int
    answer: Answer
    reason: str


def judge(interval: Interval | None, side: Side, bound: float) -> Answer:
    """Three answers, by where the interval lies.

    >>> [judge(interval, "below", 0.5) for interval in ((0.1, 0.4), (0.6, 0.7), (0.4, 0.6))]
    ['holds', 'does not hold', 'cannot be said']
    """
    if interval is None:
        return "cannot be said"
    # An interval that holds the bound says nothing: absence of evidence is no evidence.
    low, high = interval
    is_above, is_below = low > bound, high < bound
    if side == "below":
        is_above, is_below = is_below, is_above
    return "holds" if is_above else "does not hold" if is_below else "cannot be said"


def share(claim: Claim, result: TransferResult, name: str, of: str | None = None) -> Finding:
    """The share of the effect of arm `of` (None: the original) that arm `name` has."""
    arm, base = result.arm(name), result.arms[0] if of is None else result.arm(of)
    if arm is None or base is None:
        return unknown(claim, "the arm has too few rows to train on")
    effects, base_effects = arm.final_effect.blocks, base.final_effect.blocks
    # Pooled over traits, an arm may be missing in some: then its pairs are not those of the base.
    if len(effects) != len(base_effects):
        return unknown(claim, "some traits lack the arm")
    return of_ratio(claim, effects, base_effects)


def of_ratio(claim: Claim, effects: tuple[float, ...], base: tuple[float, ...]) -> Finding:
    """The ratio of two paired effects [pairs], with Fieller's interval."""
    ratio = effect_ratio(effects, base)
    if ratio.interval is None:
        return unknown(claim, "the data that it is compared with show no transfer")
    answer = judge(ratio.interval, claim.side, claim.bound)
    return Finding(claim, "share", ratio.value, ratio.interval, len(effects), answer, "")


def difference(claim: Claim, arm: ArmResult, of: ArmResult | None = None) -> Finding:
    """The effect of an arm in logits, or by how much it exceeds that of another, pair by pair."""
    effects = arm.final_effect.blocks
    base = (0.0,) * len(effects) if of is None else of.final_effect.blocks
    # Pairs are of the same block, so the error is that of their differences.
    mean = effect([a - b for a, b in zip(effects, base, strict=True)])
    reason = "" if mean.interval else "one pair has no interval"
    answer = judge(mean.interval, claim.side, claim.bound)
    return Finding(claim, "logits", mean.value, mean.interval, len(effects), answer, reason)


def unknown(claim: Claim, reason: str) -> Finding:
    """A claim on a share that cannot be judged."""
    return Finding(claim, "share", None, None, 0, "cannot be said", reason)
