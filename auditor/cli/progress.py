"""Progress on standard error: a live line on a terminal, else a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

from auditor.cli.logs import is_quiet
from auditor.progress import Progress
from auditor.report.shared.words import safe

PLAIN_SECONDS = 10.0

Show = Callable[[Progress], None]


@contextmanager
def progress_on(console: Console) -> Iterator[Show]:
    """A function that shows each `Progress` it is given on `console`, for as long as the context
    lasts.
    """
    if is_quiet():
        yield lambda _: None
    elif console.is_terminal:
        bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
        )
        with bar:
            yield _Live(bar)
    else:
        yield Plain(console)


class Plain:
    """Prints a line at the start of a stage and then at most every ten seconds."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._stage = ""
        self._began = self._printed = 0.0
        self._done_before = 0

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        if progress.stage != self._stage:
            # What a resumed run had finished before counts as done, but not for the speed.
            self._stage, self._began, self._done_before = progress.stage, now, progress.done
        elif now - self._printed < PLAIN_SECONDS:
            return
        self._printed = now
        self._console.print(
            Text(line(progress, progress.done - self._done_before, now - self._began))
        )


def line(progress: Progress, done: int, seconds: float) -> str:
    """One plain line; `done` rows in `seconds` give the speed and the time left.

    >>> line(Progress("scoring", 40, 100), 20, 10.0)
    'scoring: 40/100, 2.0 rows/s, 0:30 left'
    """
    stage = safe(progress.stage)
    if progress.total is None:
        return f"{stage}: {progress.done}" if progress.done else stage
    text = f"{stage}: {progress.done}/{progress.total}"
    if done <= 0 or seconds <= 0:
        return text
    remaining = round((progress.total - progress.done) * seconds / done)
    return f"{text}, {done / seconds:.1f} rows/s, {remaining // 60}:{remaining % 60:02d} left"


class _Live:
    """One live line a stage."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.stage not in self._tasks:
            # Stop the clock of a stage that ended early because its question was settled.
            for task in self._bar.tasks:
                if not task.finished:
                    self._bar.stop_task(task.id)
            self._tasks[progress.stage] = self._bar.add_task(
                safe(progress.stage), total=progress.total
            )
        self._bar.update(self._tasks[progress.stage], completed=progress.done, total=progress.total)


class _Rate(ProgressColumn):
    """Rows a second, where rows are counted."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        counts_rows = speed is not None and task.total is not None
        return Text(f"{speed:.1f} rows/s" if counts_rows else "", style="dim")
