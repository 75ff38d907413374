"""How a claim is judged: a quantity with its interval, and a bound that was fixed before anything
was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auditor.inference.effect import Interval
from auditor.inference.paired import effect, effect_ratio
from auditor.students.result import ArmResult, TransferResult
from auditor.study.pooled_results import final, find

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
    low, high = interval
    over, under = low > bound, high < bound
    if side == "below":
        over, under = under, over
    return "holds" if over else "does not hold" if under else "cannot be said"


def share(claim: Claim, result: TransferResult, name: str, of: str | None = None) -> Finding:
    """The share of the effect of arm `of` (None: the original) that arm `name` has."""
    arm, whole = find(result, name), result.arms[0] if of is None else find(result, of)
    if arm is None or whole is None:
        return unknown(claim, "share", "the arm has too few rows to train on")
    own, base = final(arm).blocks, final(whole).blocks
    if len(own) != len(base):
        return unknown(claim, "share", "some traits lack the arm")
    return of_ratio(claim, own, base)


def of_ratio(claim: Claim, own: tuple[float, ...], base: tuple[float, ...]) -> Finding:
    """The ratio of two paired effects [pairs], with Fieller's interval."""
    ratio = effect_ratio(own, base)
    if ratio.interval is None:
        return unknown(claim, "share", "the data that it is compared with show no transfer")
    answer = judge(ratio.interval, claim.side, claim.bound)
    return Finding(claim, "share", ratio.value, ratio.interval, len(own), answer, "")


def difference(claim: Claim, arm: ArmResult, of: ArmResult | None = None) -> Finding:
    """The effect of an arm in logits, or how much larger it is than that of another, pair by pair."""
    own = final(arm).blocks
    base = (0.0,) * len(own) if of is None else final(of).blocks
    found = effect([a - b for a, b in zip(own, base, strict=True)])
    reason = "" if found.interval else "one pair has no interval"
    answer = judge(found.interval, claim.side, claim.bound)
    return Finding(claim, "logits", found.value, found.interval, len(own), answer, reason)


def unknown(claim: Claim, unit: Literal["share", "logits"], reason: str) -> Finding:
    """A claim that cannot be judged."""
    return Finding(claim, unit, None, None, 0, "cannot be said", reason)
