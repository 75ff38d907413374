"""The folder of a mitigated data set, put together from the parts of its shards."""

from __future__ import annotations

import glob
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from auditor.data.manifest import NAME
from auditor.errors import RunError
from auditor.mitigating.record import SET_ASIDE, Part, Record
from auditor.mitigating.shard import PART_ROWS
from auditor.mitigating.trainer_files import Emitter

LOG = logging.getLogger(__name__)
# Names of our own files in the output: a data set of such a name is written under another.
_RESERVED = {NAME, SET_ASIDE, "trl.parquet", "chat.jsonl"}


@contextmanager
def scratch(folder: Path, *, replace: bool) -> Iterator[Path]:
    """A folder beside `folder` that takes its place when all went well and is removed otherwise.

    Raises RunError when the disk is full or the place cannot be written.
    """
    # Beside its place, since a folder can only be moved within one file system; the number of the
    # process keeps two of the same command apart.
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        for rest in folder.parent.glob(f".{glob.escape(folder.name)}.*.partial"):
            number = rest.name.split(".")[-2]
            if number.isdecimal() and not _is_running(int(number)):
                LOG.info("removing %s, which a killed process left", rest)
                shutil.rmtree(rest, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        hint = "Free some space or make the place writable, then run the same command."
        raise RunError(f"Cannot write {folder}: {error.strerror or error}.", hint) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_running(process: int) -> bool:
    """Tell whether a process of this number exists; also where that cannot be known."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    # A folder of our own number is of an earlier process that had it.
    return process != os.getpid()


def gather(
    parts: Sequence[tuple[str, Path, Part]], folder: Path, record: Record, emitter: Emitter
) -> None:
    """Put the parts of a data set together. parts: of each shard the place below `folder` at which
    its rows go, where they are kept, and what became of them.
    """
    for name, kept, part in parts:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            # As a second name of the same bytes: the part stays until all is in its place.
            os.link(kept / PART_ROWS, target)
        except OSError:  # on another disk, or one without such names
            shutil.copyfile(kept / PART_ROWS, target)
        record.append(kept, part)
        emitter.append(kept, part.emitted)


def name_of_copy(source: str) -> str:
    """The name that the mitigated copy of a data set gets."""
    name = Path(source).name
    return f"data-{name}" if name in _RESERVED else name
