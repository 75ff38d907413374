"""What is said of a long command's time."""

from __future__ import annotations

import time

import pytest

from auditor.progress import Progress, announce_by_sample, duration


def test_durations() -> None:
    """Round, and in the unit that fits."""
    assert [duration(each) for each in (39.7, 700, 9000)] == ["40 s", "12 min", "2.5 h"]


def test_the_time_of_all_rows_follows_from_that_of_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows take 3 s, so 40 take a minute; no row takes no time, and is not tried."""
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def work() -> None:
        clock[0] += 3.0

    said: list[Progress] = []
    announce_by_sample(said.append, "scoring", 2, 40, work)
    announce_by_sample(said.append, "scoring", 0, 40, work)
    assert [progress.stage for progress in said] == ["scoring: about 60 s"] and clock == [103.0]
