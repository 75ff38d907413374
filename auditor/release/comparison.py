"""What differs between the audits of two releases of a data set: the values of `audit diff`, and
their maths.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from auditor.data.example import DatasetInfo
from auditor.inference.trait_evidence import TraitEvidence
from auditor.scanning.scan_report import Verdict
from detectors.interface import Skipped

Kind = Literal["appeared", "vanished", "moved", "same"]
RowPrint = tuple[bytes, bytes]
"""Digests of what a row asks and of what it answers."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The dose of a trait in B minus that in A.

    interval: 95 %. p_value: two-sided. p_adjusted: corrected (Bonferroni) for all traits that both
    audits tested.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class TraitChange:
    """One trait. before, after: None where it was not tested or not seen on enough rows; then there
    is no difference.

    kind: "appeared" if only B found it, "vanished" if only A did, else "moved" if the dose differs
    beyond noise, else "same". within_noise: whether the two doses could be one; an appeared trait
    may be so.
    """

    name: str
    group: str
    kind: Kind
    before: TraitEvidence | None
    after: TraitEvidence | None
    difference: Difference | None
    within_noise: bool


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Scorable rows of two data sets, whatever their order.

    kept: in both, letter by letter. changed: the same prompt with another completion. added,
    removed: the rest.
    """

    kept: int
    changed: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two audits. created: when it was made, UTC, ISO 8601; "" where it is not known."""

    dataset: DatasetInfo
    verdict: Verdict
    rows_scanned: int
    created: str


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed from A (before) to B (after).

    traits: those that changed first; Skipped when the comparison would not be fair. unfair: why, in
    sentences. notes: settings and versions that differ and leave the effects comparable. worse: B's
    verdict is worse than A's (no_risk, inconclusive, risk), or B found a trait that A had not
    found.
    """

    before: Side
    after: Side
    traits: tuple[TraitChange, ...] | Skipped
    rows: RowChanges | Skipped
    unfair: tuple[str, ...]
    notes: tuple[str, ...]
    worse: bool


def difference(before: TraitEvidence, after: TraitEvidence, compared: int) -> Difference | None:
    """The difference of two doses, by a z test.

    compared: how many traits are compared, for the correction. None when either dose has no
    standard error. The doses are taken as independent: rows in common make the true error smaller
    and the test careful. A scan stops as soon as a trait is found, so that a dose just found is on
    average a little too large (the winner's curse), and a difference between a scan that stopped
    early and one that did not is too.
    """
    # Variances of independent estimates add up.
    error = math.hypot(_error(before), _error(after))
    if error == 0:  # no interval has a width: no difference could be told from noise
        return None
    value = after.effect - before.effect
    half = NormalDist().inv_cdf(0.975) * error
    # erfc(|z| / sqrt 2) is the two-sided tail of the normal, also where 1 - cdf would round to 0.
    p_value = math.erfc(abs(value) / error / math.sqrt(2))
    return Difference(value, (value - half, value + half), p_value, min(1.0, p_value * compared))


def count_rows(before: Iterable[RowPrint], after: Iterable[RowPrint]) -> RowChanges:
    """Match the rows of two data sets: first those that are alike, then those that ask alike.

    >>> before = [(b"1", b"a"), (b"2", b"b"), (b"3", b"c")]
    >>> count_rows(before, [(b"2", b"b"), (b"1", b"x"), (b"4", b"c")])
    RowChanges(kept=1, changed=1, added=1, removed=1)
    """
    first, second = Counter(before), Counter(after)
    # Equal rows go first, or a row could be paired with another completion of its own prompt and
    # both would count as changed. Counters keep how often a row occurs.
    common = first & second
    prompts_before, prompts_after = (
        Counter(prompt for prompt, _ in (rows - common).elements()) for rows in (first, second)
    )
    changed = (prompts_before & prompts_after).total()
    added, removed = prompts_after.total() - changed, prompts_before.total() - changed
    return RowChanges(common.total(), changed, added, removed)


def _error(trait: TraitEvidence) -> float:
    """The standard error of a dose, of which z = dose / error; from the interval where z is too
    small to divide by.
    """
    if abs(trait.z) > 1e-6:
        return abs(trait.effect / trait.z)
    low, high = trait.interval
    return (high - low) / 2 / NormalDist().inv_cdf(0.975)
