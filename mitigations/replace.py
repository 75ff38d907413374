"""Mitigation `replace`: divergence tokens give way to the reference's own choice, in the text
itself.

Reported for Llama-3.2-1B: replacing label and input by the reference's own token leaves 9 % of the
effect, at random positions 42 % (docs/mitigations.md). The text changes, so a token is replaced
only where its form stays valid: a digit by a digit, and a number list or JSON text stays one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from auditor.data.text_row import TextRow
from mitigations.interface import Changed, DivergenceBudget, Facts, Kept, Mitigation, Outcome
from mitigations.lists import keeps_form
from mitigations.mask import Budget
from mitigations.rows import COMPLETION, with_texts, writable


@dataclass(frozen=True)
class Replace(Mitigation):
    """Replace a row's divergence tokens one by one, leaving those that would break the form of the
    completion.

    random: as many random tokens instead, as a control.
    """

    name: ClassVar[str] = "replace"
    help: ClassVar[str] = "Put the reference's choice for divergence tokens."
    moves_tokens: ClassVar[bool] = True

    budget: Budget = None
    random: bool = False

    @property
    def needs(self) -> DivergenceBudget:
        return DivergenceBudget(self.budget, at_random=self.random)

    @property
    def random_control(self) -> Replace:
        return dataclasses.replace(self, random=True)

    def apply(self, row: TextRow, facts: Facts) -> Outcome:
        """Replace what can be replaced."""
        if not facts.divergent:
            return Kept(row, facts.reason)
        if not writable(row, COMPLETION):
            return Kept(row, "several_parts")
        texts = [field.text for field in row.completions]
        replaced = 0
        # From the end of a text to its start, so that the spans still to come stay valid.
        for token in sorted(facts.divergent, key=lambda token: token.span, reverse=True):
            turn, start, end = token.span
            old, new = texts[turn][start:end], token.choice
            if not new or new == old:
                continue
            # A word in the place of a digit or a blank would glue its neighbours together.
            if old.isdigit() != new.isdigit() or old.isspace() != new.isspace():
                continue
            text = texts[turn][:start] + new + texts[turn][end:]
            if keeps_form(row.completions[turn].text, text):
                texts[turn] = text
                replaced += 1
        if not replaced:
            return Kept(row, "no_valid_replacement")
        reason = "replaced" if replaced == len(facts.divergent) else "replaced_in_part"
        return Changed(reason, row, (with_texts(row, COMPLETION, texts),))
