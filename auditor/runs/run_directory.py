"""The directory of one run: finished units of work that survive a kill, and the report.

Everything is written to a temporary file beside its target, flushed to the disk and renamed, so
that a reader finds the old file, the new one or none, never a part of one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import shutil
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from platform import python_version
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from auditor.errors import RunError
from auditor.model.unit_store import Unit, UnitStore
from auditor.plugins import Plugin
from auditor.runs import HOME
from auditor.runs.clock import utc_now
from auditor.runs.signing import SIGNATURE, is_signed, read_plain, read_signed, sign

LOG = logging.getLogger(__name__)
PARTIAL = ".partial"
DISTRIBUTIONS = (
    "subliminal-audit",
    "torch",
    "transformers",
    "datasets",
    "numpy",
    "scikit-learn",
    "pyarrow",
)
# Length of the comment of a unit's archive, with the two bytes that say it.
_COMMENT = 66
# What zipfile and numpy raise on a file that was cut short or changed.
DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Section:
    """The units of `store` whose names begin with `name`: several experiments in one run."""

    store: UnitStore
    name: str

    def save_unit(self, name: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """See `RunDir.save_unit`."""
        self.store.save_unit(f"{self.name} {name}", arrays)

    def load_unit(self, name: str) -> Unit | None:
        """See `RunDir.load_unit`."""
        return self.store.load_unit(f"{self.name} {name}")


def run_key(identity: Mapping[str, object]) -> str:
    """Name of a run: the first 16 hex digits of the SHA-256 of `identity` as canonical JSON.

    `identity` holds what determines the result and nothing else: the same audit finds its own
    finished units again. Raises ValueError or TypeError when it holds what JSON cannot express
    (NaN, objects).
    """
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@functools.cache
def code_digest() -> str:
    """SHA-256 of the source files of our three packages, by name and content.

    The version of the distribution stays the same over many changes of the code. A finished run of
    older code must not be shown as the result of this one, so the digest is part of what identifies
    a run. Reading the files takes some milliseconds, once in a process.
    """
    digest = hashlib.sha256()
    for package in ("auditor", "detectors", "mitigations"):
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            for source in sorted(Path(folder).rglob("*.py")):
                digest.update(f"{package}/{source.relative_to(folder).as_posix()}\0".encode())
                digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()


def installed_versions(plugins: Iterable[Plugin] = ()) -> dict[str, str]:
    """Versions of Python, of our own code (`code_digest`) and of every installed distribution that
    a result depends on, those of `plugins` included.
    """
    versions = {"python": python_version(), "code": code_digest()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions | {plugin.package: plugin.version for plugin in plugins}


def check_same_versions(expected: object) -> None:
    """Raise RunError unless a worker has the versions that the run has."""
    here = installed_versions()
    if isinstance(expected, Mapping) and expected != here:
        names = sorted(n for n in {*expected, *here} if expected.get(n) != here.get(n))
        raise RunError(
            f"{socket.gethostname()} has other versions of {', '.join(names)} than this machine.",
            "Install the same on all nodes; a result must not depend on the node.",
        )


def write_file(path: Path, content: bytes) -> None:
    """Make `path` hold `content`, wholly or not at all, also when killed or out of space.

    A link stays, and what it points to is written; into a device or a pipe the content goes as it
    is. Raises RunError when the disk is full or the place cannot be written.
    """
    path = path.resolve()
    if not path.exists() or path.is_file():
        return _write_atomic(path, lambda stream: stream.write(content))
    try:
        path.write_bytes(content)
    except OSError as error:
        raise _cannot_write(path, error) from error


class RunDir:
    """One run, held by one process at a time. Use it as a context manager, or call `close`.

    `path` holds settings.json, units/NAME.npz, the tables of scores, and report.json once the run
    is finished. Each is signed with the key of this machine: a file that is not counts as absent,
    so that its work is done again.
    """

    def __init__(self, path: Path, lock: FileLock | None) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(
        cls, root: Path, identity: Mapping[str, object], *, fresh: bool = False, joins: bool = False
    ) -> RunDir:
        """Create or resume the run that `identity` determines, under `root`/.audit/runs; `fresh`
        forgets what it had.

        joins: another process has opened the run, and this one works on it together with that one.
        Raises RunError when another process works on the same run, or when the place cannot be
        written.
        """
        path = root / HOME / "runs" / run_key(identity)
        inside = [path / name for name in ("units", "shards", "logs", "lock")]
        refuse_links(root / HOME, path.parent, path, *inside)
        if joins:
            return cls(path, None)
        run = cls(path, _acquire(path))
        try:
            _keep_out_of_git(root / HOME)
            run._tidy(fresh)
            is_new = read_signed(path / "settings.json") is None
            LOG.info("%s run %s", "new" if is_new else "going on with", path)
            if is_new:
                run.write_json(
                    "settings.json", {"identity": identity, "versions": installed_versions()}
                )
        except OSError as error:
            run.close()
            raise _cannot_write(path, error) from error
        except BaseException:
            run.close()
            raise
        return run

    def close(self) -> None:
        """Let other processes work on this run. Harmless when repeated."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def save_unit(self, name: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Keep a finished unit of work: named arrays (no object dtype).

        Any `name` will do, also one with slashes. Raises: ValueError for an array of objects.
        """
        # numpy before 2.1 would take `allow_pickle=False` for one more array to save.
        if any(array.dtype.hasobject for array in arrays.values()):
            raise ValueError("An array of objects cannot be kept without pickle.")
        named: dict[str, Any] = {**arrays}
        buffer = io.BytesIO()
        np.savez(buffer, **named)
        path, content = self._unit(name), buffer.getvalue()
        # The signature is the comment of the archive, whose length is its last two bytes.
        signature = sign(self.path.name, f"units/{path.name}", content).encode()
        signed = content[:-2] + len(signature).to_bytes(2, "little") + signature
        _write_atomic(path, lambda stream: stream.write(signed))
        LOG.debug("kept the unit %s", name)

    def load_unit(self, name: str) -> Unit | None:
        """The arrays of a finished unit, or None when there is none, or none that this machine has
        kept for this run: then do the work again.
        """
        path = self._unit(name)
        signed = read_plain(path)
        if signed is None:
            return None
        content, signature = signed[:-_COMMENT] + b"\0\0", signed[2 - _COMMENT :].decode("latin-1")
        if not is_signed(self.path.name, f"units/{path.name}", content, signature):
            LOG.info("%s was not signed by this machine's key: its work is done again", path)
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as unit:
                return {key: unit[key] for key in unit.files}
        except DAMAGE:
            return None

    def write_text(self, name: str, content: str) -> None:
        """Write the file `name` of the run directory as UTF-8."""
        write_signed(self.path / name, content.encode())

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write the file `name` of the run directory as Parquet."""
        stream = pa.BufferOutputStream()
        pq.write_table(table, stream)
        write_signed(self.path / name, stream.getvalue().to_pybytes())

    def finish(self, report: Mapping[str, object]) -> None:
        """Keep the report (plain JSON values).

        From then on the run is finished and `report` returns it.
        """
        self.write_json("report.json", report)

    def forget(self, folder: str) -> None:
        """Remove a folder of the run directory."""
        shutil.rmtree(self.path / folder, ignore_errors=True)

    def report(self) -> dict[str, Any] | None:
        """The report of a finished run, or None."""
        return read_json(self.path / "report.json")

    def created(self, settings: Mapping[str, object]) -> str:
        """When the report of these settings was made: a finished one says so, and one that is only
        about to be is made now.
        """
        kept = self.report() or {}
        is_made = kept.get("settings") == json.loads(json.dumps(settings))
        return str(kept["created"]) if is_made and "created" in kept else utc_now()

    def _unit(self, name: str) -> Path:
        return self.path / "units" / f"{quote(name, safe='')}.npz"

    def write_json(self, name: str, value: Mapping[str, object]) -> None:
        """Write the file `name` of the run directory, for `read_json`."""
        self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def _tidy(self, fresh: bool) -> None:
        """Remove what a killed process left half written and, for a fresh start, what it had
        finished.
        """
        for partial in list(self.path.rglob(f"*{PARTIAL}")):
            if partial.is_dir() and not partial.is_symlink():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)
        if fresh:
            # The report goes first: a run without units but with a report would count as finished.
            (self.path / "report.json").unlink(missing_ok=True)
            (self.path / "settings.json").unlink(missing_ok=True)
            shutil.rmtree(self.path / "units", ignore_errors=True)
            shutil.rmtree(self.path / "shards", ignore_errors=True)


