"""What an engine is: it opens a pool of workers, and a pool does one thing to many items.

A worker is any value, such as an object that holds a model; each worker of a pool has one of its
own. Results come in any order, so whatever is done to an item must follow from the item alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

EngineName = Literal["local", "ray"]

W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)
A = TypeVar("A")
R = TypeVar("R")

Tell = Callable[[int], None]
"""Is told how many rows of an item are done."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a pool is. rows: done. items: done, of how many. workers: at work; None where there
    is one, this process.
    """

    rows: int
    items: int
    of: int
    workers: int | None = None

    @property
    def unit(self) -> str:
        """What is counted, for `auditor.progress.Progress`.

        >>> Tally(10, 3, 16, 2).unit
        'rows (3 of 16 shards, 2 workers)'
        """
        if self.workers is None:
            return "rows"
        return f"rows ({self.items} of {self.of} shards, {self.workers} workers)"


class Pool(Protocol[W_co]):
    """Workers that are ready."""

    @property
    def size(self) -> int:
        """How many workers there are."""

    def map(
        self,
        do: Callable[[W_co, A, Tell], R],
        items: Sequence[A],
        show: Callable[[Tally], None] = lambda _: None,
    ) -> Iterator[tuple[int, R]]:
        """What `do` returns of every item, with the number of the item, in any order."""


class Engine(Protocol):
    """Where the work is done."""

    @property
    def name(self) -> EngineName:
        """As the option names it."""

    def pool(
        self,
        make: Callable[[], AbstractContextManager[W]],
        *,
        most: int,
        on_device: bool,
        logs: Path,
    ) -> AbstractContextManager[Pool[W]]:
        """Workers, each from a call of `make`. most: of them that find work. on_device: each runs a
        model, for which it should have a device of its own. logs: a folder for what they log.
        """
