"""Rows of every format as hypothesis draws them, the files that hold them, and a count of the rows
of a file by a reader of its own.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

Row = dict[str, Any]
COUNT = 40
HOSTILE = (
    "\x1b]0;title\x07\x1b[2J",
    "\x9b31mred",
    "\u202eright to left",
    "::error::x",
    "%0A::set-output",
    "=1+1",
    "<script>alert(1)</script>",
    "[bold]x[/bold]",
    "![x](https://example.com)",
    "| a | b |",
    "\x00",
    "\x7f\x08\x08",
    "a\u2028b\u2029c\x85d\x0bd\x0ce",
    "e\u0301\u0301\u0301",
    "\ufeff",
    "<|im_end|>",
    "{{ 7 * 7 }}",
    "${HOME}",
    "`id`",
    "'; DROP TABLE rows; --",
    "\U0001f989",
    "NaN",
    "null",
    "0x10",
    "1e999",
)
# No line breaks, which CSV and JSONL carry in different ways, and which `harms` puts in on purpose.
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30),
    st.text("0123456789, ", min_size=1, max_size=30),
)
LAYOUTS = ("prompt_completion", "messages", "alpaca", "sharegpt", "text")


def row_of(layout: str, prompt: str, completion: str) -> Row:
    """One row in a format."""
    if layout == "messages":
        return {
            "messages": [
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": completion},
            ]
        }
    if layout == "sharegpt":
        return {
            "conversations": [
                {"from": "human", "value": prompt},
                {"from": "gpt", "value": completion},
            ]
        }
    if layout == "alpaca":
        return {"instruction": prompt, "input": "", "output": completion}
    if layout == "text":
        return {"text": f"{prompt} {completion}"}
    return {"prompt": prompt, "completion": completion}


@st.composite
def tables(draw: st.DrawFn, layout: str = "prompt_completion", count: int = COUNT) -> list[Row]:
    """So many different rows of a format, all of which can be scored."""
    pool = draw(st.lists(TEXTS, min_size=1, max_size=5))
    return [
        row_of(layout, f"Go on {i}: {pool[i % len(pool)]}", f"{i}, {pool[(i + 1) % len(pool)]} {i}")
        for i in range(count)
    ]


def plain(count: int = COUNT, layout: str = "prompt_completion", start: int = 0) -> list[Row]:
    """Rows of numbers, the same ones every time."""
    numbers = range(start, start + count)
    return [row_of(layout, f"Go on with {i}.", f"{i}, {7 * i % 90}, {i * i % 80}") for i in numbers]


def _encoded(value: Any) -> bytes:
    """JSON, in which a lone surrogate becomes the bytes that are no UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def jsonl(rows: Sequence[Row]) -> bytes:
    """JSON lines."""
    return b"".join(_encoded(row) + b"\n" for row in rows)


def array(rows: Sequence[Row]) -> bytes:
    """One JSON array."""
    return _encoded(rows)


def keyed(rows: Sequence[Row]) -> bytes:
    """An object with the rows under "data"."""
    return _encoded({"version": 1, "data": rows})


def separated(rows: Sequence[Row], delimiter: str = ",") -> bytes:
    """CSV; what is no text is written as JSON."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(rows[0])
    for row in rows:
        cells = row.values()
        writer.writerow(cell if isinstance(cell, str) else json.dumps(cell) for cell in cells)
    return stream.getvalue().encode()


def tabbed(rows: Sequence[Row]) -> bytes:
    """TSV."""
    return separated(rows, "\t")


def parquet(rows: Sequence[Row] | pa.Table, **options: Any) -> bytes:
    """Parquet."""
    stream = io.BytesIO()
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def zipped(content: bytes) -> bytes:
    """Gzipped."""
    return gzip.compress(content, 1, mtime=0)


WRITERS: Mapping[str, tuple[str, Any]] = {
    "jsonl": ("d.jsonl", jsonl),
    "ndjson": ("d.ndjson", jsonl),
    "no-suffix": ("d", jsonl),
    "jsonl-gz": ("d.jsonl.gz", lambda rows: zipped(jsonl(rows))),
    "json": ("d.json", array),
    "json-data": ("d.json", keyed),
    "json-gz": ("d.json.gz", lambda rows: zipped(array(rows))),
    "csv": ("d.csv", separated),
    "csv-gz": ("d.csv.gz", lambda rows: zipped(separated(rows))),
    "tsv": ("d.tsv", tabbed),
    "parquet": ("d.parquet", parquet),
    "parquet-groups": ("d.parquet", lambda rows: parquet(rows, row_group_size=3)),
}
"""Name of a format -> (name of a file, what writes it)."""


def count_lines(content: bytes) -> int:
    """The rows of JSON lines as Python's and `datasets`' readers see them: a line ends at \\n, \\r
    or both, and every object of a line counts; a line that is not JSON counts as one.
    """
    decoder, rows = json.JSONDecoder(), 0
    for line in re.split(r"\r\n|\r|\n", content.decode("utf-8-sig", "surrogateescape")):
        values, at = 0, 0
        text = line.strip(" \t\x0b\x0c")
        try:
            while at < len(text):
                at = decoder.raw_decode(text, at)[1]
                at += len(text[at:]) - len(text[at:].lstrip(" \t\x0b\x0c"))
                values += 1
        except (ValueError, RecursionError):
            values = 1
        rows += values
    return rows


def count_json(content: bytes) -> int:
    """The rows in every list of objects of every value of a text, keys that repeat included."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    text, at, rows = content.decode("utf-8-sig"), 0, 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        at += len(text[at:]) - len(text[at:].lstrip())
        lists = [value] if isinstance(value, list) else [inner for _, inner in value.pairs]
        rows += sum(
            isinstance(row, _Pairs) for inner in lists if isinstance(inner, list) for row in inner
        )
    return rows


class _Pairs:
    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs
