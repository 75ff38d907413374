"""The schedule of a panel survey: families and controls, blocks of rows, looks, and how many traits then stay alive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from auditor.traits import Panel

BLOCK = 32
CONTROLS = 3  # of every family
# Rows at which we look, and how many traits stay alive after each look: runs/schedule_power.py says why these.
LOOKS: tuple[int, ...] = (32, 64, 96, 160, 256, 400)
KEEP: tuple[int, ...] = (28, 12, 6, 3, 3, 3)


def looks(rows: int) -> list[int]:
    """Numbers of rows at which to look, up to `rows` and ending there."""
    standard = [n for n in LOOKS if n < rows]
    step = LOOKS[-1]
    return [*standard, *range(2 * step, rows, step), rows]


def kept(look: int) -> int:
    """How many traits stay alive at most after look number `look`."""
    return KEEP[min(look, len(KEEP) - 1)]


def block_starts(plan: Sequence[int]) -> Iterator[int]:
    """Starts of blocks of at most BLOCK rows that never cross a look."""
    start = 0
    for end in plan:
        yield from range(start, end, BLOCK)
        start = end


def planned_passes(rows: int, traits: int, families: int) -> int:
    """Row passes of a survey of `rows` rows that nothing settles early, at most."""
    plan, controls = looks(rows), CONTROLS * families
    total, start, alive = 0, 0, traits
    for number, end in enumerate(plan):
        total += (end - start) * (alive + (controls if alive < traits else 0))
        alive = min(alive, kept(number))
        start = end
    return total


def families(panel: Panel, seed: int) -> tuple[tuple[int, ...], ...]:
    """The traits of each family in random order; the first CONTROLS are its controls.

    A group with the same probes for all its traits is a family of its own (its prompts are one template); the rest,
    whose prompts are all different, are one family together.
    """
    shuffled = [int(k) for k in np.random.default_rng([seed, 1]).permutation(len(panel.traits))]
    groups: dict[str, list[int]] = {}
    for k in shuffled:
        groups.setdefault(panel.traits[k].group, []).append(k)
    alike = {
        name
        for name, members in groups.items()
        if len(members) > CONTROLS and len({panel.traits[k].probes for k in members}) == 1
    }
    rest = tuple(k for k in shuffled if panel.traits[k].group not in alike)
    return (*(tuple(groups[name]) for name in sorted(alike)), *([rest] if rest else []))


def placebos(panel: Panel, families: Sequence[Sequence[int]]) -> dict[int, frozenset[int]]:
    """For each trait those that tell how far it may stray when the data do not carry it: the traits of other families.

    Members of a mixed family share no template, so to one of them the mixed family's other groups are strangers too.
    Not so a trait of a mixed family whose prompt opens as the trait's own does: "You love France" is no animal, and no
    mean over the mixed family takes the template out that it shares with "You love owls".
    """
    groups = [trait.group for trait in panel.traits]
    openings = [" ".join(trait.prompts[0].split()[:2]).casefold() for trait in panel.traits]
    mixed = {k for family in families if len({panel.traits[k].group for k in family}) > 1 for k in family}
    found = {}
    for family in families:
        others = [j for other in families if other is not family for j in other]
        for k in family:
            strangers = [*others, *(j for j in family if groups[j] != groups[k])]
            found[k] = frozenset(j for j in strangers if not (j in mixed and openings[j] == openings[k]))
    return found
