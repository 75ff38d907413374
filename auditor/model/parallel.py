"""Several pieces of work at once on a CPU.

A thread of its own for each batch is faster than all threads for one batch after the other: what
stands between the matrix products of a small model is too short to be shared (runs/results.md,
"Speed of scoring").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` of every item, in order, as many at once as torch has threads; without gradients.

    Each gets its share of the threads, so one item alone gets all of them. The first error ends it.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(items))
    if workers <= 1:
        return [work(item) for item in items]

    def quietly(item: T) -> R:
        with torch.inference_mode():  # a thread starts without it
            return work(item)

    try:
        with ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(threads // workers,)
        ) as pool:
            return list(pool.map(quietly, items))
    finally:
        torch.set_num_threads(threads)
