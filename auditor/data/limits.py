"""How large what is read may be: a small hostile file must not take much memory or time. A file
that exceeds a limit is one clear error.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of every reader of data files.

    row_bytes: of one row, one line or one value of a file; about four million tokens. expansion:
    how many bytes a compressed byte may become; text that repeats itself a lot reaches 50.
    expanded_bytes: below it the expansion does not matter. batch_bytes: of
    memory that rows of a Parquet file may take at a time, if each had the longest value of its
    dictionaries. nesting: of lists and groups in a Parquet column.
    """

    row_bytes: int = 16 << 20
    expansion: int = 100
    expanded_bytes: int = 64 << 20
    batch_bytes: int = 1 << 30
    nesting: int = 16


DEFAULTS = Limits()
# In one place for all readers, and no parameter of them: one that forgot to hand it on would read
# without the limits that somebody has set.
IN_FORCE: ContextVar[Limits] = ContextVar("limits in force", default=DEFAULTS)
