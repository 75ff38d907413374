"""What a trainer may read of a data set and the audit did not: what was not read is not passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UnreadKind = Literal["file", "column", "layout", "turn key", "rows", "bytes"]

# Keys of a turn that chat templates write into what a student is trained on, beside its content.
RENDERED_KEYS = frozenset(
    {"function_call", "reasoning", "reasoning_content", "thinking", "tool_calls"}
)


@dataclass(frozen=True, slots=True)
class Unread:
    """Something of a data set that a trainer may read, and that the audit did not read.

    kind: a data file of a folder (documentation is none); a column with text; a second complete
    layout, which another trainer would train on and no option has settled; a key of a turn with
    text; rows, by what became of them ("set aside"); bytes of a file between its rows.
    name: of the file, the columns or the key, or the word for the rows; from outside, not `safe`.
    share: of the bytes of the data set for "file" and "bytes", else of its rows; in [0, 1], None
    where it cannot be said. reason: why it was not read, in words.
    """

    kind: UnreadKind
    name: str
    share: float | None
    reason: str

    @property
    def text(self) -> str:
        """The whole in words; not yet `safe`.

        >>> Unread("file", "b.arrow", 0.5, "Arrow files are not read").text
        'file b.arrow (50.0 % of the bytes): Arrow files are not read'
        """
        unit = "bytes" if self.kind in ("file", "bytes") else "rows"
        share = "" if self.share is None else f" ({100 * self.share:.1f} % of the {unit})"
        return f"{self.kind} {self.name}{share}: {self.reason}"
