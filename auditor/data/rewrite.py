"""Write a changed data set in the schema and file format of the original, block by block.

What is not changed stays as it was: lines of text files byte for byte, values of Parquet files with
their schema, metadata, row groups and compression. In a changed line only the changed string
differs; a changed CSV record keeps its cells but may be quoted differently.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.data.arrow_file import arrow_records, is_arrow, is_arrow_file
from auditor.data.batches import BATCH_ROWS, DamagedError, Record, Row, reading
from auditor.data.compression import compression_of, packed
from auditor.data.fields import Edits, edited, splice
from auditor.data.folder import SUFFIXES, suffix_of
from auditor.data.json_stream import array_records
from auditor.data.parquet import BUFFER_BYTES, MAGIC, ArrowBatch
from auditor.data.text import (
    DAMAGE,
    csv_table,
    decoded,
    json_lines,
    open_bytes,
    parse_line,
    text_kind,
)
from auditor.errors import InputError

LOG = logging.getLogger(__name__)

Transform = Callable[[Sequence[Row]], Sequence[Sequence[Edits]]]
"""Rows as read -> for each of them its copies in the output, each given by what is new in it: ()
drops the row.
"""

T = TypeVar("T")


def rewrite(source: Path, target: Path, columns: Sequence[str], transform: Transform) -> None:
    """Write `source` to `target` as `transform` says; it is called with consecutive rows, at most
    4096 at a time.

    columns: those that `transform` must see. Raises: InputError when the source cannot be read, or
    has a changed column of a type that text cannot be put into.
    """
    with reading(str(source)), source.open("rb") as stream:
        parquet = stream.read(len(MAGIC)) == MAGIC
    LOG.debug("rewriting %s as %s", source, target)
    if parquet:
        _rewrite_parquet(source, target, columns, transform)
    elif is_arrow(source):
        _rewrite_arrow(source, target, columns, transform)
    else:
        _rewrite_text(source, target, transform)


def _guarded(name: str, items: Iterator[T]) -> Iterator[T]:
    """The items, with what goes wrong while they are read told apart from what goes wrong while
    others are written.
    """
    with reading(name, *DAMAGE, pa.ArrowException):
        yield from items


def _rewrite_text(source: Path, target: Path, transform: Transform) -> None:
    name = str(source)
    kind = text_kind(source, name, SUFFIXES.get(suffix_of(source), ""))
    with ExitStack() as stack:
        with reading(name):
            stream = stack.enter_context(open_bytes(source, by_lines=kind != "array"))
        out: BinaryIO = stack.enter_context(target.open("wb"))
        if compression := compression_of(source):
            out = stack.enter_context(packed(out, compression))
        if stream.peek(3).startswith(codecs.BOM_UTF8):
            out.write(codecs.BOM_UTF8)
        if kind == "array":
            copies = _transformed(_guarded(name, array_records(decoded(stream))), transform)
            texts = _array_texts(copies)
        elif kind == "jsonl":
            copies = _transformed(_guarded(name, _json_lines(stream)), transform)
            texts = _line_texts(copies, _spliced)
        else:
            with reading(name, *DAMAGE):
                header, delimiter, records = csv_table(decoded(stream), kind)

            def edit(record: Record, edits: Edits) -> str:
                return _csv_edited(record, edits, header, delimiter)

            texts = _line_texts(_transformed(_guarded(name, records), transform), edit)
        for text in texts:
            # The surrogates are broken bytes of the source, which come out as they went in.
            out.write(text.encode("utf-8", "surrogateescape"))
        # A gzip stream gets a flush marker here, as it always did: the digests of outputs hold it.
        out.flush()


def _json_lines(stream: io.BufferedReader) -> Iterator[Record]:
    lead = ""
    for line in chain.from_iterable(json_lines(stream)):
        raw = line.decode("utf-8", "surrogateescape")
        if line.strip():
            yield Record(lead, raw, parse_line(line))
            lead = ""
        else:
            lead += raw
    yield Record(lead, "", "")


def _transformed(
    records: Iterator[Record], transform: Transform
) -> Iterator[tuple[Record, Sequence[Edits]]]:
    """Each record with its copies in the output; those without a row have none."""
    while batch := list(islice(records, BATCH_ROWS)):
        rows = [record.row for record in batch if record.raw]
        copies = iter(transform(rows) if rows else ())
        for record in batch:
            yield record, next(copies) if record.raw else ()


def _line_texts(
    copied: Iterator[tuple[Record, Sequence[Edits]]], edit: Callable[[Record, Edits], str]
) -> Iterator[str]:
    """The text of records that bring their own line ends; the last one of the file may lack it."""
    # The line end that the text so far lacks. It is written only when something follows, so that a
    # file without a line end at its end stays one.
    owed = ""
    for record, copies in copied:
        if record.lead:
            yield owed + record.lead
            owed = ""
        for edits in copies:
            raw = edit(record, edits) if edits else record.raw
            yield owed + raw
            owed = "" if raw.endswith(("\n", "\r")) else "\n"


def _array_texts(copied: Iterator[tuple[Record, Sequence[Edits]]]) -> Iterator[str]:
    """The text of one JSON array: what stands before the first element is its head, before the
    others a separator.
    """
    separator, written = "", False
    for number, (record, copies) in enumerate(copied):
        if number == 0 or not record.raw:
            yield record.lead  # the head, or what follows the array
        else:
            # Written only between two elements of the output: either of these may be dropped.
            separator = record.lead
        for edits in copies:
            if written:
                yield separator or ", "
            yield _spliced(record, edits)
            written = True


def _spliced(record: Record, edits: Edits) -> str:
    raw = record.raw
    for path, text in edits.items():
        raw = splice(raw, path, text)
    return raw


def _csv_edited(record: Record, edits: Edits, header: Sequence[str], delimiter: str) -> str:
    assert not isinstance(record.row, str)  # only rows that could be read are changed
    changed = edited(record.row, edits)
    cells = [changed[name] for name in header if changed[name] is not None]
    body = record.raw.rstrip("\r\n")
    quotes_all = body.startswith('"') and body.endswith('"')  # as the file did so far
    buffer = io.StringIO()
    csv.writer(
        buffer,
        delimiter=delimiter,
        lineterminator="",
        quoting=csv.QUOTE_ALL if quotes_all else csv.QUOTE_MINIMAL,
    ).writerow(cells)
    return buffer.getvalue() + record.raw[len(body) :]


def _rewrite_parquet(
    source: Path, target: Path, columns: Sequence[str], transform: Transform
) -> None:
    with (
        pq.ParquetFile(source, buffer_size=BUFFER_BYTES) as file,
        _parquet_writer(target, file) as writer,
    ):
        present = [name for name in file.schema_arrow.names if name in columns]
        for group in range(file.num_row_groups):
            batches = _guarded(
                str(source), file.iter_batches(BATCH_ROWS, [group], use_threads=False)
            )
            parts = [_edited_batch(batch, present, transform) for batch in batches]
            table = pa.Table.from_batches(parts, file.schema_arrow).unify_dictionaries()
            if table.num_rows:
                writer.write_table(table, row_group_size=table.num_rows)


def _rewrite_arrow(
    source: Path, target: Path, columns: Sequence[str], transform: Transform
) -> None:
    new = pa.ipc.new_file if is_arrow_file(source) else pa.ipc.new_stream
    with (
        reading(str(source), pa.ArrowException, DamagedError),
        arrow_records(source) as (schema, batches),
        new(target, schema) as writer,
    ):
        present = [name for name in schema.names if name in columns]
        for records in batches:
            for start in range(0, records.num_rows, BATCH_ROWS):
                batch = records.slice(start, BATCH_ROWS)
                writer.write_batch(_edited_batch(batch, present, transform))


def _parquet_writer(target: Path, file: pq.ParquetFile) -> pq.ParquetWriter:
    """A writer with the schema of `file` and, by column, its compression and encoding."""
    options: dict[str, object] = {}
    if file.num_row_groups:
        group = file.metadata.row_group(0)
        chunks = [group.column(i) for i in range(group.num_columns)]
        # The metadata and the writer name the same method differently.
        options = {
            "compression": {
                chunk.path_in_schema: (
                    "NONE" if chunk.compression == "UNCOMPRESSED" else chunk.compression
                )
                for chunk in chunks
            },
            "use_dictionary": [c.path_in_schema for c in chunks if c.has_dictionary_page] or False,
            "write_statistics": any(chunk.is_stats_set for chunk in chunks),
        }
    return pq.ParquetWriter(
        target,
        file.schema_arrow,
        version=file.metadata.format_version,
        # Lists keep the name that the source has for their elements.
        use_compliant_nested_type=False,
        **options,
    )


def _edited_batch(
    batch: pa.RecordBatch, present: Sequence[str], transform: Transform
) -> pa.RecordBatch:
    rows = ArrowBatch(batch.select(present)).take(range(batch.num_rows))
    # For every row of the output the row of the batch that it comes from, and what is new in it.
    copies = [(i, edits) for i, edited_rows in enumerate(transform(rows)) for edits in edited_rows]
    origins = [i for i, _ in copies]
    values: dict[str, dict[int, object]] = defaultdict(dict)  # column -> row of the output -> value
    for position, (i, edits) in enumerate(copies):
        row = rows[i]
        if edits and not isinstance(row, str):
            changed = edited(row, edits)
            for path in edits:
                values[str(path[0])][position] = changed[str(path[0])]
    if not values and origins == list(range(batch.num_rows)):
        return batch
    output = batch.take(pa.array(origins, pa.int64()))
    for name, new in values.items():
        index = output.schema.get_field_index(name)
        column = _replaced(output.column(name), new, name)
        output = output.set_column(index, output.schema.field(name), column)
    return output


def _replaced(column: pa.Array, values: Mapping[int, object], name: str) -> pa.Array:
    """`column` with `values` by row; all other values are not touched."""
    kind = column.type
    is_dictionary = pa.types.is_dictionary(kind)
    try:
        new = pa.array(list(values.values()), type=kind.value_type if is_dictionary else kind)
    except (pa.ArrowException, TypeError) as error:
        raise InputError(
            f"The column {name} is {kind}, into which changed text cannot be written.",
            "Convert it to text or messages, then run again.",
        ) from error
    if is_dictionary:
        new = new.dictionary_encode().cast(kind)
    order = list(range(len(column)))
    for number, row in enumerate(values):
        order[row] = len(column) + number
    # The new values stand behind the old ones, and one `take` brings each to its row: the old ones
    # are copied as they are, also those of types that Python has no value for.
    both = pa.chunked_array([column, new]).unify_dictionaries().combine_chunks()
    joined = both.combine_chunks() if isinstance(both, pa.ChunkedArray) else both
    return joined.take(pa.array(order, pa.int64()))
