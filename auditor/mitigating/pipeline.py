"""Mitigations in their order: each works on the rows as those before it left them."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from auditor.data.text_row import TextRow
from auditor.mitigating.row_facts import FactsOf, MitigationContext, Settled, facts_for
from mitigations.interface import Mitigation, Outcome

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BoundMitigation:
    """A mitigation ready to work: itself, and what it must be told of the rows."""

    mitigation: Mitigation
    facts: FactsOf


def advance(
    rows: list[TextRow],
    steps: Sequence[BoundMitigation],
    settled: Sequence[Settled],
    note: Callable[[int, Outcome], None] = lambda step, outcome: None,
) -> list[TextRow]:
    """Run rows of the input through those mitigations for which all is `settled`; `note` is told of
    every outcome with the mitigation's number.
    """
    originals = {row.index: row for row in rows}
    for number, (step, known) in enumerate(zip(steps, settled, strict=False)):
        if not rows:
            break
        # The facts of all rows at once, since models work on many rows at a time.
        outcomes = [
            step.mitigation.apply(row, facts)
            for row, facts in zip(rows, step.facts(rows, originals, known), strict=True)
        ]
        copies: Counter[int] = Counter()
        rows = []
        for outcome in outcomes:
            note(number, outcome)
            for row in outcome.after:
                # Rows of one index are told apart by their copy, in order from 0.
                copy = copies[row.index]
                copies[row.index] += 1
                rows.append(row if row.copy == copy else dataclasses.replace(row, copy=copy))
    return rows


def bind(
    context: MitigationContext, steps: Sequence[Mitigation], stack: ExitStack
) -> list[BoundMitigation]:
    """Make the mitigations ready in their order; `stack` closes what they hold open."""
    LOG.info("preparing %s", ", ".join(step.label for step in steps))
    return [BoundMitigation(step, facts_for(context, step.needs, stack)) for step in steps]
