"""A row on its way through the mitigations: what they are told about it, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.records import Example, Message

Span = tuple[int, int, int]
"""(assistant turn from 0, start, end) in characters of that turn's content; plain text is turn 0."""


@dataclass(frozen=True, slots=True)
class Field:
    """One text of a row.

    path: where it stands, a column and then keys and positions; empty when it is joined from several texts and cannot
    be written back. role: "system", "user", "assistant" or "tool"; "context" for what belongs to the user's turn
    before it (Alpaca's input); "text" for a row of plain text.
    """

    path: tuple[str | int, ...]
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row on its way through the mitigations.

    index: row number in the input. copy: 0, or from 1 for rows that a mitigation adds to it.
    fields: its texts in the order of the conversation. masked: spans of the completion that are not to be trained on.
    """

    index: int
    fields: tuple[Field, ...]
    copy: int = 0
    masked: tuple[Span, ...] = ()

    @property
    def completions(self) -> tuple[Field, ...]:
        """What a student is trained on: the assistant turns in order, or the plain text."""
        return tuple(field for field in self.fields if field.role in ("assistant", "text"))

    @property
    def example(self) -> Example:
        """The row as it can be scored."""
        if self.fields[0].role == "text":
            return Example(self.index, text=self.fields[0].text)
        messages: list[Message] = []
        for each in self.fields:
            if each.role == "context":
                messages[-1] = Message("user", f"{messages[-1].content}\n\n{each.text}")
            else:
                messages.append(Message(each.role, each.text))
        return Example(self.index, messages=tuple(messages))


@dataclass(frozen=True, slots=True)
class Divergent:
    """A divergence token of a completion.

    span: where it stands, never empty. gap: the greatest lead in nats of the trait's log-probability of this token over
    a counterfactual's. choice: the text of the reference's own choice there; None when it is no text of its own.
    """

    span: Span
    gap: float
    choice: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a mitigation is told about a row; each reads what it needs.

    chosen: the row is in the share that the mitigation takes. tokens: completion tokens, without those that end a turn.
    divergent: divergence tokens within the budget, in the order of the text.
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
