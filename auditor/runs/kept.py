"""The runs that are kept in a directory: what they are, which of them a key names, and how they
are removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import InputError, RunError
from auditor.runs import HOME
from auditor.runs.run_directory import last_run, read_json, refuse_links, try_lock

KEY_SHOWN = 8  # digits of a key that tell the runs of one directory apart


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run under .audit/runs.

    changed: when it was finished, or else begun; seconds since 1970. signed: this machine has
    written it; of one that it has not written nothing is known but its place. verb, dataset,
    reference: of its settings, "" where they name none. verdict: of a finished scan. finished: its
    report, or what it was to write, is there.
    """

    path: Path
    changed: float
    signed: bool
    verb: str = ""
    dataset: str = ""
    reference: str = ""
    verdict: str = ""
    finished: bool = False

    @property
    def key(self) -> str:
        """The beginning of its key, as a command takes it."""
        return self.path.name[:KEY_SHOWN]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed: how many runs, and their bytes; and the runs that were left, each with the
    reason.
    """

    removed: int
    freed: int
    left: tuple[tuple[KeptRun, str], ...]


def kept_runs(root: Path) -> list[KeptRun]:
    """The runs that are kept in `root`, newest first. Raises RunError where .audit is a link."""
    home = root / HOME
    refuse_links(home, home / "runs")
    runs = [_read(path, home) for path in _folders(home)]
    return sorted(runs, key=lambda run: (-run.changed, run.path.name))


def run_of_key(root: Path, key: str) -> Path:
    """The directory of the run in `root` whose key begins with `key`. Raises InputError where that
    is none or more than one.
    """
    # Nothing is not a beginning: every key would begin with it.
    runs = _folders(root / HOME) if key else []
    runs = sorted(directory for directory in runs if directory.name.startswith(key))
    if not runs:
        raise InputError(
            f"There is no run {key}.",
            "Name a directory under .audit/runs, its key, or a JSON report; `audit runs` lists "
            "the keys.",
        )
    if len(runs) > 1:
        keys = ", ".join(directory.name for directory in runs[:5])
        raise InputError(f"{len(runs)} runs begin with {key}: {keys}.", "Give more of the key.")
    return runs[0]


def finished_scans(root: Path) -> list[KeptRun]:
    """The finished scans of this machine in `root`, newest first."""
    return [run for run in kept_runs(root) if run.verb == "scan" and run.finished]


def last_two_scans(root: Path) -> tuple[Path, Path]:
    """Directories of the last two finished scans in `root`, the earlier one first. Raises RunError
    where there are fewer.
    """
    scans = finished_scans(root)
    if len(scans) < 2:
        raise RunError(
            f"{len(scans) or 'No'} finished scan of this machine is kept here, and two are "
            "compared.",
            "Scan two data sets here, or name two reports of audit scan --output json=PATH.",
        )
    return scans[1].path, scans[0].path


def clean(root: Path, keys: Sequence[str] = (), *, every: bool = False) -> Cleaned:
    """Remove runs that are kept in `root`: those that `keys` name; without any, all that no later
    command would go on from and that this machine has written; with `every` those as well.

    A later command goes on from the last scan (`audit mitigate`, `verify`, `gate`) and from a
    finished verification (`audit gate`). Raises InputError for a key of no run, before any is
    removed, and RunError.
    """
    named = {run_of_key(root, key) for key in keys}
    try:
        last = last_run(root).resolve()
    except RunError:
        last = None
    is_choosy = not (named or every)
    freed, removed, left = 0, 0, []
    for run in kept_runs(root):
        if named and run.path not in named:
            continue
        goes_on = run.finished and (run.verb == "verify" or run.path.resolve() == last)
        if is_choosy and not run.signed:
            left.append((run, "this machine has not written it"))
        elif is_choosy and goes_on:
            left.append((run, "later commands go on from it"))
        elif (size := _remove(run.path)) is None:
            left.append((run, "another process is working on it"))
        else:
            freed, removed = freed + size, removed + 1
    return Cleaned(removed, freed, tuple(left))


def _remove(path: Path) -> int | None:
    """Remove a run and return how many bytes that frees; None where another process works on it.
    Raises RunError.
    """
    refuse_links(path.parent.parent, path.parent, path)
    lock = try_lock(path)
    if lock is None:
        return None
    try:
        size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
        # What says that the run is finished goes first: the rest may be left over by a kill.
        for name in ("report.json", "settings.json"):
            (path / name).unlink(missing_ok=True)
        shutil.rmtree(path)
    except OSError as error:
        raise RunError(
            f"Cannot remove {path}: {error.strerror or error}.", "Make the folder writable."
        ) from error
    finally:
        lock.release()
    return size


def _folders(home: Path) -> list[Path]:
    """The directories of runs; links, which may lead anywhere, are none."""
    folders = (home / "runs").glob("*")
    return [path for path in folders if path.is_dir() and not path.is_symlink()]


def _read(path: Path, home: Path) -> KeptRun:
    settings, report = read_json(path / "settings.json"), read_json(path / "report.json")
    places = (path / "report.json", path / "settings.json", path)
    changed = next(place.stat().st_mtime for place in places if place.exists())
    identity = (settings or {}).get("identity")
    if not isinstance(identity, dict):
        return KeptRun(path, changed, signed=False)
    # A scan has no verb in its identity, and the output of mitigate lies in a folder of its own.
    verb = str(identity.get("verb", "scan"))
    written = home / "mitigated" / path.name / "manifest.json"
    return KeptRun(
        path,
        changed,
        signed=True,
        verb=verb,
        dataset=_dataset(identity),
        reference=_name(identity.get("reference")),
        verdict=str((report or {}).get("verdict", "")) if verb == "scan" else "",
        finished=written.is_file() if verb == "mitigate" else report is not None,
    )


def _dataset(identity: Mapping[str, Any]) -> str:
    """The data set as the user named it: of several, the original."""
    datasets = identity.get("datasets")
    if isinstance(datasets, dict):
        return str(next(iter(datasets), ""))
    return _name(identity.get("dataset")) or str(identity.get("name", ""))


def _name(value: object) -> str:
    """The `name` of a mapping; a value that is one text is a name itself."""
    return str(value.get("name", "")) if isinstance(value, dict) else str(value or "")
