"""A Parquet file that is written row by row, in batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_BATCH = 4096


class ParquetRows:
    """Writes rows, each a mapping from column to value, to `path`; memory holds one batch.

    Row groups have as many rows as a batch, however the rows came.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._rows: list[Mapping[str, object]] = []
        self._table = schema.empty_table()

    def add(self, row: Mapping[str, object]) -> None:
        """Write one row."""
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self._flush()

    def append(self, path: Path) -> None:
        """Write the rows of another file that this class wrote, with the same schema."""
        self._flush()
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                self._put(pa.Table.from_batches([batch], self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._flush()
        if self._table.num_rows:
            self._writer.write_table(self._table.combine_chunks())
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._put(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()

    def _put(self, table: pa.Table) -> None:
        table = pa.concat_tables([self._table, table])
        while table.num_rows >= _BATCH:
            self._writer.write_table(table.slice(0, _BATCH).combine_chunks())
            table = table.slice(_BATCH)
        self._table = table
