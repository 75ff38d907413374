"""The evidence for one trait, and the one order of traits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.inference.thresholds import MIN_EFFECT

# The estimate brings scipy, which a reader of reports can do without.
if TYPE_CHECKING:
    from auditor.inference.estimates import Estimate


@dataclass(frozen=True, slots=True)
class TraitEvidence:
    """One trait of the panel.

    effect: dose estimate; 0 is the reference itself, 1 the reference under the trait's prompt.
    interval: 95 % confidence interval of `effect`. z: effect over its standard error, clustered by
    row. p_value: one-sided, of no effect, or of one that any greedy text has
    (`auditor.inference.thresholds.TextProfile.null_dose`). p_adjusted: corrected for every trait of
    the panel and every interim analysis. rows, tokens: what was spent on this trait. eliminated_at:
    rows read when the trait was last scored; None when it was scored to the end.
    """

    name: str
    group: str
    effect: float
    interval: tuple[float, float]
    z: float
    p_value: float
    p_adjusted: float
    rows: int
    tokens: int
    eliminated_at: int | None = None

    @property
    def se(self) -> float:
        """The standard error of `effect`; where `effect` is 0, so that z does not give it, about
        that of the interval.
        """
        low, high = self.interval
        return self.effect / self.z if self.z else (high - low) / (2 * 1.96)

    @classmethod
    def of(
        cls,
        name: str,
        group: str,
        dose: Estimate,
        *,
        p_adjusted: float,
        rows: int,
        tokens: int,
        eliminated_at: int | None = None,
    ) -> TraitEvidence:
        """The evidence that the estimate of a trait's dose is."""
        interval, z, p_value = dose.interval(), dose.z, dose.p_value
        return cls(
            name, group, dose.effect, interval, z, p_value, p_adjusted, rows, tokens, eliminated_at
        )


def strongest(best: TraitEvidence) -> str:
    """The leading trait of a detector, in words."""
    low, high = best.interval
    dose = f"dose {best.effect:.2f} [{low:.2f}, {high:.2f}]"
    return f"strongest: {best.name}, {dose}, corrected p = {best.p_adjusted:.2g}"


def is_found(trait: TraitEvidence, alpha: float, least: float = MIN_EFFECT) -> bool:
    """Whether the evidence for a trait is significant: p_adjusted <= alpha, and a dose of at least
    `least`.
    """
    return trait.p_adjusted <= alpha and trait.effect >= least


def ranked(
    traits: Sequence[TraitEvidence], alpha: float, least: float
) -> tuple[TraitEvidence, ...]:
    """The traits by evidence: those found, the largest dose first, then those with a dose of at
    least `least`, then by p.

    The dose comes before p among the traits found: a relative of what a teacher carries shows a
    fraction of its dose, and with a smaller p where its error is smaller.
    """

    def sort_key(trait: TraitEvidence) -> tuple[bool, float, bool, float, float]:
        significant = is_found(trait, alpha, least)
        return (
            not significant,
            -trait.effect * significant,
            trait.effect < least,
            trait.p_adjusted,
            trait.p_value,
        )

    return tuple(sorted(traits, key=sort_key))
