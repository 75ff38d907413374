"""Run directories that somebody else made or damaged: nothing in them changes what a scan says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.drawing import drawn
from tests.fuzz.process import REPORT, SCAN, Case, check, in_place
from tests.fuzz.rows import jsonl, plain

SAME = (*SCAN, "--rows", "all", "--output", f"json={REPORT}", "--", "d.jsonl")


def finished(place: Path) -> None:
    """A data set with a trait, as the stand-in finds it, and the finished run of its scan."""
    (place / "d.jsonl").write_bytes(jsonl(plain()))
    assert in_place(Case(SAME, finished, verdict="risk"), place).code == 1
    (place / REPORT).unlink()


def run_of(place: Path) -> Path:
    """The directory of the one run there is."""
    (run,) = (path for path in (place / ".audit" / "runs").iterdir() if path.is_dir())
    return run


def again(change: Callable[[Path], object]) -> None:
    """Change the run directory, then scan again: the trait is found."""

    def build(place: Path) -> None:
        finished(place)
        change(place)

    outcome = check(Case(SAME, build, passes=False, deadline=4, verdict="risk"))
    assert outcome.code in (1, 2, 3)
    assert outcome.report is None or outcome.report["verdict"] == "risk"


names = st.sampled_from(["report.json", "settings.json", "../../last"])


@drawn(8, name=names, at=st.floats(0, 1))
def test_cut(name: str, at: float) -> None:
    """A file is cut short."""

    def change(place: Path) -> None:
        file = run_of(place) / name
        content = file.read_bytes()
        file.write_bytes(content[: int(at * len(content))])

    again(change)


@drawn(8, name=names, content=st.binary(max_size=100))
def test_noise(name: str, content: bytes) -> None:
    """A file holds bytes of no meaning."""
    again(lambda place: (run_of(place) / name).write_bytes(content))


OTHER = {
    "a list": b"[]",
    "an object": b"{}",
    "null": b"null",
    "a verdict alone": b'{"verdict": "no_risk"}',
    "a folder of the system": b'{"run": "/etc", "dataset": "/etc/passwd"}',
    "deep": b"[" * 100_000,
    "deep object": b'{"verdict":' * 50_000,
}


@pytest.mark.parametrize("name", ["report.json", "settings.json", "../../last"])
@pytest.mark.parametrize("content", OTHER)
def test_replaced(content: str, name: str) -> None:
    """A file holds JSON of another shape."""
    again(lambda place: (run_of(place) / name).write_bytes(OTHER[content]))


FORGED = {
    "verdict": lambda report: report | {"verdict": "no_risk", "trait": None, "risk": 0.0},
    "all of it": lambda report: (
        report | {"verdict": "no_risk", "trait": None, "risk": 0.0, "traits": [], "tests": []}
    ),
    "no detectors": lambda report: report | {"detectors": {}},
    "another version": lambda report: report | {"schema_version": 99},
    "texts for numbers": lambda report: report | {"rows": {"scanned": "x"}},
    "no settings": lambda report: {k: v for k, v in report.items() if k != "settings"},
}


@pytest.mark.parametrize("name", FORGED)
def test_forged(name: str) -> None:
    """The report in the run is believed only if this machine made it."""

    def change(place: Path) -> None:
        file = run_of(place) / "report.json"
        file.write_text(json.dumps(FORGED[name](json.loads(file.read_text()))))

    again(change)


def swap(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A change: something else in the place of a file of the run."""

    def change(place: Path) -> None:
        file = run_of(place) / name
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        make(file)

    return change


SPECIAL: dict[str, Callable[[Path], None]] = {
    f"{name} is {what}": swap(name, make)
    for name in ("report.json", "settings.json", "lock", "units")
    for what, make in {
        "a folder": lambda file: file.mkdir(),
        "a pipe": os.mkfifo,
        "endless": lambda file: file.symlink_to("/dev/zero"),
        "a loop": lambda file: file.symlink_to(file.name),
        "dangling": lambda file: file.symlink_to("nowhere"),
    }.items()
    if (name, what) != ("units", "a folder")
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special(name: str) -> None:
    """What is no file is neither waited for nor believed."""
    again(SPECIAL[name])


@pytest.mark.parametrize("name", ["report.json", "settings.json", "../../last"])
def test_links_are_not_written_through(name: str) -> None:
    """A link in the run directory that leads out of it leaves its target as it was."""

    def build(place: Path) -> None:
        finished(place)
        target = place.parent / "target"
        target.write_text("as it was")
        file = run_of(place) / name
        file.unlink()
        file.symlink_to(target)

    def after(place: Path) -> None:
        assert (place.parent / "target").read_text() == "as it was", "written through a link"

    check(Case(SAME, build, verdict="risk", after=after))
