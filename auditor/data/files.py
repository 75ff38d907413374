"""The files and blocks of a source that a user names: a file, a folder, stdin or a hub data set."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from auditor.data.batches import Block, DataFile, reading
from auditor.data.hub import hub_split, is_hub_name
from auditor.data.parquet import MAGIC, parquet_file
from auditor.data.text import TextFile, text_kind
from auditor.errors import InputError

SUFFIXES = {
    ".parquet": ".parquet",
    ".jsonl": ".jsonl",
    ".ndjson": ".jsonl",
    ".json": ".json",
    ".csv": ".csv",
    ".tsv": ".tsv",
}
_KINDS = "Parquet, JSONL, JSON, CSV or TSV"
# A hub stream has no end that one could wait for; at least this many of its first rows are read.
_HUB_ROWS = 100_000


@dataclass(frozen=True)
class Source:
    """An opened data set.

    sha256: of the file's bytes, of the (relative name, digest) pairs of a folder; None for a hub
    data set. total: number of rows if known without reading. note: what `DatasetInfo.sampling` has
    to add, or "".
    """

    name: str
    files: tuple[DataFile, ...]
    sha256: str | None
    total: int | None = None
    note: str = ""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in file order."""
        return tuple(block for file in self.files for block in file.blocks)


@contextmanager
def open_source(
    source: str, *, rows: int | None, stdin: BinaryIO | None = None
) -> Iterator[Source]:
    """Yield the data set that `source` names; a spooled stdin is removed afterwards.

    rows: how many rows the caller wants (None: all); only a hub data set is cut by it. Raises
    InputError.
    """
    path = Path(source)
    with reading(source):
        is_pipe, is_folder, exists = path.is_fifo(), path.is_dir(), path.exists()
    if source == "-" or is_pipe:
        name = "standard input" if source == "-" else source
        with tempfile.TemporaryDirectory() as folder:
            # A pipe, such as <(zcat ...), can be read only once, and a data set is read at least
            # twice: for its digest and for its rows.
            copy = Path(folder) / "stdin"
            with (
                reading(name),
                nullcontext(stdin or sys.stdin.buffer)
                if source == "-"
                else path.open("rb") as pipe,
                copy.open("wb") as target,
            ):
                shutil.copyfileobj(pipe, target, 1 << 20)
            yield Source(source, (_data_file(copy, name),), _digest(copy, name))
    elif is_folder:
        yield _folder(source, path)
    elif exists:
        yield Source(source, (_data_file(path, source),), _digest(path, source))
    else:
        yield _hub(source, rows)


def digest_of(source: str) -> str:
    """SHA-256 of a data set on this machine, as `Source.sha256`. Raises InputError."""
    with open_source(source, rows=None) as data:
        return data.sha256 or ""


def _folder(source: str, folder: Path) -> Source:
    def fail(error: OSError) -> None:
        raise error  # a subfolder that may not be read must not be left out in silence

    names = []
    with reading(source):
        for parent, folders, files_there in os.walk(folder, onerror=fail):
            # Hidden files and folders, such as caches and checkpoints of notebooks, are no data.
            folders[:] = [name for name in folders if not name.startswith(".")]
            names += [
                Path(parent, name).relative_to(folder).as_posix()
                for name in files_there
                if not name.startswith(".") and suffix_of(Path(name)) in SUFFIXES
            ]
    names.sort()
    if not names:
        raise InputError(
            f"The folder {source} holds no data file.", f"It should hold {_KINDS} files."
        )
    pairs = "".join(f"{name}\0{_digest(folder / name, name)}\n" for name in names)
    files = tuple(_data_file(folder / name, f"{source.rstrip('/')}/{name}") for name in names)
    return Source(
        source, files, hashlib.sha256(pairs.encode("utf-8", "surrogateescape")).hexdigest()
    )


def _hub(source: str, rows: int | None) -> Source:
    if not is_hub_name(source):
        raise InputError(
            f"No such file or folder: {source}.",
            "Check the path; a hub data set is named owner/name.",
        )
    limit = None if rows is None else max(_HUB_ROWS, 2 * rows)
    split, split_name, total = hub_split(source, limit)
    cut = limit is not None and (total is None or total > limit)
    first = f", at most its first {limit:,} rows" if cut else ""
    note = f"; streamed from the hub's split {split_name}{first}; sha256 is of the rows used"
    return Source(source, (DataFile(source, (split,)),), None, total, note)


def suffix_of(path: Path) -> str:
    """The suffix of a file's name in lower case, that of a gzipped file without ".gz"."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _data_file(path: Path, name: str) -> DataFile:
    with reading(name), path.open("rb") as stream:
        magic = stream.read(len(MAGIC))
    if not magic:
        raise InputError(f"{name} is empty.", f"Give a {_KINDS} file with rows.")
    kind = SUFFIXES.get(suffix_of(path), "")
    if magic == MAGIC or kind == ".parquet":
        return parquet_file(path, name)
    return DataFile(name, (TextFile(path, name, text_kind(path, name, kind)),))


def _digest(path: Path, name: str) -> str:
    with reading(name), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
