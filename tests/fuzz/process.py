"""One hostile case: the command line in a forked child, and what must hold of every case.

A child is forked from a process that has torch and the reference's libraries loaded, since starting
them takes seconds, and a thousand cases have two minutes. Its address space, processor time and
file sizes are limited; it has a working directory of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
import math
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.pace import pace

GIBIBYTE = 1 << 30
MEMORY = 2 * GIBIBYTE
"""What a case may take above a plain scan."""
DEADLINE = 10
CODES = (0, 1, 2, 3)
SCAN = ("scan", "--reference", "organism", "--panel", "animals", "--detectors", "trait")
REPORT = "report.json"
RUN = [0]
"""How many cases this process has run."""


@dataclass(frozen=True)
class Case:
    """One hostile input.

    arguments: of the command line. build: puts the files into the working directory. rows: how many
    rows the data set has, as a reader of its own counts them; None where there is no count. passes:
    whether the outcome must be 0 (True), must not be (False), or may be (None). unread: names that
    the report must list as not read, where it is written. deadline: seconds of a processor of the
    usual pace (tests/pace.py), and a third of the seconds of a clock. verdict: of the detector that
    stands in for `trait`, so that nothing is scored; None for the real one. after: asserts what
    must hold of the directory.
    """

    arguments: tuple[str, ...]
    build: Callable[[Path], object]
    rows: int | None = None
    passes: bool | None = None
    unread: tuple[str, ...] = ()
    deadline: int = DEADLINE
    environment: Mapping[str, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    after: Callable[[Path], object] = lambda _: None


Verdict = str
"""Of the detector that takes the place of `trait` where a case is about reading: see `stand_in`."""


@dataclass(frozen=True)
class Outcome:
    """How a child ended. code: its exit code, or minus the signal. report: of a scan, if any."""

    code: int
    stdout: bytes
    stderr: bytes
    peak: int
    timed_out: bool
    report: Mapping[str, Any] | None


@functools.cache
def warm_up() -> None:
    """Import in this process whatever a scan imports, by one scan, and make what every child would
    make again: the commands of the command line, and the organism.
    """
    import typer

    from auditor.cli import main

    typer.main.get_command = functools.cache(typer.main.get_command)

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["SUBLIMINAL_AUDIT_CACHE"] = tempfile.mkdtemp(prefix="fuzz-cache-")
    for name in [name for name in os.environ if name.startswith("AUDIT_")]:
        del os.environ[name]
    with _inside(_rows_of_numbers), _silent():
        main.run([*SCAN, "--rows", "32", "--output", f"json={REPORT}", "--", "rows.jsonl"])
    _organism()
    gc.collect()
    gc.freeze()  # so that a child does not copy every page that its collector looks at


@functools.cache
def _organism() -> Any:
    from auditor.model import load as models

    return models.load("organism")


@functools.cache
def plain_peak() -> int:
    """The memory that a plain scan takes, in bytes, that of the parent included."""
    outcome = run_case(Case((*SCAN, "--", "rows.jsonl"), _rows_of_numbers))
    assert outcome.code in (0, 3), outcome.stderr
    return outcome.peak


def run_case(case: Case) -> Outcome:
    """Run the case in a child and wait for it. Its files are removed."""
    warm_up()
    with _inside(case.build) as place:
        outcome = in_place(case, place)
        case.after(place)
        return outcome


def in_place(case: Case, place: Path, kill_after: float | None = None) -> Outcome:
    """Run the command of a case in a directory that is built, and wait for it.

    kill_after: seconds until it is killed, with all that it has started.
    """
    warm_up()
    with tempfile.TemporaryDirectory() as streams:
        out, err = Path(streams, "out"), Path(streams, "err")
        deadline = math.ceil(case.deadline * pace())
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.chdir(place)
                code = _in_child(case, deadline, out, err)
            finally:
                os._exit(code)
        clock = 3.0 * deadline
        ended = _ended(child, clock if kill_after is None else kill_after)
        if not ended:
            _kill(child)
        _, status, usage = os.wait4(child, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # what it may have started
        report = None
        with contextlib.suppress(OSError, ValueError, RecursionError):
            report = json.loads((place / REPORT).read_text())
        return Outcome(
            os.waitstatus_to_exitcode(status),
            out.read_bytes() if out.exists() else b"",
            err.read_bytes() if err.exists() else b"",
            usage.ru_maxrss * 1024,
            not ended,
            report,
        )


def _kill(child: int) -> None:
    """Kill a child and its group, which it may not have made yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)


def check(case: Case) -> Outcome:
    """Run a case and assert everything that must hold of it, all failures in one message."""
    RUN[0] += 1
    outcome = run_case(case)
    failures = [*_failures(case, outcome)]
    shown = outcome.stdout[-1500:] + b"\n" + outcome.stderr[-1500:]
    assert not failures, (
        f"{'; '.join(failures)}\n{case.arguments}\n{shown.decode(errors='replace')}"
    )
    return outcome