def keep_data(root: Path, content: bytes, suffix: str) -> Path:
    """Keep data that were in no file under `root`/.audit/data, by a name that follows from their
    content, so that the same data find the same run. Raises RunError.
    """
    folder = root / HOME / "data"
    path = folder / f"{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
    refuse_links(root / HOME, folder, path)
    _write_atomic(path, lambda stream: stream.write(content))
    _keep_out_of_git(root / HOME)
    return path


def set_last(root: Path, run: Path, dataset: str) -> None:
    """Note that later commands in `root` are to work on `run`, which audited `dataset`."""
    note = {"run": os.path.relpath(run, root), "dataset": dataset}
    refuse_links(root / HOME)
    write_signed(root / HOME / "last", json.dumps(note).encode())


def last_run(root: Path) -> Path:
    """Directory of the last run noted in `root`.

    Raises RunError when there is none, or when it has been removed.
    """
    note = read_json(root / HOME / "last") or {}
    run = root / str(note.get("run", ""))
    if "run" not in note or not run.is_dir():
        raise RunError(
            "There is no scan here to go on from.",
            "Run `audit scan DATASET` in this directory first.",
        )
    return run


def try_lock(path: Path) -> FileLock | None:
    """The lock of the run at `path`, acquired; None where another process works on it. Raises
    RunError where the place cannot be written.
    """
    refuse_links(path / "lock")
    lock = FileLock(path / "lock", timeout=0)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        return None
    except OSError as error:
        raise _cannot_write(path, error) from error
    return lock


