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
    template); the rest, whose prompts are all different, are one family together.
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
    rest = tuple(k for k in shuffled if panel.traits[k].group not in alike)
    return (*(tuple(groups[name]) for name in sorted(alike)), *([rest] if rest else []))


def negative_controls(panel: Panel, families: Sequence[Sequence[int]]) -> dict[int, frozenset[int]]:
    """For each trait those that tell how far it may stray when the data do not carry it: the traits
    of other families.

    Members of a mixed family share no template, so to one of them the mixed family's other groups
    are strangers too. Not so a trait of a mixed family whose prompt opens as the trait's own does:
    "You love France" is no animal, and no mean over the mixed family takes the template out that it
    shares with "You love owls".
    """
    groups = [trait.group for trait in panel.traits]
    openings = [" ".join(trait.prompts[0].split()[:2]).casefold() for trait in panel.traits]
    mixed = {
        k for family in families if len({panel.traits[k].group for k in family}) > 1 for k in family
    }
    found = {}
    for family in families:
        others = [j for other in families if other is not family for j in other]
        for k in family:
            strangers = [*others, *(j for j in family if groups[j] != groups[k])]
            found[k] = frozenset(
                j for j in strangers if not (j in mixed and openings[j] == openings[k])
            )
    return found
