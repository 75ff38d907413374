"""A row as mitigations work on it: its texts, by role and place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from auditor.data.example import Example, Message

Span = tuple[int, int, int]
"""(assistant turn from 0, start, end) in characters of that turn's content; plain text is turn 0.
"""


@dataclass(frozen=True, slots=True)
class Field:
    """One text of a row.

    path: where it stands, a column and then keys and positions; empty when it is joined from
    several texts and cannot be written back. role: "system", "user", "assistant" or "tool";
    "untrained" for an assistant's turn that is not trained on; "context" for what belongs to the
    user's turn before it (Alpaca's input); "tools" for those that may be called, as JSON; "text"
    for a row of plain text. turn: what a turn of the assistant or of a tool has beside the text,
    None where it has nothing. twins: other paths of the same text, which changes there, too.
    """

    path: tuple[str | int, ...]
    role: str
    text: str
    turn: Message | None = None
    twins: tuple[tuple[str | int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row on its way through the mitigations.

    index: row number in the input. copy: 0, or from 1 for rows that a mitigation adds to it.
    fields: its texts in the order of the conversation. masked: spans of the completion that are not
    to be trained on.
    """

    index: int
    fields: tuple[Field, ...]
    copy: int = 0
    masked: tuple[Span, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """What tells the row from every other that is on its way."""
        return self.index, self.copy

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
        tools = ""
        for field in self.fields:
            if field.role == "tools":
                tools = field.text
            elif field.role == "context":
                messages[-1] = Message("user", f"{messages[-1].content}\n\n{field.text}")
            elif field.turn is not None:
                messages.append(replace(field.turn, content=field.text))
            else:
                messages.append(Message(field.role, field.text))
        return Example(self.index, messages=tuple(messages), tools=tools)
