"""The one order in which reports list traits."""

from __future__ import annotations

from collections.abc import Iterable

from auditor.inference.trait_evidence import TraitEvidence


def by_evidence(traits: Iterable[TraitEvidence]) -> tuple[TraitEvidence, ...]:
    """Strongest evidence first: by corrected p-value, then p-value, then z (p-values reach 0 in
    floating point).
    """
    return tuple(
        sorted(traits, key=lambda trait: (trait.p_adjusted, trait.p_value, -trait.z, trait.name))
    )
