"""What every reader yields: blocks of rows, read in batches, and one way to say that a file cannot
be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from auditor.data.coverage import Unread
from auditor.data.limits import IN_FORCE
from auditor.errors import InputError, first_line

Row = Mapping[str, object] | str
"""A row as it was read, or the reason (a `SkippedRow.reason`) why it could not be read."""

HEAD_ROWS = 100
BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a text file as it is written there.

    lead: the text between the record before and this one that is part of no row. raw: the text of
    the row itself; "" in the records after the last row, which bring only what follows it.
    """

    lead: str
    raw: str
    row: Row


class Batch(Protocol):
    """Consecutive rows, made into Python values only where `take` asks for them."""

    def __len__(self) -> int: ...

    def take(self, positions: Sequence[int]) -> list[Row]: ...


class Block(Protocol):
    """A stretch of rows that can be read by itself: a Parquet row group, a text file, a hub stream.

    rows: how many there are, or None where only reading tells.
    """

    @property
    def rows(self) -> int | None: ...

    def batches(self, columns: Sequence[str] | None, size: int = BATCH_ROWS) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: its name for messages, its blocks in order, and what is in none of
    them.
    """

    name: str
    blocks: tuple[Block, ...]
    unread: tuple[Unread, ...] = ()

    def head(self) -> list[Row]:
        """The first rows (up to 100), with every column."""
        for block in self.blocks:
            for batch in block.batches(None, HEAD_ROWS):
                return batch.take(range(len(batch)))
        return []


class DamagedError(ValueError):
    """Content that ends early or breaks its own format; says where."""


class AmbiguousError(InputError):
    """Content that readers of its format take in different ways, of which an audit of one would say
    nothing about the others.
    """

    def __init__(self, detail: str, name: str = "The data set") -> None:
        super().__init__(
            f"{name} can be read in more than one way: {detail}.",
            "Programs differ in which they take; write the file so that there is one.",
        )
        self.detail = detail


class OversizedError(InputError):
    """Content beyond one of the limits in force."""

    def __init__(self, detail: str, hint: str, name: str = "The data set") -> None:
        super().__init__(f"{name} is not read: {detail}.", hint)
        self.detail = detail


def oversized(what: str) -> OversizedError:
    """The error for a row, line or value that is larger than a row may be."""
    return OversizedError(
        f"{what} has more than {IN_FORCE.get().row_bytes:,} bytes",
        "Split or shorten it, or raise limits.row_bytes in the settings.",
    )


@contextmanager
def reading(name: str, *damaged: type[Exception]) -> Iterator[None]:
    """Turn what goes wrong while `name` is read into an InputError; `damaged`: the types that mean
    broken content.
    """
    try:
        yield
    except AmbiguousError as error:
        raise AmbiguousError(error.detail, name) from error
    except OversizedError as error:
        raise OversizedError(error.detail, error.hint, name) from error
    except PermissionError as error:
        raise InputError(
            f"No permission to read {name}.", "Make it readable (chmod +r), or copy it."
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"No such file: {name}.", "Check the path.") from error
    except damaged as error:
        raise _unreadable(name, error) from error
    except OSError as error:
        if error.errno is None:
            # Not an error of the system: gzip and pyarrow report broken content this way.
            raise _unreadable(name, error) from error
        raise InputError(
            f"{name} could not be read: {error.strerror}.", "Mend that and run again."
        ) from error


def _unreadable(name: str, error: Exception) -> InputError:
    detail = first_line(error)[:300].rstrip(".")
    return InputError(
        f"{name} is damaged, cut short or not of the type its name says ({detail}).",
        "Copy or download it again, or give the file the suffix of what it holds.",
    )
