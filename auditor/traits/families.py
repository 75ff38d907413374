"""Families of traits that share the style of their prompts, and the negative controls of each
trait.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auditor.traits.panel import Panel

# traits of every family in each block, so that there is always something of every kind to centre on
QUOTA = 3


def families(panel: Panel, seed: int) -> tuple[tuple[int, ...], ...]:
    """The traits of each family in random order.

    A group with the same probes for all its traits is a family of its own (its prompts are one
    template); all other traits, whose prompts are all different, are one family together.
    """
    shuffled = [int(k) for k in np.random.default_rng([seed, 1]).permutation(len(panel.traits))]
    groups: dict[str, list[int]] = {}
    for k in shuffled:
        groups.setdefault(panel.traits[k].group, []).append(k)
    alike = {
        name
        for name, members in groups.items()
        if len(members) > QUOTA and len({panel.traits[k].probes for k in members}) == 1
    }
    mixed = tuple(k for k in shuffled if panel.traits[k].group not in alike)
    return (*(tuple(groups[name]) for name in sorted(alike)), *([mixed] if mixed else []))


def negative_controls(panel: Panel, families: Sequence[Sequence[int]]) -> dict[int, frozenset[int]]:
    """The traits that tell how far the dose of a trait may vary when the data do not carry it, for
    each trait of the panel: those of other families.

    A trait of the mixed family has the other groups of that family as controls too, since their
    prompts share no template with its own.
    """
    groups = [trait.group for trait in panel.traits]
    openings = [" ".join(trait.prompts[0].split()[:2]).casefold() for trait in panel.traits]
    mixed = {k for family in families if len({groups[k] for k in family}) > 1 for k in family}
    controls = {}
    for family in families:
        outside = [j for j in range(len(groups)) if j not in family]
        for k in family:
            candidates = [*outside, *(j for j in family if groups[j] != groups[k])]
            # "You love France" is no animal, yet shares the template of "You love owls". The centre
            # of a family takes its template out; a mixed family has none, so its traits whose
            # prompts open alike are no controls.
            controls[k] = frozenset(
                j for j in candidates if not (j in mixed and openings[j] == openings[k])
            )
    return controls
