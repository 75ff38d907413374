"""JSONL, JSON and CSV, plain or compressed, streamed row by row; broken bytes and lines become
reasons, not errors.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from json.scanner import make_scanner
from pathlib import Path
from typing import BinaryIO, Literal, TextIO, cast

from auditor.data import compression
from auditor.data.batches import (
    BATCH_ROWS,
    AmbiguousError,
    DamagedError,
    OversizedError,
    Record,
    Row,
    oversized,
    reading,
)
from auditor.data.json_stream import DECODER, array_records, is_array
from auditor.data.limits import IN_FORCE
from auditor.errors import InputError

Kind = Literal["jsonl", "array", "csv", "tsv"]

DAMAGE = (DamagedError, *compression.DAMAGE, csv.Error)
"""What reading a text file raises, besides OSError, where its content is broken or ends early."""

_HEAD_BYTES = 4096
_SCAN = cast(Callable[[str, int], tuple[object, int]], make_scanner(DECODER))  # type: ignore[arg-type]
_CHUNK = 1 << 20
# Where one object ends and the next begins on the same line; rarely it stands inside a text.
_JOINED = re.compile(rb"\}[ \t]*\{")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.DOTALL)


@dataclass(frozen=True)
class TextBatch:
    """Rows, or lines of JSONL that are parsed when taken: a sample drops most lines unread.

    name: of the file, for messages.
    """

    name: str
    items: Sequence[Row | bytes]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, positions: Sequence[int]) -> list[Row]:
        items = [self.items[i] for i in positions]
        # A line that repeats is parsed once.
        lines = dict.fromkeys(item for item in items if isinstance(item, bytes))
        with reading(self.name):
            parsed = {line: parse_line(line) for line in lines}
        return [parsed[item] if isinstance(item, bytes) else item for item in items]


@dataclass(frozen=True)
class TextFile:
    """A text file as one block; how many rows it has only reading tells."""

    path: Path
    name: str
    kind: Kind
    rows: None = None

    def batches(self, columns: Sequence[str] | None, size: int = BATCH_ROWS) -> Iterator[TextBatch]:
        """Yield all rows in batches of at most `size`; `columns` saves nothing here."""
        by_lines = self.kind != "array"
        with reading(self.name, *DAMAGE), open_bytes(self.path, by_lines=by_lines) as stream:
            items: Iterator[Row | bytes]
            if self.kind == "jsonl":
                items = chain.from_iterable(map(_values, json_lines(stream)))
            else:
                text = decoded(stream)
                records = (
                    array_records(text) if self.kind == "array" else csv_table(text, self.kind)[2]
                )
                items = (record.row for record in records if record.raw)
            yield from batched(self.name, items, size)


def batched(name: str, items: Iterator[Row | bytes], size: int) -> Iterator[TextBatch]:
    """Yield `items` of the file `name` in batches of `size`, the last one shorter."""
    while batch := list(islice(items, size)):
        yield TextBatch(name, batch)


def parse_line(line: bytes) -> Row:
    """Return the row of one JSONL line, or "broken_utf8", "not_json" or "wrong_type" (JSON, but no
    object).

    Raises AmbiguousError for a line that holds more than that, and for a key that stands twice.
    """
    try:
        text = line.decode("utf-8").strip(" \t\r\n")
        # What `DECODER.decode` comes to as well, after twice the time.
        value, end = _SCAN(text, 0)
    except UnicodeDecodeError:
        return "broken_utf8"
    except (ValueError, RecursionError, StopIteration):
        return "not_json"
    if end < len(text):
        if "{" in text[end:]:
            raise _several()
        return "not_json"
    return value if isinstance(value, dict) else "wrong_type"


def _values(lines: list[bytes]) -> list[bytes]:
    """Those of `lines` that are not blank. Raises AmbiguousError for an array of rows."""
    return [line for line in lines if line[0] == 0x7B or _is_value(line)]


def _is_value(line: bytes) -> bool:
    stripped = line.lstrip()
    if stripped[:1] == b"[" and b"{" in stripped:
        raise _several()
    return bool(stripped)


def _several() -> AmbiguousError:
    return AmbiguousError("a line holds more than one value")


class _Bounded(io.RawIOBase):
    """The bytes of a text file, unpacked; reading raises OversizedError beyond the limits.

    most: how many bytes there may be. by_lines: whether a row is no longer than a line.
    """

    def __init__(self, stream: io.BufferedIOBase, most: float, *, by_lines: bool) -> None:
        self._stream = stream
        self._most = most
        self._by_lines = by_lines
        self._limits = IN_FORCE.get()
        self._bytes = self._line_bytes = 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()
        super().close()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = self._stream.readinto(buffer)
        self._bytes += size
        if self._bytes > self._most:
            raise OversizedError(
                f"unpacked it has more than {self._limits.expansion} times its size",
                "Unpack it and check it, or raise limits.expansion in the settings.",
            )
        if self._by_lines:
            content = bytes(buffer[:size])
            end = content.rfind(b"\n")
            end = content.rfind(b"\r") if end < 0 else end
            self._line_bytes = size - 1 - end + (self._line_bytes if end < 0 else 0)
            if self._line_bytes > self._limits.row_bytes:
                raise oversized("a line")
        return size


def open_bytes(path: Path, *, by_lines: bool = False) -> io.BufferedReader:
    """Open a text file, unpacked; it cannot be sought in.

    by_lines: whether the limit of a row holds for its lines.
    """
    is_packed = compression.compression_of(path) is not None
    limits = IN_FORCE.get()
    most = max(limits.expanded_bytes, limits.expansion * path.stat().st_size)
    stream = compression.unpacked(path)
    return io.BufferedReader(
        _Bounded(stream, most if is_packed else math.inf, by_lines=by_lines), _CHUNK
    )


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


def json_lines(stream: io.BufferedReader) -> Iterator[list[bytes]]:
    """The lines of JSONL in blocks, with their ends, blank ones too, without a byte-order mark.

    A line ends at a line feed, a carriage return or both, as for Python and `datasets`. Objects
    that share a line are lines of their own. Raises AmbiguousError for what shares a line with an
    object and is none.
    """
    row_bytes = IN_FORCE.get().row_bytes
    chunk = stream.read(_CHUNK).removeprefix(codecs.BOM_UTF8)
    while chunk:
        # What follows may belong to the last line: its end, or the other half of its end.
        following = stream.read(_CHUNK)
        if chunk.isspace():
            # Taken for one line: as lines, nothing but line ends would cost a hundred times more.
            yield [chunk]
            chunk = following
            continue
        lines = chunk.splitlines(keepends=True)
        start = lines.pop() if following else b""
        if max(map(len, lines), default=0) > row_bytes:
            raise oversized("a line")
        # With no more braces than lines there cannot be two objects on one.
        if chunk.count(b"{") > len(lines) and _JOINED.search(chunk):
            lines = [value for line in lines for value in _split(line)]
        yield lines
        chunk = start + following


def _split(line: bytes) -> list[bytes]:
    """The objects of one line, each with the white space behind it."""
    if not _JOINED.search(line) or not _JOINED.search(_STRING.sub(b'""', line)):
        return [line]
    text = line.decode("utf-8", "surrogateescape")
    ends = [0]
    try:
        while ends[-1] < len(text):
            value, end = DECODER.raw_decode(text, ends[-1])
            if not isinstance(value, dict):
                raise _several()
            ends.append(end + len(text[end:]) - len(text[end:].lstrip(" \t\r\n")))
    except (ValueError, RecursionError) as error:
        raise _several() from error
    return [
        text[start:end].encode("utf-8", "surrogateescape")
        for start, end in itertools.pairwise(ends)
    ]


def csv_table(text: TextIO, kind: Kind) -> tuple[list[str], str, Iterator[Record]]:
    """The header of a CSV file, its delimiter and its records; the lead of the first one begins
    with the header's line.

    Raises AmbiguousError for a column that stands twice, and where a reader that takes commas to
    part the cells, as `datasets` does, would find other columns.
    """
    row_bytes = IN_FORCE.get().row_bytes
    csv.field_size_limit(row_bytes)
    first = text.readline()
    delimiter = "\t" if kind == "tsv" else max(",;\t|", key=first.count)
    lines: list[str] = []  # of the record that is being read: one of them, or more with quoted ends

    def noted() -> Iterator[str]:
        size = 0
        for line in chain([first], text):
            size = len(line) + (size if lines else 0)
            if size > row_bytes:
                raise oversized("a row")
            lines.append(line)
            yield line

    table = csv.reader(noted(), delimiter=delimiter)
    header = next(table, [])
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise AmbiguousError(f"the column {repeated[0][:60]!r} stands twice")
    if kind == "csv" and delimiter != "," and len(next(csv.reader([first]), [])) > 1:
        raise AmbiguousError(f"its first line has both {delimiter!r} and ',' between names")

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
