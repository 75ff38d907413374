"""The files and blocks of a source that a user names: a file, a folder or a pattern of files,
stdin, an address, or a hub data set.
"""

from __future__ import annotations

import glob
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from auditor.data.arrow_file import ArrowFile, is_arrow
from auditor.data.batches import Block, DataFile, reading
from auditor.data.coverage import Unread
from auditor.data.folder import (
    SUFFIXES,
    FileState,
    digest_of_file,
    list_folder,
    state_of,
    suffix_of,
)
from auditor.data.hub import hub_split, is_hub_name
from auditor.data.parquet import MAGIC, parquet_file
from auditor.data.remote import check_address, fetch, is_address
from auditor.data.text import TextFile, text_kind
from auditor.errors import InputError

_KINDS = "Parquet, JSONL, JSON, CSV, TSV or Arrow"
# A hub stream has no end that one could wait for; at least this many of its first rows are read.
_HUB_ROWS = 100_000


@dataclass(frozen=True)
class Source:
    """An opened data set.

    sha256: of the file's bytes, of the (relative name, digest) pairs of a folder; None for a hub
    data set. total: number of rows if known without reading. note: what `DatasetInfo.sampling` has
    to add, or "". unread_files: those of a folder that a trainer may load and that are not in
    `files`. revision: the commit of a hub data set. states: of the files on this machine before
    anything was read. broken: data files that cannot be read, where these are passed over.
    """

    name: str
    files: tuple[DataFile, ...]
    sha256: str | None
    total: int | None = None
    note: str = ""
    unread_files: tuple[Unread, ...] = ()
    revision: str = ""
    states: Mapping[Path, FileState] = field(default_factory=dict)
    broken: tuple[Unread, ...] = ()

    @property
    def digest(self) -> str:
        """What stands for the content: SHA-256, or the commit of a hub data set."""
        return self.sha256 or self.revision

    def check_unchanged(self) -> None:
        """Raise InputError where a file was changed since it was opened: what was read of it is
        then not what its SHA-256 says.
        """
        for path, before in self.states.items():
            with reading(str(path)):
                now = state_of(path)
            if now != before:
                raise InputError(
                    f"{path} was changed while it was read.", "Run again when it stays as it is."
                )

    @property
    def unread(self) -> tuple[Unread, ...]:
        """What of a folder or of a file is in none of the blocks."""
        columns = dict.fromkeys(item for file in self.files for item in file.unread)
        return (*self.unread_files, *columns)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in file order."""
        return tuple(block for file in self.files for block in file.blocks)


@contextmanager
def open_source(
    source: str,
    *,
    rows: int | None,
    stdin: BinaryIO | None = None,
    skips_broken: bool = False,
) -> Iterator[Source]:
    """Yield the data set that `source` names; a spooled stdin is removed afterwards.

    rows: how many rows the caller wants (None: all); only a hub data set is cut by it.
    skips_broken: a file of a folder that cannot be read is no error. Raises InputError, also where
    a file was changed before the work with it ended.
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
        opened = _folder(source, path, skips_broken=skips_broken)
        yield opened
        opened.check_unchanged()
    elif exists:
        if not path.is_file():
            raise InputError(f"{source} is no regular file.", "Give a file, a folder or a pipe.")
        with reading(source):
            states = {path: state_of(path)}
        file = _data_file(path, source)
        opened = Source(source, (file,), _digest(path, source), states=states)
        yield opened
        opened.check_unchanged()
    elif is_address(source):
        with tempfile.TemporaryDirectory() as folder:
            # A data set is read at least twice: for its digest and for its rows.
            copy = fetch(source, Path(folder))
            if copy.is_dir():
                yield _folder(source, copy)
            else:
                yield Source(source, (_data_file(copy, source),), _digest(copy, source))
    elif matches := matching(source):
        with reading(source):
            states = {path: state_of(path) for path in matches}
        files = tuple(_data_file(path, str(path)) for path in matches)
        pairs = "".join(f"{path}\0{_digest(path, str(path))}\n" for path in matches)
        sha256 = hashlib.sha256(pairs.encode("utf-8", "surrogateescape")).hexdigest()
        opened = Source(source, files, sha256, states=states)
        yield opened
        opened.check_unchanged()
    else:
        check_source(source)
        yield _hub(source, rows)


