"""Write a changed data set in the schema and file format of the original, block by block.

What is not changed stays as it was: lines of text files byte for byte, values of Parquet files with
their schema, metadata, row groups and compression. In a changed line only the changed string
differs; a changed CSV record keeps its cells but may be quoted differently.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.data.batches import BATCH_ROWS, DamagedError, Row, reading
from auditor.data.fields import Edits, edited, splice
from auditor.data.files import SUFFIXES, suffix_of
from auditor.data.json_stream import array_parts
from auditor.data.parquet import MAGIC, ArrowBatch
from auditor.data.text import (
    csv_delimiter,
    csv_row,
    csv_table,
    decoded,
    open_bytes,
    parse_line,
    text_kind,
)
from auditor.errors import InputError

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
    if parquet:
        _rewrite_parquet(source, target, columns, transform)
    else:
        _rewrite_text(source, target, transform)


@dataclass(frozen=True, slots=True)
class _Piece:
    """An element as it is written, what stands before it, and the row that it holds."""

    lead: str
    raw: str
    row: Row


def _rewrite_text(source: Path, target: Path, transform: Transform) -> None:
    name = str(source)
    with reading(name, EOFError, zlib.error):
        kind = text_kind(source, name, SUFFIXES.get(suffix_of(source), ""))
    with (
        open_bytes(source) as stream,
        _create(target, zipped=isinstance(stream, gzip.GzipFile)) as raw,
    ):
        bom = stream.read(3) == codecs.BOM_UTF8
        stream.seek(0)
        text = decoded(stream)
        out = io.TextIOWrapper(
            raw, "utf-8", errors="surrogateescape", newline="", write_through=True
        )
        out.write("\ufeff" * bom)
        if kind == "array":
            _write_array(_guarded(name, array_parts(text)), out, transform)
        elif kind == "jsonl":
            _write_records(_guarded(name, _lines(text)), out, transform, _spliced)
        else:
            first = text.readline()
            delimiter = "\t" if kind == "tsv" else csv_delimiter(first)
            pieces, header = _csv_pieces(chain([first], text), delimiter, out)
            edit = partial(_csv_edited, header=header, delimiter=delimiter)
            _write_records(_guarded(name, pieces), out, transform, edit)
        out.detach()


def _guarded(name: str, items: Iterator[T]) -> Iterator[T]:
    """The items, with what goes wrong while they are read told apart from what goes wrong while
    others are written.
    """
    with reading(name, DamagedError, EOFError, zlib.error, csv.Error, pa.ArrowException):
        yield from items


def _create(target: Path, *, zipped: bool) -> BinaryIO:
    # Neither name nor time in the header: the same rows give the same bytes.
    return cast(BinaryIO, _GzipFile(target) if zipped else target.open("wb"))


class _GzipFile(gzip.GzipFile):
    """A gzipped file without name and time in its header."""

    def __init__(self, target: Path) -> None:
        self._target = target.open("wb")
        super().__init__("", "wb", compresslevel=6, fileobj=self._target, mtime=0)

    def close(self) -> None:
        super().close()
        self._target.close()


def _lines(text: io.TextIOWrapper) -> Iterator[_Piece]:
    lead = ""
    for line in _unix_lines(text):
        # White space is what `bytes.isspace` means, as where rows are numbered without blank lines.
        if not line.strip(" \t\n\r\v\f"):
            lead += line
        else:
            yield _Piece(lead, line, parse_line(line.encode("utf-8", "surrogateescape")))
            lead = ""
    yield _Piece(lead, "", "end")


def _unix_lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Lines that end with a line feed: a lone carriage return is white space within a JSON line."""
    joined = ""
    for line in text:
        joined += line
        if joined.endswith("\n"):
            yield joined
            joined = ""
    if joined:
        yield joined


def _csv_pieces(
    lines: Iterator[str], delimiter: str, out: io.TextIOWrapper
) -> tuple[Iterator[_Piece], list[str]]:
    """The records, after the header has been written."""
    taken: list[str] = []

    def tap() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    table = csv_table(tap(), delimiter)
    header = next(table, [])
    out.write(_taken(taken))

    def pieces() -> Iterator[_Piece]:
        lead = ""
        for cells in table:
            raw = _taken(taken)
            if cells:
                yield _Piece(lead, raw, csv_row(header, cells))
                lead = ""
            else:
                lead += raw
        yield _Piece(lead + _taken(taken), "", "end")

    return pieces(), header


def _taken(lines: list[str]) -> str:
    text = "".join(lines)
    lines.clear()
    return text


def _write_records(
    pieces: Iterator[_Piece],
    out: io.TextIOWrapper,
    transform: Transform,
    edit: Callable[[str, Row, Edits], str],
) -> None:
    """Records that each bring their own line end; the last one of the file may lack it."""
    owed = ""
    for piece, copies in _transformed(pieces, transform):
        out.write(owed + piece.lead if piece.lead else "")
        owed = "" if piece.lead else owed
        for edits in copies:
            raw = edit(piece.raw, piece.row, edits) if edits else piece.raw
            out.write(owed + raw)
            owed = "" if raw.endswith(("\n", "\r")) else "\n"


