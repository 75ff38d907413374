"""Progress on standard error: a live line on a terminal, else a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import (
    BarColumn,
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
    elif console.is_terminal or (console.is_jupyter and find_spec("ipywidgets")):
        bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", markup=False),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
        )
        with bar:
            live = _Live(bar)
            yield live
            live.end_stage()
    else:
        yield Plain(console)


def progress_bar() -> AbstractContextManager[Show]:
    """The same for programs that call the verbs as functions: what a verb takes as `progress`."""
    return progress_on(Console(stderr=True))


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
    """One plain line; `done` units in `seconds` give the speed and the time left.

    >>> line(Progress("scoring", 40, 100), 20, 10.0)
    'scoring: 40/100 rows, 2.0/s, 0:30 left'
    """
    text = ": ".join(filter(None, [safe(progress.stage), progress.count]))
    if progress.total is None or done <= 0 or seconds <= 0:
        return text
    remaining = round((progress.total - progress.done) * seconds / done)
    return f"{text}, {done / seconds:.1f}/s, {remaining // 60}:{remaining % 60:02d} left"


class _Live:
    """One live line a stage."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.stage not in self._tasks:
            self.end_stage()
            self._tasks[progress.stage] = self._bar.add_task(
                safe(progress.stage), total=progress.total, count=progress.count
            )
        self._bar.update(
            self._tasks[progress.stage],
            completed=progress.done,
            total=progress.total,
            count=progress.count,
        )

    def end_stage(self) -> None:
        """Stop the clock of the stage before, which may have ended early because its question was
        settled; where nothing told how long it is, its bar would go on to pulse and is filled.
        """
        for task in self._bar.tasks:
            if not task.finished:
                self._bar.stop_task(task.id)
            if task.total is None:
                self._bar.update(task.id, completed=1, total=1)


class _Rate(ProgressColumn):
    """What is counted a second, where it is known how much there is."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        is_counted = speed is not None and "/" in task.fields["count"]
        return Text(f"{speed:.1f}/s" if is_counted else "", style="dim")
