"""Folders of data: files of every kind beside those that are read, and names that lead away."""

from __future__ import annotations

import bz2
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import strategies as st

from tests.fuzz.drawing import drawn
from tests.fuzz.process import REPORT, SCAN, Case, check
from tests.fuzz.rows import COUNT, WRITERS, jsonl, parquet, plain, zipped

CLEAN, MORE = plain(), plain(start=COUNT)
LINES = jsonl(MORE)


def scan(build: Callable[[Path], object], passes: bool | None, rows: int | None = None) -> None:
    """Scan the folder `data`, which holds clean rows and what `build` puts beside them."""

    def whole(place: Path) -> None:
        folder = place / "data"
        folder.mkdir()
        (folder / "a.jsonl").write_bytes(jsonl(CLEAN))
        build(folder)

    arguments = (*SCAN, "--rows", "all", "--output", f"json={REPORT}", "--", "data")
    check(Case(arguments, whole, rows=rows, passes=passes, deadline=5, verdict="no_risk"))


def arrow(rows: list[dict[str, object]]) -> bytes:
    """Arrow's stream format, as `datasets` writes it."""
    table, sink = pa.Table.from_pylist(rows), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


# Files that hold forty more rows. A scan reads all of them or does not pass.
BESIDE: dict[str, tuple[str, bytes]] = {
    "hidden": (".b.jsonl", LINES),
    "hidden folder": (".b/b.jsonl", LINES),
    "folder": ("deep/er/b.jsonl", LINES),
    "arrow": ("b.arrow", arrow(MORE)),
    "arrow, cut": ("b.arrow", arrow(MORE)[:-300]),
    "bz2": ("b.jsonl.bz2", bz2.compress(LINES)),
    "xz": ("b.jsonl.xz", lzma.compress(LINES)),
    "xz, cut": ("b.jsonl.xz", lzma.compress(LINES)[:-30]),
    "gzip": ("b.jsonl.gz", zipped(LINES)),
    "text": ("b.txt", LINES),
    "no suffix": ("b", LINES),
    "partial": ("b.jsonl.part", LINES),
    "backup": ("b.jsonl~", LINES),
    "capitals": ("B.JSONL", LINES),
    "parquet by another name": ("b.bin", parquet(MORE)),
    "parquet as json lines": ("b.jsonl", parquet(MORE)),
    "json lines as parquet": ("b.parquet", LINES),
    "readme of rows": ("README.jsonl", LINES),
    "empty": ("b.jsonl", b""),
    "cut": ("b.parquet", parquet(MORE)[:-20]),
    "another layout": ("b.jsonl", jsonl(plain(layout="messages"))),
    "control characters": ("b\x1b[2J\n.jsonl", LINES),
    "a name that is no utf-8": ("b\udcff.jsonl", LINES),
    "pickle": ("b.pkl", b"\x80\x04N."),
    "zip": ("b.zip", b"PK\x05\x06" + b"\0" * 18),
    "archive of arrays": ("b.npz", b"PK\x05\x06" + b"\0" * 18),
}


@pytest.mark.parametrize("name", BESIDE)
def test_beside(name: str) -> None:
    """A pass has read every row of the folder."""
    path, content = BESIDE[name]

    def build(folder: Path) -> None:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    arguments = (*SCAN, "--rows", "all", "--output", f"json={REPORT}", "--", "data")

    def whole(place: Path) -> None:
        (place / "data").mkdir()
        (place / "data" / "a.jsonl").write_bytes(jsonl(CLEAN))
        build(place / "data")

    outcome = check(Case(arguments, whole, deadline=5, verdict="no_risk"))
    if outcome.code == 0:
        assert outcome.report is not None and outcome.report["rows"]["scanned"] == 2 * COUNT


@pytest.mark.parametrize(
    "name", ["README.md", "LICENSE", "dataset_infos.json", ".gitattributes", "notes.md"]
)
def test_documentation(name: str) -> None:
    """What is known not to be data does not stand in the way of a pass."""
    scan(lambda folder: (folder / name).write_text("{}\n"), passes=True, rows=COUNT)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": lambda folder: os.mkfifo(folder / "b.jsonl"),
    "hidden pipe": lambda folder: os.mkfifo(folder / ".b.jsonl"),
    "zeros": lambda folder: (folder / "b.jsonl").symlink_to("/dev/zero"),
    "nothing": lambda folder: (folder / "b.jsonl").symlink_to("/dev/null"),
    "dangling": lambda folder: (folder / "b.jsonl").symlink_to("nowhere"),
    "loop": lambda folder: (folder / "b.jsonl").symlink_to("b.jsonl"),
    "circle": lambda folder: (folder / "b").symlink_to("."),
    "the system": lambda folder: (folder / "b").symlink_to("/proc"),
    "folder by the name of a file": lambda folder: (folder / "b.jsonl").mkdir(),
    "depth": lambda folder: (folder / "/".join("d" * 200)).mkdir(parents=True),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_links_and_pipes(name: str) -> None:
    """What is no file is not waited for."""
    scan(SPECIAL[name], passes=None)


@pytest.mark.parametrize("target", ["file", "folder"])
def test_linked_rows(target: str) -> None:
    """Rows behind a link are rows."""

    def build(folder: Path) -> None:
        outside = folder.parent / "outside"
        outside.mkdir()
        (outside / "b.jsonl").write_bytes(LINES)
        link = "outside/b.jsonl" if target == "file" else "outside"
        (folder / ("b.jsonl" if target == "file" else "b")).symlink_to(f"../{link}")

    def whole(place: Path) -> None:
        (place / "data").mkdir()
        (place / "data" / "a.jsonl").write_bytes(jsonl(CLEAN))
        build(place / "data")

    arguments = (*SCAN, "--rows", "all", "--output", f"json={REPORT}", "--", "data")
    outcome = check(Case(arguments, whole, deadline=5, verdict="no_risk"))
    if outcome.code == 0:
        assert outcome.report is not None and outcome.report["rows"]["scanned"] == 2 * COUNT


@drawn(15, kinds=st.lists(st.sampled_from(sorted(WRITERS)), min_size=1, max_size=4))
def test_mixed(kinds: list[str]) -> None:
    """Files of several formats with the same columns are one data set."""

    def build(folder: Path) -> None:
        for number, kind in enumerate(kinds):
            name, write = WRITERS[kind]
            rows = plain(10, start=100 * (number + 1))
            (folder / f"{number}{name.removeprefix('d')}").write_bytes(write(rows))

    total = COUNT + 10 * len(kinds)
    # A file without a suffix may be read or named; the rest is read.
    scan(build, passes=None if "no-suffix" in kinds else True, rows=total)
