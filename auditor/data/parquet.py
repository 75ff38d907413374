"""Parquet, read by row group and only the columns that are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.data.batches import BATCH_ROWS, DataFile, Row, reading
from auditor.errors import InputError

MAGIC = b"PAR1"

# Without a buffer pyarrow loads the whole column chunk of a row group, which for one-group files is
# the whole column.
BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class ArrowBatch:
    """A record batch; rows become Python values only when taken."""

    records: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.records.num_rows)

    def take(self, positions: Sequence[int]) -> list[Row]:
        """Return the rows at `positions`; "broken_utf8" stands for a row with text that is not
        UTF-8.
        """
        taken = self.records.take(pa.array(positions, type=pa.int64()))
        try:
            return list(taken.to_pylist())
        except UnicodeDecodeError:
            # One broken row makes the whole batch fail, so that the rows are taken one by one.
            if len(positions) == 1:
                return ["broken_utf8"]
            return [row for position in positions for row in self.take([position])]


@dataclass(frozen=True)
class RowGroup:
    """One row group.

    The file's metadata comes along, so that a file of many groups parses its footer once.
    """

    path: Path
    name: str
    number: int
    metadata: pq.FileMetaData

    @property
    def rows(self) -> int:
        return int(self.metadata.row_group(self.number).num_rows)

    def batches(
        self, columns: Sequence[str] | None, size: int = BATCH_ROWS
    ) -> Iterator[ArrowBatch]:
        """Yield the group in batches of at most `size` rows, with those of `columns` that the file
        has (None: all).
        """
        with (
            reading(self.name, pa.ArrowException),
            pq.ParquetFile(self.path, metadata=self.metadata, buffer_size=BUFFER_BYTES) as file,
        ):
            names = file.schema_arrow.names
            present = None if columns is None else [name for name in names if name in columns]
            for records in file.iter_batches(
                size, [self.number], columns=present, use_threads=False
            ):
                yield ArrowBatch(records)


def parquet_file(path: Path, name: str) -> DataFile:
    """Return the Parquet file at `path` as one block a row group.

    Raises InputError if the footer cannot be read.
    """
    try:
        with reading(name, pa.ArrowException):
            metadata = pq.read_metadata(path)
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} has a name that is no UTF-8; pyarrow cannot open it.", "Rename it."
        ) from error
    groups = (RowGroup(path, name, number, metadata) for number in range(metadata.num_row_groups))
    return DataFile(name, tuple(groups))
