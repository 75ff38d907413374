"""One experiment in several processes: what `accelerate launch` sets up, with a device for each.

Processes share the run directory. Each trains its part of a block's students and keeps them there;
then all wait for one another and read what the others trained, so that every process comes to the
same result, and only the first one reports.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from accelerate import PartialState


T = TypeVar("T")


def count() -> int:
    """How many processes work on this experiment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def number() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def is_first() -> bool:
    """Whether this process decides, writes and reports."""
    return number() == 0


def wait() -> None:
    """Return when all processes have come here."""
    if count() > 1:
        _state()
        # Not accelerate's own, which names a GPU by the process's number: several processes may
        # share one.
        import torch

        torch.distributed.barrier()


def in_turn(work: Callable[[], T]) -> T:
    """What `work` returns: the first process does it and keeps it in the store; the others then
    find it there.
    """
    # Two processes that compute at once would write the same files, and may decide differently.
    if is_first():
        result = work()
        wait()
        return result
    wait()
    return work()


def device(requested: str | None) -> str | None:
    """The device of this process: with several GPUs one for each process; otherwise `requested`."""
    if count() > 1 and requested in (None, "cuda") and _state().device.type == "cuda":
        return str(_state().device)
    return requested


@cache
def _state() -> PartialState:
    # Imported late: it takes a second, and is needed under `accelerate launch` only.
    from accelerate import PartialState

    return PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true")
