"""Run the rows of a data set through its mitigations and write what comes out, block by block."""

from __future__ import annotations

import glob
import logging
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from auditor.data.batches import Row
from auditor.data.dataset import Rows, why_not
from auditor.data.fields import Edits, fields_of
from auditor.data.formats import Layout
from auditor.data.manifest import NAME
from auditor.data.rewrite import rewrite
from auditor.data.text_row import Span, TextRow
from auditor.errors import RunError
from auditor.mitigating.pipeline import BoundMitigation, advance
from auditor.mitigating.record import SET_ASIDE, Record
from auditor.mitigating.trainer_files import Emitter

LOG = logging.getLogger(__name__)
# Rows that go through the mitigations at a time. What models computed is kept by block, so the
# blocks of a survey and those of the writing must be the same.
BLOCK = 256
# Names of our own files in the output: a data set of such a name is written under another.
_RESERVED = {NAME, SET_ASIDE, "trl.parquet", "chat.jsonl"}


def survey(data: Rows) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    """Numbers of the rows that can be scored, ascending, and how many cannot for which reason."""
    numbers, skipped = array("q"), Counter[str]()
    for index, row in enumerate(row for batch in data.batches() for row in batch):
        reason = why_not(row, data.layout)
        if reason is None:
            numbers.append(index)
        else:
            skipped[reason] += 1
    reasons = dict(sorted(skipped.items()))
    LOG.info("%d rows can be scored; not so: %s", len(numbers), reasons or "none")
    # numpy makes no array of an empty buffer.
    scorable = np.frombuffer(numbers, dtype=np.int64) if numbers else np.empty(0, np.int64)
    return scorable, reasons


def numbered_blocks(data: Rows, masked: Mapping[int, tuple[Span, ...]]) -> Iterator[list[TextRow]]:
    """The rows that can be scored, in the very blocks in which `write_data` meets them."""
    index = 0
    for batch in data.batches():
        for block in _blocks(batch):
            yield text_rows(block, index, data.layout, masked)
            index += len(block)


def text_rows(
    rows: Sequence[Row], first: int, layout: Layout, masked: Mapping[int, tuple[Span, ...]]
) -> list[TextRow]:
    """Those of consecutive rows, from number `first`, that can be scored; masked: what is masked in
    them already.
    """
    return [
        TextRow(index, fields_of(row, layout), 0, masked.get(index, ()))
        for index, row in enumerate(rows, first)
        if not isinstance(row, str) and why_not(row, layout) is None
    ]


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


def write_data(
    data: Rows,
    folder: Path,
    masked: Mapping[int, tuple[Span, ...]],
    steps: Sequence[BoundMitigation],
    record: Record,
    emitter: Emitter,
    progress: Callable[[int], None],
) -> Path:
    """Write the mitigated data set into `folder` under its own name, and return its place.

    masked: as in `text_rows`. record, emitter: are told of every row. progress: of the rows done.
    """
    done = 0

    def transform(rows: Sequence[Row]) -> list[list[Edits]]:
        """For each of the next rows of a file, what is new in each row of the output that it
        became; a row that cannot be scored stays.
        """
        nonlocal done
        edits: list[list[Edits]] = []
        for block in _blocks(rows):
            first, done = done, done + len(block)
            before = {row.index: row for row in text_rows(block, first, data.layout, masked)}
            after: dict[int, list[TextRow]] = {index: [] for index in before}
            for row in advance(list(before.values()), steps, record.note):
                after[row.index].append(row)
            LOG.debug("rows %d to %d are mitigated", first, done - 1)
            progress(done)
            for index in range(first, done):
                if index not in before:
                    record.wrote(index)
                    edits.append([{}])
                    continue
                copies: list[Edits] = []
                for row in after[index]:
                    record.wrote(index, row.masked)
                    emitter.add(row)
                    # Only texts that differ are edited: all else of a row stays byte for byte.
                    pairs = zip(before[index].fields, row.fields, strict=True)
                    copies.append(
                        {
                            path: new.text
                            for old, new in pairs
                            if new.text != old.text
                            for path in (new.path, *new.twins)
                        }
                    )
                edits.append(copies)
        return edits

    name = Path(data.source.name).name
    copy = folder / (f"data-{name}" if name in _RESERVED else name)
    for file in data.source.files:
        target = copy
        if Path(data.source.name).is_dir():
            target = copy / Path(file.name).relative_to(data.source.name)
        LOG.info("writing %s", target)
        target.parent.mkdir(parents=True, exist_ok=True)
        rewrite(Path(file.name), target, data.layout.places, transform)
    return copy


def _blocks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]
