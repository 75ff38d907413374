"""The files of a folder: those that are read, those that hold no data, and those that a trainer may
load and the audit does not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from auditor.data.batches import reading
from auditor.data.compression import SUFFIXES as COMPRESSED
from auditor.data.coverage import Unread

SUFFIXES = {
    ".parquet": ".parquet",
    ".arrow": ".arrow",
    ".feather": ".arrow",
    ".jsonl": ".jsonl",
    ".ndjson": ".jsonl",
    ".json": ".json",
    ".csv": ".csv",
    ".tsv": ".tsv",
}

# Files that `datasets` itself passes over, and those that it writes beside the data.
_BESIDE_DATA = {"readme.md", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
_STATE_KEYS = {
    "_data_files",
    "_fingerprint",
    "_format_columns",
    "_format_kwargs",
    "_format_type",
    "_indexes",
    "_output_all_columns",
    "_split",
}
_TOOL_FILES = {
    ".ds_store",
    ".editorconfig",
    ".git",
    ".gitattributes",
    ".gitignore",
    ".gitkeep",
    ".gitmodules",
    ".dockerignore",
    "dockerfile",
    "makefile",
    "pyproject.toml",
    "thumbs.db",
}
_DOCUMENTS = re.compile(
    r"(readme|licen[cs]e|copying|copyright|notice|changelog|changes|contributing|contributors|"
    r"authors|maintainers|citation|codeowners|security|code_of_conduct|datasheet|dataset_card|"
    r"data_card|terms|disclaimer|acknowledge?ments|requirements|constraints)"
    r"([-_.][a-z]{2})?(\.md|\.txt|\.rst|\.cff|\.bib)?"
)
# Text that neither `datasets` nor pandas loads as rows by itself.
_TEXTS = {".md", ".rst", ".yaml", ".yml", ".py", ".sh", ".cfg", ".ini", ".cff", ".bib"}
# Of these `datasets` makes rows where no other kind of file is as frequent.
_LOADED_TEXTS = {".md", ".txt", ".toml"}
_IMAGES = {
    ".png": b"\x89PNG",
    ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
    ".gif": b"GIF8",
}
# Folders of tools, in which only files with a suffix of data count.
_TOOL_FOLDERS = {
    ".audit",
    ".cache",
    ".dvc",
    ".git",
    ".github",
    ".gitlab",
    ".hg",
    ".idea",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".svn",
    ".venv",
    ".vscode",
    "__pycache__",
}
# The names of splits by which `datasets` chooses the files of a folder.
_SPLIT = re.compile(
    r"(^|[-._ /0-9])(train|training|valid|validation|val|dev|test|testing|eval|evaluation)"
    r"([-._ /0-9]|$)"
)
_ROWS = re.compile(rb"(\xef\xbb\xbf)?\s*(\{\s*\"|\[\s*[{\[])")
_HEAD_BYTES = 4096
_STATE_BYTES = 1 << 16
_DATA, _NO_DATA = "data", "no data"


FileState = tuple[int, int, int, int, int]
"""Device, inode, size and the times of the last change, as `os.stat` has them."""


@dataclass(frozen=True)
class Listing:
    """names: of the data files, relative to the folder and sorted. unread: what a trainer may load
    beside them. sha256: of the pairs of a name and the digest of its file, of both kinds. states:
    of the data files before their digests were made.
    """

    names: tuple[str, ...]
    unread: tuple[Unread, ...]
    sha256: str
    states: Mapping[str, FileState]

    def share_of(self, name: str) -> float:
        """The share of a data file in the bytes of all of them."""
        sizes = {name: state[2] for name, state in self.states.items()}
        return sizes[name] / max(1, sum(sizes.values()))


def suffix_of(path: Path) -> str:
    """The suffix of a file's name in lower case, that of a compressed file without its last one."""
    name = path.name.lower()
    packing = next((suffix for suffix in COMPRESSED if name.endswith(suffix)), "")
    return Path(name.removesuffix(packing)).suffix


