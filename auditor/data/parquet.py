"""Parquet, read by row group and only the columns that are needed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.data.batches import BATCH_ROWS, AmbiguousError, DataFile, OversizedError, Row, reading
from auditor.data.coverage import Unread
from auditor.data.limits import IN_FORCE
from auditor.errors import InputError

MAGIC = b"PAR1"

# Without a buffer pyarrow loads the whole column chunk of a row group, which for one-group files is
# the whole column.
BUFFER_BYTES = 1 << 20
# Batches are cut at multiples of this number of rows, since mitigations take so many at a time.
_BLOCK = 256


@dataclass(frozen=True)
class ArrowBatch:
    """A record batch; rows become Python values only when taken."""

    records: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.records.num_rows)

    def select(self, columns: Sequence[str]) -> ArrowBatch:
        """The same with those of `columns` that it has."""
        return ArrowBatch(
            self.records.select([name for name in self.records.schema.names if name in columns])
        )

    def take(self, positions: Sequence[int]) -> list[Row]:
        """Return the rows at `positions`; "broken_utf8" stands for a row with text that is not
        UTF-8.
        """
        try:
            return list(self.records.take(pa.array(positions, type=pa.int64())).to_pylist())
        except (pa.ArrowException, OverflowError, ValueError):
            # One value makes the whole batch fail, and some types cannot be taken from at all.
            return [self._row(position) for position in positions]

    def _row(self, position: int) -> Row:
        row: dict[str, object] = {}
        for name, column in zip(self.records.schema.names, self.records.columns, strict=True):
            try:
                row[name] = column[position].as_py()
            except UnicodeDecodeError:
                return "broken_utf8"
            except (pa.ArrowException, OverflowError, ValueError):
                # A time that Python has no value for, for one: no text, whatever it is.
                row[name] = math.nan
        return row


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
        limits = IN_FORCE.get()
        with (
            reading(self.name, pa.ArrowException),
            pq.ParquetFile(self.path, metadata=self.metadata, buffer_size=BUFFER_BYTES) as file,
        ):
            present = [
                field.name
                for field in file.schema_arrow
                if (columns is None or field.name in columns)
                and _depth(field.type) <= limits.nesting
            ]
            group = self.metadata.row_group(self.number)
            chunks = [group.column(number) for number in range(group.num_columns)]
            chunks = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in present]
            most = limits.expansion * sum(chunk.total_compressed_size for chunk in chunks)
            expanded, most = 0, max(limits.expanded_bytes, most)
            # Each row can name the whole of a dictionary, which the file holds once.
            widest = sum(_dictionary_bytes(self.path, chunk) for chunk in chunks)
            if widest * _BLOCK > 2 * limits.batch_bytes:
                raise OversizedError(
                    "the dictionaries of a row group have more than "
                    f"{2 * limits.batch_bytes // _BLOCK:,} bytes",
                    "Write it anew with smaller ones, or raise limits.batch_bytes in the settings.",
                )
            blocks = max(1, limits.batch_bytes // max(1, widest) // _BLOCK)
            size = min(size, blocks * _BLOCK)
            for records in file.iter_batches(
                size, [self.number], columns=present, use_threads=False
            ):
                for number, column in enumerate(records.columns):
                    if pa.types.is_dictionary(column.type):
                        name, column = records.schema.names[number], column.dictionary_decode()
                        records = records.set_column(number, name, column)
                expanded += records.nbytes
                if expanded > most:
                    raise OversizedError(
                        f"unpacked a row group has more than {limits.expansion} times its size",
                        "Write it anew without dictionaries and check it, or raise "
                        "limits.expansion in the settings.",
                    )
                yield ArrowBatch(records)


def _dictionary_bytes(path: Path, chunk: pq.ColumnChunkMetaData) -> int:
    """The size of a column chunk's dictionary in memory; 0 without one, or where its values are
    numbers.
    """
    if chunk.physical_type not in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
        return 0
    if "DELTA_BYTE_ARRAY" in chunk.encodings:
        # A value takes any length of the value before it.
        return int(chunk.total_uncompressed_size)
    offset = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
    if offset is None:
        return 0
    with path.open("rb") as stream:
        stream.seek(offset)
        head = stream.read(16)
    # A page begins with two integers, each behind the byte 0x15: its type and its size, seven bits
    # a byte, the lowest first, and doubled (Thrift's compact protocol).
    if len(head) < 9 or head[0] != 0x15 or head[2] != 0x15:
        return int(chunk.total_uncompressed_size)
    value = 0
    for number, byte in enumerate(head[3:]):
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            break
    return value >> 1


def _depth(kind: pa.DataType) -> int:
    """How many lists and groups are within each other in a type."""
    fields = [kind.field(number).type for number in range(kind.num_fields)]
    return 1 + max(map(_depth, fields)) if fields else 0


def _metadata(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except OSError as error:
        if "too deeply nested" not in str(error):
            raise
        # pyarrow's own limit, about 50 lists, and no damage.
        hint = "Leave the column out, or write it as text."
        raise OversizedError("a column is nested too deeply for pyarrow", hint) from error


def parquet_file(path: Path, name: str) -> DataFile:
    """Return the Parquet file at `path` as one block a row group, without columns that are nested
    too deeply.

    Raises InputError if the footer cannot be read, or a column stands twice.
    """
    try:
        with reading(name, pa.ArrowException):
            metadata = _metadata(path)
            schema = metadata.schema.to_arrow_schema()
            repeated = [column for column, count in Counter(schema.names).items() if count > 1]
            if repeated:
                raise AmbiguousError(f"the column {repeated[0][:60]!r} stands twice")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} has a name that is no UTF-8; pyarrow cannot open it.", "Rename it."
        ) from error
    groups = (RowGroup(path, name, number, metadata) for number in range(metadata.num_row_groups))
    most = IN_FORCE.get().nesting
    unread = (
        Unread("column", field.name, None, f"it is nested more than {most} levels deep")
        for field in schema
        if _depth(field.type) > most
    )
    return DataFile(name, tuple(groups), tuple(unread))
