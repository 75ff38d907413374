"""The frozen values that a data set becomes: messages, examples, rows that cannot be scored, and a
sample.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from auditor.data.coverage import Unread


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is "system", "user", "assistant" or "tool".

    The rest is of the assistant alone. reasoning: what comes before the content. reasoning_key: the
    key or the column of the data set that holds it. tool_calls: a list of calls as JSON, "" for
    none. untrained_by: the key that takes the turn out of training; "" where it is trained on.
    trained_parts: [start, end) in characters of the content, which alone are trained on; None for
    all of it.
    answered: of a tool's turn, which call it answers (formats.ANSWERED) as JSON; "" for none.
    """

    role: str
    content: str
    reasoning: str = ""
    reasoning_key: str = ""
    tool_calls: str = ""
    untrained_by: str = ""
    trained_parts: tuple[tuple[int, int], ...] | None = None
    answered: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether a student is trained to write it."""
        return self.role == "assistant" and not self.untrained_by

    @property
    def parts(self) -> tuple[str, ...]:
        """What tells the turn from others: its role and its content, and what else it has."""
        untrained = ["untrained"] * bool(self.untrained_by)
        parts = map(str, self.trained_parts or ())
        return (self.role, self.content, *self.more, *untrained, *parts)

    @property
    def more(self) -> tuple[str, ...]:
        """What the turn has beside its content, if it has any."""
        more = (self.reasoning, self.tool_calls)
        return more if any(more) else ()

    @property
    def more_keys(self) -> tuple[str, ...]:
        """The keys or columns of `more`."""
        calls = "tool_calls" if self.tool_calls else ""
        return tuple(key for key in (self.reasoning_key, calls) if key)

    @property
    def text(self) -> str:
        """All that a student would be trained on, if the turn is the assistant's and the chat
        template writes it.
        """
        parts = [part for part in (self.reasoning, self.content, self.tool_calls) if part]
        return "\n".join(parts)

    def as_chat(self) -> dict[str, object]:
        """The turn as chat templates take it."""
        chat: dict[str, object] = {"role": self.role, "content": self.content}
        if self.reasoning:
            # Templates agree on the first name; a few ask for the one that the data set has.
            chat |= {"reasoning_content": self.reasoning, self.reasoning_key: self.reasoning}
        if self.tool_calls:
            chat["tool_calls"] = json.loads(self.tool_calls)
        if self.answered:
            chat |= json.loads(self.answered)
        return chat


@dataclass(frozen=True, slots=True)
class Example:
    """One row that can be scored.

    index: row number in the data set, from 0, in file order (files of a folder in name order).
    messages: the conversation; at least one non-empty assistant turn. Empty for plain text.
    text: the plain text of a `text` row, else None. tools: those that may be called, a list as
    JSON; "" for none.
    """

    index: int
    messages: tuple[Message, ...] = ()
    text: str | None = None
    tools: str = ""

    @property
    def prompt(self) -> str:
        """The last user turn, or "" where there is none."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def completion(self) -> str:
        """All that a student would be trained on: the assistant turns joined by newlines, or the
        plain text.
        """
        if self.text is not None:
            return self.text
        return "\n".join(m.text for m in self.messages if m.is_trained)


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """One row that cannot be scored, with the reason (a short snake_case word that reports count
    by).
    """

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What was read.

    name: as the user wrote it. format: "messages", "prompt_completion", "alpaca", "sharegpt" or
    "text". columns: role of each column used, e.g. {"prompt": "question"}. sha256: of the bytes (of
    the files' digests, for a folder). total: rows in the data set. sampling: one sentence that says
    how rows were chosen. unread: what a trainer may read and the audit did not.
    """

    name: str
    format: str
    columns: dict[str, str]
    sha256: str
    total: int
    sampling: str
    unread: tuple[Unread, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows an audit works on, in the random order in which it will take them, and what was left
    out. copies: how often an example stands among the rows looked at, by its index, where that is
    more than once. seed: of the order.
    """

    info: DatasetInfo
    examples: tuple[Example, ...]
    skipped: dict[str, int] = field(default_factory=dict)
    copies: dict[int, int] = field(default_factory=dict)
    seed: int = 0
