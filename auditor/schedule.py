"""The schedule of a panel survey: families, blocks of rows, looks, and how many traits are scored after each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from auditor.traits import Panel

BLOCK = 32
QUOTA = 3  # traits of every family in each block, so that there is always something of every kind to centre on
# Rows at which we look, and the share of the traits tested that are scored after each: runs/schedule_power.py says why.
LOOKS: tuple[int, ...] = (32, 64, 96, 160, 256, 400)
KEEP: tuple[float, ...] = (0.7, 0.42, 0.32, 0.2, 0.16)


def looks(rows: int) -> list[int]:
    """Numbers of rows at which to look, up to `rows` and ending there."""
    standard = [n for n in LOOKS if n < rows]
    step = LOOKS[-1]
    return [*standard, *range(2 * step, rows, step), rows]


def kept(look: int, tested: int) -> int:
    """How many of the traits tested are scored after look number `look`, if the quotas do not ask for more."""
    return round(KEEP[min(look, len(KEEP) - 1)] * tested)


def block_starts(plan: Sequence[int]) -> Iterator[int]:
    """Starts of blocks of at most BLOCK rows that never cross a look."""
    start = 0
    for end in plan:
        yield from range(start, end, BLOCK)
        start = end


def planned_passes(rows: int, families: Sequence[Sequence[int]], tested: Sequence[int]) -> int:
    """Row passes of a survey of `rows` rows that nothing settles early, at most."""
    total, start, scored = 0, 0, sum(map(len, families))
    for number, end in enumerate(looks(rows)):
        total += (end - start) * scored
        scored = min(scored, len(chosen(tested, families, kept(number, len(tested)))))
        start = end
    return total


def chosen(ranked: Sequence[int], families: Sequence[Sequence[int]], count: int) -> tuple[int, ...]:
    """The traits to score next: QUOTA of every family, then others by rank, until there are `count` of `ranked`.

    ranked: the traits tested, the strongest evidence first. A family with fewer of them than QUOTA adds strangers.
    """
    places = {k: place for place, k in enumerate(ranked)}
    quota = {k for family in families for k in sorted(family, key=lambda k: places.get(k, len(ranked)))[:QUOTA]}
    others = [k for k in ranked if k not in quota]
    return tuple(sorted({*quota, *others[: max(0, count - len(quota & places.keys()))]}))


def families(panel: Panel, seed: int) -> tuple[tuple[int, ...], ...]:
    """The traits of each family in random order.

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
        if len(members) > QUOTA and len({panel.traits[k].probes for k in members}) == 1
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
