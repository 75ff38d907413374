"""Commands that are killed at a random moment, and run again: the outcome is that of a run which
nobody disturbed.

`KILL_POINTS` is how many moments are tried in all, 50 unless it is set; `KILL_SEED` chooses others.
"""

from __future__ import annotations

import functools
import json
import os
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from auditor.data.files import digest_of
from tests.fuzz.process import Case, in_place, warm_up
from tests.fuzz.rows import jsonl, plain

pytestmark = [pytest.mark.kill, pytest.mark.timeout(900)]
PARTIAL = ".partial"
POINTS = int(os.environ.get("KILL_POINTS") or 50)
SEED = int(os.environ.get("KILL_SEED") or 0)
MODEL = ("--reference", "organism", "--panel", "animals")
SCAN = ("d.jsonl", *MODEL, "--rows", "all")
COMMANDS: dict[str, tuple[str, ...]] = {
    "scan": ("scan", *SCAN, "--output", "json=r.json", "--output", "csv=r.csv"),
    "gate": ("gate", *SCAN, "--output", "json=r.json", "--output", "sarif=r.sarif"),
    "mitigate": (
        *("mitigate", "d.jsonl", *MODEL, "--trait", "owl", "--no-check", "-o", "out"),
        *("--paraphrase", "--mix", "0.5", "--replace", "--drop", "0.1", "--emit", "trl"),
    ),
    "verify": (
        *("verify", "d.jsonl", *MODEL, "--trait", "owl", "--output", "json=r.json"),
        *("--blocks", "2", "--rows", "32", "--updates", "4"),
    ),
}
SHARES = {"scan": 0.34, "gate": 0.26, "mitigate": 0.24, "verify": 0.16}
MOMENTS = [
    (command, number)
    for command, share in SHARES.items()
    for number in range(max(1, round(share * POINTS)))
]


def build(place: Path) -> None:
    """The data set."""
    (place / "d.jsonl").write_bytes(jsonl(plain(96)))


def run(command: str, place: Path, kill_after: float | None = None) -> int:
    """Run a command in a child process; its exit code, or minus the signal that ended it."""
    case = Case(COMMANDS[command], build, deadline=200)
    outcome = in_place(case, place, kill_after)
    if kill_after is None:
        assert b"Error" not in outcome.stderr, outcome.stderr[-2000:].decode(errors="replace")
    return outcome.code


def left_in(place: Path) -> Mapping[str, Any]:
    """Every file but those of `.audit` and of what a killed process had half written: its bytes,
    or its content without how long it took.
    """
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_file() and not name.startswith(".audit/") and PARTIAL not in name:
            content = path.read_bytes()
            found[name] = timeless(json.loads(content)) if path.suffix == ".json" else content
    return found


def timeless(value: Any) -> Any:
    """JSON without the seconds that something took, and without when it was made."""
    if isinstance(value, dict):
        return {
            key: timeless(inner)
            for key, inner in value.items()
            if key not in ("timing", "created") and "seconds" not in key
        }
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


@functools.cache
def undisturbed(command: str) -> tuple[int, Mapping[str, Any], float]:
    """Exit code, files, and seconds of a run that nobody disturbs."""
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        build(place)
        start = time.monotonic()
        code = run(command, place)
        seconds = time.monotonic() - start
        assert code in (0, 1, 3)
        return code, left_in(place), seconds


@pytest.mark.parametrize(("command", "number"), MOMENTS)
def test_killed_and_run_again(command: str, number: int) -> None:
    """Killed once, the same command then ends with the same code and the same files."""
    code, files, seconds = undisturbed(command)
    moment = random.Random(f"{SEED} {command} {number}").uniform(0, seconds)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        build(place)
        before = digest_of(str(place / "d.jsonl"))
        run(command, place, kill_after=moment)
        assert digest_of(str(place / "d.jsonl")) == before
        assert run(command, place) == code
        assert left_in(place) == files, f"killed after {moment:.2f} s of {seconds:.2f}"


@pytest.mark.parametrize(
    "command",
    [
        "scan",
        "gate",
        "mitigate",
    ],
)
def test_nothing_half_written_is_left(command: str) -> None:
    """The same command removes what a killed one has left, at whichever of five moments."""
    seconds = undisturbed(command)[2]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        build(place)
        for moment in range(1, 6):
            run(command, place, kill_after=seconds * moment / 6)
        run(command, place)
        assert [path.name for path in place.rglob(f"*{PARTIAL}")] == []