def _transformed(
    pieces: Iterator[_Piece], transform: Transform
) -> Iterator[tuple[_Piece, Sequence[Edits]]]:
    while batch := list(islice(pieces, BATCH_ROWS)):
        real = [piece for piece in batch if piece.raw]
        done = iter(transform([piece.row for piece in real]) if real else ())
        for piece in batch:
            yield piece, next(done) if piece.raw else ()


def _write_array(
    parts: Iterator[tuple[str, str]], out: io.TextIOWrapper, transform: Transform
) -> None:
    """Elements of one JSON array: what stands before the first is its head, before the others a
    separator.
    """
    # What was decoded with surrogates stays so: the row is then skipped as broken, not the file.
    pieces = (
        _Piece(lead, raw, parse_line(raw.encode("utf-8", "surrogateescape")) if raw else "end")
        for lead, raw in parts
    )
    separator, written = "", False
    for number, (piece, copies) in enumerate(_transformed(pieces, transform)):
        if number == 0 or not piece.raw:
            out.write(piece.lead)  # the head, or the tail
        else:
            separator = piece.lead
        for edits in copies:
            if written:
                out.write(separator or ", ")
            out.write(_spliced(piece.raw, piece.row, edits))
            written = True


def _spliced(raw: str, _: Row, edits: Edits) -> str:
    for path, text in edits.items():
        raw = splice(raw, path, text)
    return raw


def _csv_edited(raw: str, row: Row, edits: Edits, *, header: Sequence[str], delimiter: str) -> str:
    if isinstance(row, str):
        return raw
    cells = [value for name in header if (value := edited(row, edits)[name]) is not None]
    body = raw.rstrip("\r\n")
    quoted = body.startswith('"') and body.endswith('"')
    buffer = io.StringIO()
    csv.writer(
        buffer,
        delimiter=delimiter,
        lineterminator="",
        quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL,
    ).writerow(cells)
    return buffer.getvalue() + raw[len(body) :]


def _rewrite_parquet(
    source: Path, target: Path, columns: Sequence[str], transform: Transform
) -> None:
    with (
        pq.ParquetFile(source, buffer_size=1 << 20) as file,
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


def _parquet_writer(target: Path, file: pq.ParquetFile) -> pq.ParquetWriter:
    """A writer with the schema of `file` and, by column, its compression and encoding."""
    options: dict[str, object] = {}
    if file.num_row_groups:
        group = file.metadata.row_group(0)
        chunks = [group.column(i) for i in range(group.num_columns)]
        methods = {chunk.path_in_schema: chunk.compression for chunk in chunks}
        coded = [chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page]
        options = {
            "compression": {
                name: "NONE" if used == "UNCOMPRESSED" else used for name, used in methods.items()
            },
            "use_dictionary": coded or False,
            "write_statistics": any(chunk.is_stats_set for chunk in chunks),
        }
    return pq.ParquetWriter(
        target,
        file.schema_arrow,
        version=file.metadata.format_version,
        use_compliant_nested_type=False,
        **options,
    )


def _edited_batch(
    batch: pa.RecordBatch, present: Sequence[str], transform: Transform
) -> pa.RecordBatch:
    rows = ArrowBatch(batch.select(present)).take(range(batch.num_rows))
    copies = transform(rows)
    # For every row of the output the input row that it comes from, and what is new in it.
    origins = [i for i, row_copies in enumerate(copies) for _ in row_copies]
    changes = [edits for row_copies in copies for edits in row_copies]
    if not any(changes) and len(origins) == batch.num_rows == sum(map(bool, copies)):
        return batch
    output = batch.take(pa.array(origins, pa.int64()))
    for name in dict.fromkeys(str(path[0]) for edits in changes for path in edits):
        changed = [n for n, edits in enumerate(changes) if any(path[0] == name for path in edits)]
        values = [
            edited(cast(dict[str, object], rows[origins[n]]), changes[n])[name] for n in changed
        ]
        column = _replaced(output.column(name), changed, values, name)
        index = output.schema.get_field_index(name)
        output = output.set_column(index, output.schema.field(name), column)
    return output


def _replaced(column: pa.Array, at: Sequence[int], values: Sequence[object], name: str) -> pa.Array:
    """`column` with `values` at the rows `at`; all other values are not touched."""
    kind = column.type
    try:
        new = pa.array(values, type=kind.value_type if pa.types.is_dictionary(kind) else kind)
    except (pa.ArrowException, TypeError) as error:
        raise InputError(
            f"The column {name} is {kind}, into which changed text cannot be written.",
            "Convert it to text or messages, then run again.",
        ) from error
    if pa.types.is_dictionary(kind):
        new = new.dictionary_encode().cast(kind)
    order = list(range(len(column)))
    for number, row in enumerate(at):
        order[row] = len(column) + number
    # The new values stand behind the old ones, and one `take` brings each to its row: the old ones
    # are copied as they are, also those of types that Python has no value for.
    both = pa.chunked_array([column, new]).unify_dictionaries().combine_chunks()
    joined = both.combine_chunks() if isinstance(both, pa.ChunkedArray) else both
    return joined.take(pa.array(order, pa.int64()))
