"""JSONL, JSON and CSV, plain or compressed, streamed row by row; broken bytes and lines become
reasons, not errors.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Literal, TextIO

from auditor.data import compression
from auditor.data.batches import BATCH_ROWS, DamagedError, Record, Row, reading
from auditor.data.json_stream import DECODER, array_records, is_array
from auditor.errors import InputError

Kind = Literal["jsonl", "array", "csv", "tsv"]

DAMAGE = (DamagedError, *compression.DAMAGE, csv.Error)
"""What reading a text file raises, besides OSError, where its content is broken or ends early."""

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
        with reading(self.name, *DAMAGE), open_bytes(self.path) as stream:
            items: Iterator[Row | bytes]
            if self.kind == "jsonl":
                items = (line for line in unix_lines(stream) if line.strip())
            else:
                text = decoded(stream)
                records = (
                    array_records(text) if self.kind == "array" else csv_table(text, self.kind)[2]
                )
                items = (record.row for record in takewhile(attrgetter("raw"), records))
            yield from batched(items, size)


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
    return value if isinstance(value, dict) else "wrong_type"


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a text file, unpacked."""
    return compression.unpacked(path)


def text_kind(path: Path, name: str, suffix: str) -> Kind:
    """The kind of a text file, by its suffix ("" if unknown) and first bytes.

    Raises InputError where none fits, or where it cannot be read; `name` is the file's in errors.
    """
    with reading(name, *DAMAGE):
        with open_bytes(path) as stream:
            head = stream.read(_HEAD_BYTES)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
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
            # One object a line, or one object that holds the list: only reading on tells.
            with open_bytes(path) as stream:
                return "array" if is_array(decoded(stream)) else "jsonl"
        return "jsonl"


def decoded(stream: BinaryIO) -> io.TextIOWrapper:
    """The text of a stream, without its byte-order mark, every line with its own ending."""
    # Broken bytes become lone surrogates, which no valid file holds: the row is then found and
    # skipped by itself.
    return io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")


def unix_lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of JSONL with their line feeds, blank ones too, without a byte-order mark.

    A lone carriage return ends no line: it is white space within JSON.
    """
    yield stream.readline().removeprefix(codecs.BOM_UTF8)
    yield from stream


def csv_table(text: TextIO, kind: Kind) -> tuple[list[str], str, Iterator[Record]]:
    """The header of a CSV file, its delimiter and its records; the lead of the first one begins
    with the header's line.
    """
    csv.field_size_limit(_CELL_BYTES)
    first = text.readline()
    delimiter = "\t" if kind == "tsv" else max(",;\t|", key=first.count)
    lines: list[str] = []  # of the record that is being read: one of them, or more with quoted ends

    def noted() -> Iterator[str]:
        for line in chain([first], text):
            lines.append(line)
            yield line

    table = csv.reader(noted(), delimiter=delimiter)
    header = next(table, [])

    def records() -> Iterator[Record]:
        lead = "".join(lines)
        lines.clear()
        for cells in table:
            raw = "".join(lines)
            lines.clear()
            if not cells:
                lead += raw
                continue
            missing = len(header) - len(cells)
            # Where there are too many, a delimiter was not quoted and the cells have moved.
            row: Row = (
                "wrong_type"
                if missing < 0
                else dict(zip(header, [*cells, *[None] * missing], strict=True))
            )
            yield Record(lead, raw, row)
            lead = ""
        yield Record(lead, "", "")

    return header, delimiter, records()