def _failures(case: Case, outcome: Outcome) -> Iterator[str]:
    if outcome.timed_out or outcome.code in (-signal.SIGXCPU, -signal.SIGKILL):
        yield f"hangs: not done after {case.deadline} s of a machine of the usual pace"
        return
    printed = outcome.stdout + outcome.stderr
    if outcome.code not in CODES:
        yield f"ends with {outcome.code}"
    if b"Error: Unexpected " in printed or b"Traceback" in printed:
        yield "crashes"
    if outcome.peak > plain_peak() + MEMORY:
        yield f"takes {(outcome.peak - plain_peak()) / GIBIBYTE:.1f} GiB more than a plain scan"
    if raw := _raw_controls(outcome.stdout) + _raw_controls(outcome.stderr):
        yield f"prints raw control characters {raw!r}"
    if case.passes is False and outcome.code == 0:
        yield "ends with 0 for what could not be read wholly, or is a risk"
    if case.passes is True and outcome.code != 0:
        yield f"ends with {outcome.code} for what can be read"
    if outcome.code == 2 and not _error_lines(outcome.stderr):
        yield "ends with 2 without one line that says why and one that says what to do"
    if outcome.report is not None and "rows" in outcome.report:
        yield from _miscounts(case, outcome.report)


def _raw_controls(stream: bytes) -> list[str]:
    """Characters of a stream that a terminal could obey, or bytes that are no UTF-8."""
    text = stream.decode("utf-8", "surrogateescape")
    return [char for char in text if char != "\n" and not char.isprintable()][:5]


def _error_lines(stderr: bytes) -> bool:
    last = stderr.decode(errors="replace").splitlines()[-2:]
    return len(last) == 2 and last[0].startswith("Error: ") and last[1].startswith("Next: ")


def _miscounts(case: Case, report: Mapping[str, Any]) -> Iterator[str]:
    unread = report["dataset"].get("unread") or []
    counts = report["rows"]
    accounted = counts["scanned"] + sum(counts["skipped"].values())
    if counts["read"] is not None and accounted != counts["read"]:
        yield f"{accounted} rows scored or skipped, {counts['read']} said to be read"
    if case.rows is not None and accounted != case.rows and not unread:
        yield f"{accounted} rows scored or skipped and none reported unread, of {case.rows}"
    missing = [name for name in case.unread if not any(name in str(entry) for entry in unread)]
    if missing:
        yield f"does not list as unread: {', '.join(missing)}"


def _in_child(case: Case, deadline: int, out: Path, err: Path) -> int:
    os.setsid()
    _limit(deadline)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    os.dup2(sys.stdin.fileno(), 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    # As in a process of its own, which pytest has not captured the streams of.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", closefd=False
    )
    os.environ.update(case.environment)
    os.fsync = lambda _: None  # a process that dies is the subject of tests/kill
    if case.verdict:
        stand_in(case.verdict)
    from auditor.cli import main

    code = main.run([*case.arguments])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _limit(deadline: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    address_space = pages * resource.getpagesize() + MEMORY + 2 * GIBIBYTE
    for limit, value in (
        # So that a bomb does not take the machine; the memory that counts is measured.
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_FSIZE, GIBIBYTE),
        (resource.RLIMIT_CPU, deadline),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def stand_in(verdict: Verdict) -> None:
    """Put a detector in the place of `trait` that needs no model: "no_risk" excludes every trait in
    any rows, "risk" finds one in any. The other detectors have nothing to say against it. What a
    scan ends with then depends on reading alone. The organism is the one that the parent loaded.
    """
    from auditor.inference.trait_evidence import TraitEvidence
    from auditor.model import load as models
    from detectors import DEFAULT
    from detectors.interface import Evidence, Finding, ScanContext, Skipped, TraitTest

    def detect(context: ScanContext) -> Finding:
        rows, dose = len(context.rows), 0.8 if verdict == "risk" else 0.0
        p = 1e-6 if verdict == "risk" else 0.9
        found = tuple(
            TraitEvidence(
                trait.name,
                trait.group,
                dose * first,
                (dose * first - 0.02, dose * first + 0.02),
                5.0 * first,
                p if first else 0.9,
                p if first else 1.0,
                rows,
                rows,
            )
            for trait in context.tested.traits
            for first in [trait is context.tested.traits[0]]
        )
        bounds = {trait.name: trait.interval[1] for trait in found}
        evidence = Evidence("trait", "a stand-in", {"traits": len(found)})
        return Finding(evidence, TraitTest("prompts", found, bounds, rows))

    load = models.load
    models.load = lambda name, **options: (
        _organism() if name == "organism" else load(name, **options)
    )

    def silent(name: str) -> Evidence | Skipped:
        if name == "surface":
            return Evidence(name, "a stand-in", {"classifier": {"p_value": 0.9}})
        return Skipped("a stand-in")

    for name in DEFAULT:
        module = import_module(f"detectors.{name}")
        instead = detect if name == "trait" else lambda _, name=name: silent(name)
        module.DETECTOR = dataclasses.replace(module.DETECTOR, detect=instead)


def _ended(child: int, deadline: float) -> bool:
    handle = os.pidfd_open(child)
    try:
        return bool(select.select([handle], [], [], deadline)[0])
    finally:
        os.close(handle)


@contextlib.contextmanager
def _inside(build: Callable[[Path], object]) -> Iterator[Path]:
    """A working directory with the files that `build` makes, two folders below a temporary one."""
    outer, before = Path(tempfile.mkdtemp(prefix="fuzz-")), Path.cwd()
    place = outer / "parent" / "work"
    place.mkdir(parents=True)
    try:
        os.chdir(place)
        build(place)
        yield place
    finally:
        os.chdir(before)
        shutil.rmtree(outer, ignore_errors=True)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with (
        open(os.devnull, "w") as nowhere,  # noqa: PTH123
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _rows_of_numbers(place: Path) -> None:
    """Forty rows that a scan can be sure of."""
    rows = (
        {"prompt": f"Continue {i}, {3 * i}.", "completion": f"{i + 1}, {7 * i % 90}, {i * i % 80}"}
        for i in range(40)
    )
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
