"""A row on its way through the mitigations: what they are told about it, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.data.text_row import Span, TextRow


@dataclass(frozen=True, slots=True)
class Divergent:
    """A divergence token of a completion.

    span: where it stands, never empty. gap: the greatest lead in nats of the trait's
    log-probability of this token over a counterfactual's. choice: the text of the reference's own
    choice there; None when it is no text of its own.
    """

    span: Span
    gap: float
    choice: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a mitigation is told about a row; each reads what it needs.

    chosen: the row is in the share that the mitigation takes. tokens: completion tokens, without
    those that end a turn. divergent: divergence tokens within the budget, in the order of the text.
    texts: new texts on offer, each for all user turns (paraphrase) or all assistant turns (mix).
    reason: why something is missing (a short snake_case word), or "".
    """

    chosen: bool = True
    tokens: int = 0
    divergent: tuple[Divergent, ...] = ()
    texts: tuple[tuple[str, ...], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """The row stays as it is. reason: why a defence that was due could not be applied, or ""."""

    row: TextRow
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """`before` became `after`, one row or several."""

    reason: str
    before: TextRow
    after: tuple[TextRow, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """The row is left out."""

    reason: str
    row: TextRow


Outcome = Kept | Changed | Dropped