def list_folder(folder: Path) -> Listing:
    """Every file below a folder, hidden ones and links too.

    Data files are read whatever their folder. Documents, images, and the files of tools such as Git
    and of `datasets` hold no data; a text that looks like JSON rows does, and so do documents of
    which `datasets` would make rows, since they are more than the data files or bear the name of a
    split. All else is unread: other types, links to folders, what is no regular file.
    """
    kinds: dict[str, str] = {}
    with reading(str(folder)):
        for path in _files_below(folder):
            kinds[path.relative_to(folder).as_posix()] = _kind_of(path, folder)
    loaders_choice = _documents_for_data(kinds)
    kinds |= dict.fromkeys(loaders_choice, "`datasets` may take such a file of the folder for data")
    sizes = {
        name: (folder / name).stat(follow_symlinks=kind == _DATA).st_size
        for name, kind in kinds.items()
        if kind != _NO_DATA
    }
    names = sorted(name for name, kind in kinds.items() if kind == _DATA)
    unread = sorted(sizes.keys() - set(names))
    with reading(str(folder)):
        states = {name: state_of(folder / name) for name in names}
        pairs = [f"{name}\0{digest_of_file(folder / name)}\n" for name in names]
        pairs += [f"{name}\0unread\0{_digest_of_unread(folder / name)}\n" for name in unread]
    total = sum(sizes.values())
    return Listing(
        tuple(names),
        tuple(Unread("file", n, sizes[n] / total if total else None, kinds[n]) for n in unread),
        hashlib.sha256("".join(pairs).encode("utf-8", "surrogateescape")).hexdigest(),
        states,
    )


def state_of(path: Path) -> FileState:
    """The state of a file, which differs after any change of it."""
    now = path.stat()
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def digest_of_file(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of_unread(path: Path) -> str:
    """What stands for the content of a file that is not read, also where it cannot be."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_file():
        return "no regular file"
    try:
        return digest_of_file(path)
    except PermissionError:
        return "no permission"


def _files_below(folder: Path) -> Iterator[Path]:
    """All that is no folder, and links to folders, which are not followed."""

    def fail(error: OSError) -> None:
        raise error  # a subfolder that may not be read must not be left out in silence

    for parent, folders, files in os.walk(folder, onerror=fail):
        yield from (Path(parent, name) for name in files)
        yield from (path for name in folders if (path := Path(parent, name)).is_symlink())


def _kind_of(path: Path, folder: Path) -> str:
    """_DATA, _NO_DATA, or why a file is not read."""
    name, suffix = path.name.lower(), suffix_of(path)
    folders = path.relative_to(folder).parts[:-1]
    if (".audit" in folders[:-1] and "runs" in folders) or name in _BESIDE_DATA:
        return _NO_DATA  # what this program keeps, and what `datasets` passes over
    if suffix not in SUFFIXES and (name in _TOOL_FILES or not _TOOL_FOLDERS.isdisjoint(folders)):
        return _NO_DATA
    if path.is_symlink() and (path.is_dir() or not path.exists()):
        return "a link to a folder is not followed" if path.is_dir() else "a link to nothing"
    if not path.is_file():
        return "it is no regular file"
    if suffix in SUFFIXES:
        return _NO_DATA if name == "state.json" and _is_state(path) else _DATA
    return _kind_by_content(path, suffix)


def _kind_by_content(path: Path, suffix: str) -> str:
    """The same for a file that no suffix of data tells."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except PermissionError:
        return "there is no permission to read it"
    if suffix in _IMAGES and head.startswith(_IMAGES[suffix]):
        return _NO_DATA
    if _ROWS.match(head):
        return "it looks like rows of JSON, and its name has no suffix of data"
    if suffix in _TEXTS or _DOCUMENTS.fullmatch(path.name.lower()):
        return _NO_DATA
    return f"files of the type {suffix} are not read" if suffix else "its name has no suffix"


def _is_state(path: Path) -> bool:
    """Tell whether a file is what `datasets` keeps beside a data set that it saved."""
    try:
        state = json.loads(path.read_bytes()) if path.stat().st_size < _STATE_BYTES else None
    except (ValueError, RecursionError):
        return False
    return isinstance(state, dict) and state.keys() <= _STATE_KEYS


def _documents_for_data(kinds: Mapping[str, str]) -> list[str]:
    """The documents that `datasets` would load in place of the data: it takes the type with most
    files, and names of splits before all others.
    """
    texts = [
        name
        for name, kind in kinds.items()
        if kind == _NO_DATA
        and Path(name).suffix.lower() in _LOADED_TEXTS
        and Path(name).name.lower() not in _BESIDE_DATA | _TOOL_FILES
        and _TOOL_FOLDERS.isdisjoint(Path(name).parts)
    ]
    types = Counter(Path(name).suffix.lower() for name in texts)
    most = max(Counter(suffix_of(Path(n)) for n in kinds if kinds[n] == _DATA).values(), default=0)
    return [
        name
        for name in texts
        if types[Path(name).suffix.lower()] > most or _SPLIT.search(name.lower())
    ]
