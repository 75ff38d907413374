"""JSONL, JSON and CSV, plain or gzipped, streamed row by row; broken bytes and lines become
reasons, not errors.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Literal, cast

from auditor.data.batches import BATCH_ROWS, DamagedError, DataFile, Row, reading
from auditor.data.json_stream import DECODER, array_rows, is_array
from auditor.errors import InputError

Kind = Literal["jsonl", "array", "csv", "tsv"]

_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HEAD_BYTES = 4096
# The module's limit of 128 kB a cell is below a long completion; this one still stops at a quote
# that never closes.
_CELL_BYTES = 1 << 26


@dataclass(frozen=True)
class TextBatch:
    """Rows, or lines of JSONL that are parsed when taken: a sample drops most lines unread."""

    items: Sequence[Row | bytes]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, positions: Sequence[int]) -> list[Row]:
        items = (self.items[i] for i in positions)
        return [parse_line(item) if isinstance(item, bytes) else item for item in items]


@dataclass(frozen=True)
class TextFile:
    """A text file as one block; how many rows it has only reading tells."""

    path: Path
    name: str
    kind: Kind
    rows: None = None

    def batches(self, columns: Sequence[str] | None, size: int = BATCH_ROWS) -> Iterator[TextBatch]:
        """Yield all rows in batches of at most `size`; `columns` saves nothing here."""
        with (
            reading(self.name, DamagedError, EOFError, zlib.error, csv.Error),
            open_bytes(self.path) as stream,
        ):
            yield from batched(_items(stream, self.kind), size)


def text_file(path: Path, name: str, suffix: str) -> DataFile:
    """Return the text file at `path`; its kind follows from `suffix` (".csv", "" if unknown) and
    its first bytes.
    """
    with reading(name, EOFError, zlib.error):
        kind = text_kind(path, name, suffix)
    return DataFile(name, (TextFile(path, name, kind),))


def batched(items: Iterator[Row | bytes], size: int) -> Iterator[TextBatch]:
    """Yield `items` in batches of `size`, the last one shorter."""
    while batch := list(islice(items, size)):
        yield TextBatch(batch)


def parse_line(line: bytes) -> Row:
    """Return the row of one JSONL line, or "broken_utf8", "not_json" or "wrong_type" (JSON, but no
    object).
    """
    try:
        value = DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError:
        return "broken_utf8"
    except (ValueError, RecursionError):
        return "not_json"
    return _object(value)


def _object(value: object) -> Row:
    return value if isinstance(value, dict) else "wrong_type"


def open_bytes(path: Path) -> BinaryIO:
    """Open a text file, unzipped."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == _GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path)) if zipped else path.open("rb")


def text_kind(path: Path, name: str, suffix: str) -> Kind:
    """The kind of a text file, by its suffix and first bytes. Raises InputError where none fits."""
    with open_bytes(path) as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith(_UTF16_MARKS):
        raise InputError(
            f"{name} is UTF-16.", f"Convert it: iconv -f UTF-16 -t UTF-8 {name} > utf8-copy."
        )
    if suffix in (".csv", ".tsv"):
        return "csv" if suffix == ".csv" else "tsv"
    first = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if suffix == "" and first not in (b"[", b"{"):
        if b"\0" in head:
            raise InputError(
                f"{name} is neither Parquet, JSON, JSONL nor CSV.", "Convert it to one of them."
            )
        return "csv"
    if first == b"[":
        return "array"
    if first == b"{" and suffix in ("", ".json"):
        with open_bytes(path) as stream:
            return "array" if is_array(decoded(stream)) else "jsonl"
    return "jsonl"


def decoded(stream: BinaryIO) -> io.TextIOWrapper:
    """The text of a stream, without its byte-order mark, every line with its own ending."""
    # Broken bytes become lone surrogates, which no valid file holds: the row is then found and
    # skipped by itself.
    return io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")


def _items(stream: BinaryIO, kind: Kind) -> Iterator[Row | bytes]:
    if kind == "jsonl":
        return _lines(stream)
    if kind == "array":
        return (_object(value) for value in array_rows(decoded(stream)))
    text = decoded(stream)
    first = text.readline()
    table = csv_table(chain([first], text), "\t" if kind == "tsv" else csv_delimiter(first))
    header = next(table, [])
    return (csv_row(header, cells) for cells in table if cells)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    first = stream.readline().removeprefix(codecs.BOM_UTF8)
    if first.strip():
        yield first
    for line in stream:
        if not line.isspace():
            yield line


def csv_delimiter(first: str) -> str:
    """The delimiter of a CSV file, by its first line."""
    return max(",;\t|", key=first.count)


def csv_table(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """The cells of each record; an empty line is a record without cells."""
    csv.field_size_limit(_CELL_BYTES)
    return csv.reader(lines, delimiter=delimiter)


def csv_row(header: Sequence[str], cells: Sequence[str]) -> Row:
    """The row of one record, with None for cells that it lacks."""
    if len(cells) > len(header):
        return "wrong_type"  # a delimiter that was not quoted: the cells have moved
    return dict(zip(header, [*cells, *[None] * (len(header) - len(cells))], strict=True))
