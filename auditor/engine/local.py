"""The engine of one machine: this process does everything, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from auditor.engine.interface import A, EngineName, Pool, R, Tally, Tell, W


@dataclass(frozen=True)
class LocalEngine:
    """One worker, in this process."""

    name: EngineName = "local"

    @contextmanager
    def pool(
        self,
        make: Callable[[], AbstractContextManager[W]],
        *,
        most: int,
        on_device: bool,
        logs: Path,
    ) -> Iterator[Pool[W]]:
        """See `Engine.pool`."""
        with make() as worker:
            yield _LocalPool(worker)


@dataclass(frozen=True)
class _LocalPool(Generic[W]):
    worker: W
    size: int = 1

    def map(
        self,
        do: Callable[[W, A, Tell], R],
        items: Sequence[A],
        show: Callable[[Tally], None] = lambda _: None,
    ) -> Iterator[tuple[int, R]]:
        """See `Pool.map`."""
        before = 0
        for number, item in enumerate(items):
            here = 0

            def tell(rows: int, before: int = before, number: int = number) -> None:
                nonlocal here
                here = rows
                show(Tally(before + rows, number, len(items)))

            yield number, do(self.worker, item, tell)
            before += here
