"""Mitigations in their order: each works on the rows as those before it left them.

Where one needs a threshold over the whole data set (a budget, the rows with the highest score), the
rows are run through the mitigations before it once more; what models computed is kept in the run
directory, so that is cheap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from auditor import plugins
from auditor.data.text_row import TextRow
from auditor.mitigating.row_facts import (
    FactsOf,
    MitigationContext,
    clean_texts,
    highest,
    rewordings,
    within_budget,
)
from mitigations import MITIGATIONS
from mitigations.interface import Changed, Dropped, Facts, Kept, Outcome


@dataclass(frozen=True, slots=True)
class Step:
    """A mitigation with its settings (plain JSON values), as the user asked for it.

    See `auditor.commands.mitigate`.
    """

    name: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bound:
    """A mitigation ready to work: what it must know, and what it then does with a row."""

    name: str
    facts: FactsOf
    apply: Callable[[TextRow, Facts], Outcome]


def advance(
    rows: list[TextRow],
    steps: Sequence[Bound],
    note: Callable[[int, Outcome], None] = lambda step, outcome: None,
) -> list[TextRow]:
    """Run rows of the input through the mitigations; `note` is told of every outcome with the
    mitigation's number.
    """
    originals = {row.index: row for row in rows}
    for number, step in enumerate(steps):
        if not rows:
            break
        outcomes = [
            step.apply(row, facts)
            for row, facts in zip(rows, step.facts(rows, originals), strict=True)
        ]
        for outcome in outcomes:
            note(number, outcome)
        rows = _numbered(row for outcome in outcomes for row in _left(outcome))
    return rows


def bind(defence: MitigationContext, steps: Sequence[Step], stack: ExitStack) -> list[Bound]:
    """Make the mitigations ready in their order; `stack` closes what they hold open."""
    bound: list[Bound] = []
    for step in steps:
        facts = _facts(defence, step, tuple(bound), stack)
        apply = partial(_function(step.name), **_arguments(step, defence.seed))
        bound.append(Bound(step.name, facts, apply))
    return bound


def _function(name: str) -> Callable[..., Outcome]:
    """The mitigation `name`, ours or another package's.

    Raises PluginError when that cannot be imported.
    """
    if name in MITIGATIONS:
        return MITIGATIONS[name]
    plugin = plugins.load("mitigation", name)

    def apply(row: TextRow, facts: Facts, **settings: Any) -> Outcome:
        outcome = plugin(row, facts, **settings)
        if not isinstance(outcome, Kept | Changed | Dropped):
            raise plugin.failed("it must give Kept(...), Changed(...) or Dropped(...)")
        return outcome

    return apply


def _left(outcome: Outcome) -> tuple[TextRow, ...]:
    match outcome:
        case Kept(row=row):
            return (row,)
        case Changed(after=after):
            return after
        case Dropped():
            return ()


def _numbered(rows: Iterable[TextRow]) -> list[TextRow]:
    """The rows, those of one index numbered from 0 as copies."""
    seen: dict[int, int] = {}
    numbered = []
    for row in rows:
        copy = seen[row.index] = seen.get(row.index, -1) + 1
        numbered.append(row if row.copy == copy else dataclasses.replace(row, copy=copy))
    return numbered


def _arguments(step: Step, seed: int) -> dict[str, Any]:
    """The settings that the pure function takes."""
    match step.name:
        case "mix":
            return {"add": step.settings["mode"] == "add"}
        case "canonicalize":
            return {"how": step.settings["how"], "seed": seed}
        case "paraphrase" | "mask" | "replace" | "drop":
            return {}
    return {"seed": seed}


def _facts(
    defence: MitigationContext, step: Step, before: Sequence[Bound], stack: ExitStack
) -> FactsOf:
    def rows_there() -> Iterator[list[TextRow]]:
        return (advance(rows, before) for rows in defence.blocks())

    match step.name:
        case "paraphrase":
            return rewordings(defence, step.settings)
        case "mix":
            return clean_texts(defence, step.settings, stack)
        case "mask" | "replace":
            at_random = step.settings.get("random", False)
            return within_budget(defence, step.settings["budget"], rows_there, at_random=at_random)
        case "drop":
            return highest(defence, step.settings["share"], rows_there)
    return lambda rows, _: [Facts() for _ in rows]