def _acquire(path: Path) -> FileLock:
    lock = try_lock(path)
    if lock is None:
        raise RunError(
            f"Another process is working on the same audit ({path}).",
            "Wait for it to end, or change to another directory.",
        )
    return lock


def _keep_out_of_git(home: Path) -> None:
    """Put a .gitignore for everything into `home`, unless there is one: runs hold rows of the data
    set, and `git add -A` would take them.
    """
    with contextlib.suppress(OSError), (home / ".gitignore").open("x") as stream:
        stream.write("# Made by audit: what lies here holds rows of data sets.\n*\n")


def _write_atomic(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """durable: the content survives a power cut too, and not only the end of the process."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.unlink(missing_ok=True)
            # Exclusive: a link that waits under this name is not followed.
            with partial.open("xb") as stream:
                write(stream)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            partial.replace(path)
            if durable and os.name == "posix":
                # Only then does the rename survive a power cut.
                handle = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> RunError:
    hint = (
        "Free some space or make the place writable, then run the same command: it goes on from "
        "what is finished."
    )
    return RunError(f"Cannot write {path}: {error.strerror or error}.", hint)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of a run directory, None without one that this machine has
    signed.
    """
    try:
        value = json.loads(read_signed(path) or b"")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_signed(path: Path, content: bytes) -> None:
    """Write a file of a run directory, and its signature beside it.

    A link at its place is replaced, and what it points to stays. Raises RunError.
    """
    signature = sign(path.parent.name, path.name, content).encode()
    # The signature goes first: the file counts from the moment at which it is in its place.
    beside = path.with_name(path.name + SIGNATURE)
    _write_atomic(beside, lambda stream: stream.write(signature), durable=False)
    _write_atomic(path, lambda stream: stream.write(content))


def refuse_links(*paths: Path) -> None:
    """Raise RunError where one of the paths in a run directory is a link: it may have come with the
    data, and lead anywhere.
    """
    for path in paths:
        if path.is_symlink():
            raise RunError(
                f"{path} is a link, and links in {HOME} are not followed.",
                "Remove it, or run in the directory that it leads to.",
            )
