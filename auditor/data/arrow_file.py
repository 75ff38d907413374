"""Arrow files and streams, among them Feather files and what `datasets` saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from auditor.data.batches import BATCH_ROWS, DamagedError, reading
from auditor.data.folder import SUFFIXES, suffix_of
from auditor.data.parquet import ArrowBatch

MAGIC = b"ARROW1"
"""The first bytes of a file with a footer; a stream has none and is told by its suffix."""


@dataclass(frozen=True)
class ArrowFile:
    """An Arrow file or stream as one block; how many rows it has only reading tells."""

    path: Path
    name: str
    rows: None = None

    def batches(
        self, columns: Sequence[str] | None, size: int = BATCH_ROWS
    ) -> Iterator[ArrowBatch]:
        """Yield all rows in batches of at most `size`, with those of `columns` that the file has
        (None: all).
        """
        with reading(self.name, pa.ArrowException, DamagedError), arrow_records(self.path) as file:
            schema, batches = file
            present = [name for name in schema.names if columns is None or name in columns]
            for records in batches:
                for start in range(0, records.num_rows, size):
                    yield ArrowBatch(records.slice(start, size).select(present))


@contextmanager
def arrow_records(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The schema and the batches of an Arrow file or stream. Raises DamagedError for a column that
    stands twice.
    """
    with pa.PythonFile(path.open("rb"), "r") as source:
        if is_arrow_file(path):
            file = pa.ipc.open_file(source)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        else:
            file = batches = pa.ipc.open_stream(source)
        repeated = [name for name, count in Counter(file.schema.names).items() if count > 1]
        if repeated:
            raise DamagedError(f"the column {repeated[0][:60]!r} stands twice")
        yield file.schema, batches


def is_arrow_file(path: Path) -> bool:
    """Tell whether a file is of Arrow's format with a footer, as Feather files are."""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def is_arrow(path: Path) -> bool:
    """Tell whether a file is of Arrow's format, by its first bytes or its suffix."""
    return SUFFIXES.get(suffix_of(path)) == ".arrow" or is_arrow_file(path)
