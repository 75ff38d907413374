"""Work in several threads: order, threads, and errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from auditor.model.parallel import parallel_map


@pytest.fixture
def four() -> Iterator[None]:
    """Four threads, and what there was before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four")
def test_results_come_in_order_and_threads_are_shared() -> None:
    """Two items are at work at once, with two of four threads each and without gradients; then all
    four are back.
    """
    both = threading.Barrier(2, timeout=20)

    def work(item: int) -> tuple[int, int, bool]:
        both.wait()
        return item, torch.get_num_threads(), torch.is_inference_mode_enabled()

    assert parallel_map(work, [7, 3]) == [(7, 2, True), (3, 2, True)]
    assert torch.get_num_threads() == 4
    assert parallel_map(lambda item: (item, torch.get_num_threads()), [5]) == [(5, 4)]
    assert parallel_map(str, []) == []


@pytest.mark.usefixtures("four")
def test_an_error_ends_it() -> None:
    """It is raised as it is, and the threads are back."""

    def work(item: int) -> None:
        raise ValueError(f"no {item}")

    with pytest.raises(ValueError, match="no 1"):
        parallel_map(work, [1, 2, 3])
    assert torch.get_num_threads() == 4
