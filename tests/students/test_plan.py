"""The size of an experiment: blocks, budgets and checkpoints."""

from __future__ import annotations

import pytest

from auditor.errors import InputError
from auditor.students.plan import (
    MIN_UPDATES,
    Cost,
    Size,
    held_out,
    make_plan,
    share_of_added,
    size_of,
    within,
)


def test_blocks_are_disjoint_and_apart_from_the_held_out_rows() -> None:
    """Same seed, same blocks, whatever the order the rows come in; the checkpoints end with the
    whole run.
    """
    plan = make_plan(range(400), Size(3, 100, 7), (0.25, 0.5, 1.0), seed=0)
    taken = [number for block in plan.blocks for number in block]
    assert [len(block) for block in plan.blocks] == [100, 100, 100]
    assert len(set(taken)) == 300 and not set(taken) & set(plan.held_out)
    assert len(plan.held_out) == held_out(400) == 32
    assert plan.checkpoints == (0, 2, 4, 7)
    assert make_plan(reversed(range(400)), Size(3, 100, 7), (0.25, 0.5, 1.0), seed=0) == plan
    assert make_plan(range(400), Size(3, 100, 7), (1.0,), seed=1).blocks != plan.blocks


def test_size_by_the_rows_there_are() -> None:
    """All rows, and one pass or at least MIN_UPDATES, unless asked otherwise."""
    assert size_of(400, 3, None, None, 16) == Size(3, 122, MIN_UPDATES)
    assert size_of(9032, 3, None, None, 16) == Size(3, 3000, 187)
    assert size_of(400, 3, 64, 10, 16) == Size(3, 64, 10)


@pytest.mark.parametrize(
    ("available", "blocks", "rows"), [(100, 3, None), (400, 3, 150), (10, 1, None)]
)
def test_too_few_rows(available: int, blocks: int, rows: int | None) -> None:
    """Blocks of two batches at least, and of as many rows as asked for."""
    with pytest.raises(InputError, match="too few") as raised:
        size_of(available, blocks, rows, None, 16)
    assert raised.value.hint


def test_a_budget_gives_up_blocks_then_shortens_training() -> None:
    """By hand: six blocks of four students of 64 updates at 1 s, without readouts and writing, take
    1,536 s, and each block 256 s.
    """
    cost, wanted = Cost(1.0, 0.0, 0.0), Size(6, 1024, 64)
    assert wanted.seconds(cost, 4, 4) == 1536
    assert within(2000, wanted, cost, 4, 4, 16) == wanted
    assert within(1100, wanted, cost, 4, 4, 16) == Size(4, 1024, 64)
    assert within(384, wanted, cost, 4, 4, 16) == Size(3, 512, 32)
    assert within(97, wanted, cost, 4, 4, 16) == Size(3, 128, 8)
    with pytest.raises(InputError, match="about 2 min"):
        within(90, wanted, cost, 4, 4, 16)


def test_what_fits_costs_no_more_than_the_budget() -> None:
    """With readouts and the writing of the control counted."""
    cost, wanted = Cost(0.7, 0.3, 0.05), Size(5, 4096, 256)
    for budget in (90.0, 300.0, 1000.0):
        assert within(budget, wanted, cost, 3, 4, 16).seconds(cost, 3, 4) <= budget


def test_added_rows_are_dealt_out_in_proportion() -> None:
    """A block with a fifth of the other rows gets a fifth of the added ones, and each row is in one
    block.
    """
    dealt = [share_of_added(-1 - i, 3, 0.2, seed=0) for i in range(5000)]
    for block in range(3):
        assert dealt.count(block) == pytest.approx(1000, rel=0.1)
    assert dealt.count(None) == pytest.approx(2000, rel=0.1)