def matching(pattern: str) -> list[Path]:
    """The files that a pattern such as data/*.parquet stands for, in the order of their names; none
    where it is none.
    """
    if not glob.has_magic(pattern):
        return []
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 (a pattern may be absolute)
    return sorted(path for path in map(Path, names) if path.is_file())


def is_here(source: str) -> bool:
    """Tell whether `source` is a file, a folder or a pattern of files on this machine."""
    with reading(source):
        return Path(source).exists() or bool(matching(source))


def check_source(source: str) -> None:
    """Raise InputError where `source` can be no data set by its name alone, before anything that
    takes time: there is no such file or folder, and a hub data set has another name.
    """
    if is_address(source):
        check_address(source)
    elif source != "-" and not is_here(source) and not is_hub_name(source):
        hint = "Check the path; a hub data set is named owner/name, or owner/name:config/split."
        if glob.has_magic(source):
            hint = "No file fits the pattern; check it, or give a folder."
        raise InputError(f"No such file or folder: {source}.", hint)


def digest_of(source: str, *, skips_broken: bool = False) -> str:
    """SHA-256 of a data set on this machine, as `Source.sha256`. Raises InputError."""
    with open_source(source, rows=None, skips_broken=skips_broken) as data:
        return data.sha256 or ""


def _folder(source: str, folder: Path, *, skips_broken: bool = False) -> Source:
    if (folder / "_versions").is_dir() and any(folder.glob("data/*.lance")):
        raise _lance(source)
    listing = list_folder(folder)
    if not listing.names:
        beside = f", but {listing.unread[0].text}" if listing.unread else ""
        raise InputError(
            f"The folder {source} holds no data file that can be read{beside}.",
            f"It should hold {_KINDS} files.",
        )
    prefix = source.rstrip("/")
    files, broken = [], []
    for name in listing.names:
        try:
            file = _data_file(folder / name, f"{prefix}/{name}")
            if skips_broken:
                file.head()
            files.append(file)
        except InputError as error:
            if not skips_broken:
                raise
            broken.append(Unread("file", name, listing.share_of(name), error.message))
    return Source(
        source,
        tuple(files),
        listing.sha256,
        unread_files=listing.unread,
        states={folder / name: state for name, state in listing.states.items()},
        broken=tuple(broken),
    )


def _hub(source: str, rows: int | None) -> Source:
    limit = None if rows is None else max(_HUB_ROWS, 2 * rows)
    split, split_name, total, revision = hub_split(source, limit)
    cut = limit is not None and (total is None or total > limit)
    first = f", at most its first {limit:,} rows" if cut else ""
    note = f"; streamed from the hub's split {split_name}{first}; sha256 is of the rows used"
    return Source(source, (DataFile(source, (split,)),), None, total, note, revision=revision)


def _data_file(path: Path, name: str) -> DataFile:
    with reading(name), path.open("rb") as stream:
        magic = stream.read(len(MAGIC))
    if not magic:
        raise InputError(f"{name} is empty.", f"Give a {_KINDS} file with rows.")
    if path.suffix == ".lance":
        raise _lance(name)
    kind = SUFFIXES.get(suffix_of(path), "")
    if magic == MAGIC or kind == ".parquet":
        return parquet_file(path, name)
    if is_arrow(path):
        return DataFile(name, (ArrowFile(path, name),))
    return DataFile(name, (TextFile(path, name, text_kind(path, name, kind)),))


def _lance(name: str) -> InputError:
    return InputError(
        f"{name} is of a Lance data set, which is not read.",
        "Write it as Parquet with the package pylance: "
        'pyarrow.parquet.write_table(lance.dataset("FOLDER").to_table(), "rows.parquet").',
    )


def _digest(path: Path, name: str) -> str:
    with reading(name):
        return digest_of_file(path)
