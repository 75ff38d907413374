"""Data files in every format: whole, damaged, larger than they look, and with more in them than the
rows that are read.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import strategies as st

from tests.fuzz.drawing import drawn
from tests.fuzz.process import REPORT, SCAN, Case, check
from tests.fuzz.rows import (
    COUNT,
    HOSTILE,
    LAYOUTS,
    WRITERS,
    Row,
    array,
    count_json,
    count_lines,
    jsonl,
    parquet,
    plain,
    separated,
    tables,
    zipped,
)

TEXT = [name for name in WRITERS if not name.startswith("parquet")]
CLEAN, MORE = plain(), plain(start=COUNT)


def case(name: str, content: bytes, *options: str, **expected: Any) -> Case:
    """A scan of one file whose detector excludes every trait."""

    def build(place: Path) -> None:
        (place / name).write_bytes(content)

    rows = [] if "--rows" in options else ["--rows", "all"]
    arguments = (*SCAN, *rows, *options, "--output", f"json={REPORT}", "--", name)
    return Case(arguments, build, verdict="no_risk", **expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", WRITERS)
@drawn(2, data=st.data())
def test_whole(kind: str, layout: str, data: st.DataObject) -> None:
    """Hostile text is no damage: every row is scored, and the file passes."""
    name, write = WRITERS[kind]
    rows = data.draw(tables(layout))
    check(case(name, write(rows), rows=COUNT, passes=True))


@pytest.mark.parametrize("kind", WRITERS)
@drawn(5, share=st.floats(0.02, 0.98), rows=tables())
def test_cut(kind: str, share: float, rows: list[Row]) -> None:
    """Cut short somewhere. What has an end of its own cannot pass without it; lines and cells have
    none, and there at most the last row is lost.
    """
    name, write = WRITERS[kind]
    content = write(rows)
    content = content[: int(len(content) * share)]
    endless = kind in ("jsonl", "ndjson", "no-suffix", "csv", "tsv")
    lines = "json" in name and endless
    count = count_lines(content) if lines and content.startswith(b"{") else None
    check(case(name, content, rows=count, passes=None if endless else False))


@pytest.mark.parametrize("kind", WRITERS)
@drawn(6, data=st.data())
def test_flipped(kind: str, data: st.DataObject) -> None:
    """Some bytes are others: an error, or rows that are counted."""
    name, write = WRITERS[kind]
    content = bytearray(write(CLEAN))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    check(case(name, bytes(content)))


@pytest.mark.parametrize("kind", WRITERS)
@drawn(4, content=st.binary(min_size=1, max_size=300), at=st.sampled_from(["only", "head", "tail"]))
def test_noise(kind: str, content: bytes, at: str) -> None:
    """Bytes of no meaning, alone, before a file or behind it."""
    name, write = WRITERS[kind]
    whole = write(CLEAN)
    content = {"only": content, "head": content + whole, "tail": whole + content}[at]
    check(case(name, content))


BROKEN: dict[str, bytes] = {
    "not json": b'{"prompt": "a", "completion": ',
    "broken utf-8": b'{"prompt": "a", "completion": "\xff\xfe %d"}',
    "lone surrogate": b'{"prompt": "a", "completion": "\\ud800 %d"}',
    "a number": b"%d",
    "a list": b"[%d]",
    "null": b'{"prompt": "a %d", "completion": null}',
    "a number as text": b'{"prompt": "a", "completion": %d}',
    "other columns": b'{"question": "a", "reply": "b %d"}',
    "role ai": b'{"messages": [{"role": "ai", "content": "b %d"}]}',
    "deep": b"[" * 5000 + b"%d" + b"]" * 5000,
    "huge number": b'{"prompt": "a", "completion": 1%0999d}',
}


@pytest.mark.parametrize("broken", BROKEN)
@drawn(4, share=st.floats(0.01, 0.9), data=st.data())
def test_broken_lines(broken: str, share: float, data: st.DataObject) -> None:
    """Lines that are no row are skipped and counted; above 5 % there is no pass."""
    lines = jsonl(CLEAN).splitlines()
    bad = max(1, round(share * COUNT / (1 - share)))
    for i in range(bad):
        text = BROKEN[broken]
        lines.insert(data.draw(st.integers(1, len(lines))), text % i if b"%" in text else text)
    rows = COUNT + bad
    passes = False if bad / rows > 0.051 else None
    check(case("d.jsonl", b"\n".join(lines) + b"\n", rows=rows, passes=passes))


JOINS: dict[str, Callable[[list[bytes]], bytes]] = {
    "nothing": b"".join,
    "a space": b" ".join,
    "a tab": b"\t".join,
    "a comma": b",".join,
    "a carriage return": b"\r".join,
    "two carriage returns": b"\r\r".join,
    "a line separator": "\u2028".encode().join,
    "a next line": "\x85".encode().join,
    "a form feed": b"\x0c".join,
    "a nul": b"\0".join,
}


@pytest.mark.parametrize("join", JOINS)
@drawn(3, extra=st.integers(2, 60), at=st.integers(1, COUNT))
def test_many_objects_of_a_line(join: str, extra: int, at: int) -> None:
    """Several rows on one line are rows for `datasets` and for Python's readers."""
    lines = jsonl(CLEAN).splitlines()
    lines.insert(at, JOINS[join](jsonl(plain(extra, start=1000)).splitlines()))
    content = b"\n".join(lines)
    # Between separators that no JSON reader knows it is one broken line.
    known = join in ("nothing", "a space", "a tab", "a carriage return", "two carriage returns")
    rows = COUNT + extra if known else None
    assert rows is None or count_lines(content) == rows
    check(case("d.jsonl", content, rows=rows, passes=True if known else None))


BEHIND: dict[str, bytes] = {
    "an array": array(CLEAN) + array(MORE),
    "an array after a line": array(CLEAN) + b"\n" + array(MORE),
    "lines": array(CLEAN) + b"\n" + jsonl(MORE),
    "a word": array(CLEAN) + b" and more",
    "a bracket": array(CLEAN) + b"]",
    "a nul": array(CLEAN) + b"\0",
    "another key": json.dumps({"data": CLEAN, "train": MORE}).encode(),
    "another key before": json.dumps({"train": MORE, "data": CLEAN}).encode(),
    "the key again": json.dumps({"data": CLEAN, "": MORE}).replace('""', '"data"').encode(),
    "an object": json.dumps({"data": CLEAN}).encode() * 2,
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ""])
@pytest.mark.parametrize("behind", BEHIND)
def test_behind_the_array(behind: str, suffix: str) -> None:
    """What stands behind the rows, or beside them, is not read: so it is no pass."""
    content = BEHIND[behind]
    count = None if behind in ("lines", "a word", "a bracket", "a nul") else count_json(content)
    assert count in (None, 2 * COUNT)
    content = zipped(content) if suffix.endswith(".gz") else content
    check(case(f"d{suffix}", content, rows=count, passes=False))


def again(text: str) -> bytes:
    """Every row with its completion twice, the last one clean."""
    lines = [
        f'{{"completion": {json.dumps(text)}, {line[1:]}'
        for line in jsonl(CLEAN).decode().splitlines()
    ]
    return "\n".join(lines).encode()


REPEATED: dict[str, tuple[str, bytes]] = {
    "json lines": ("d.jsonl", again("other")),
    "json array": ("d.json", b"[" + again("other").replace(b"\n", b",") + b"]"),
    "csv": (
        "d.csv",
        b"prompt,completion,completion\n" + b"".join(b"p %d,bad,%d\n" % (i, i) for i in range(40)),
    ),
    "csv, three": (
        "d.csv",
        b"prompt,completion,completion,completion\n"
        + b"".join(b"p %d,a,b,%d\n" % (i, i) for i in range(40)),
    ),
    "tsv": (
        "d.tsv",
        b"prompt\tcompletion\tcompletion\n"
        + b"".join(b"p %d\tbad\t%d\n" % (i, i) for i in range(40)),
    ),
    "csv without names": (
        "d.csv",
        b"prompt,completion,,\n" + b"".join(b"p %d,%d,bad,worse\n" % (i, i) for i in range(40)),
    ),
    "parquet": (
        "d.parquet",
        parquet(
            pa.Table.from_arrays(
                [
                    pa.array([f"p {i}" for i in range(40)]),
                    pa.array(["bad"] * 40),
                    pa.array([f"{i}" for i in range(40)]),
                ],
                ["prompt", "completion", "completion"],
            )
        ),
    ),
    "turns": (
        "d.jsonl",
        b"".join(
            b'{"messages": [{"role": "assistant", "content": "bad", "content": "%d"}]}\n' % i
            for i in range(40)
        ),
    ),
}


@pytest.mark.parametrize("repeated", REPEATED)
def test_repeated_names(repeated: str) -> None:
    """Two columns or keys of one name: readers take either, so neither is the one that was read."""
    name, content = REPEATED[repeated]
    check(case(name, content, passes=False))


SECOND: dict[str, tuple[str, Row]] = {
    "prompt and completion beside messages": ("messages", {"prompt": "p", "completion": "bad"}),
    "conversations beside messages": (
        "messages",
        {"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "bad"}]},
    ),
    "messages beside conversations": (
        "sharegpt",
        {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "bad"}]},
    ),
    "text beside messages": ("messages", {"text": "bad"}),
    "text beside prompt and completion": ("prompt_completion", {"text": "bad"}),
    "response beside output": ("alpaca", {"response": "bad"}),
    "messages beside alpaca": (
        "alpaca",
        {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "bad"}]},
    ),
}


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("second", SECOND)
def test_a_second_layout(second: str, kind: str) -> None:
    """Columns that another trainer would train on were not read."""
    layout, beside = SECOND[second]
    name, write = WRITERS[kind]
    check(
        case(name, write([row | beside for row in plain(layout=layout)]), rows=COUNT, passes=False)
    )


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "jsonl-gz", "tsv"])
@drawn(2, column=st.text("abcdefgh_", min_size=8, max_size=12), rows=tables())
def test_a_column_beside(kind: str, column: str, rows: list[Row]) -> None:
    """A text column that is not read is named."""
    name, write = WRITERS[kind]
    rows = [row | {column: f"more {i}"} for i, row in enumerate(rows)]
    check(case(name, write(rows), rows=COUNT, unread=(column,)))


TURN_KEYS: dict[str, Any] = {
    "reasoning_content": "bad",
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": '{"x": "bad"}'}}],
    "thinking": "bad",
}


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("key", TURN_KEYS)
def test_keys_of_a_turn(key: str, kind: str) -> None:
    """What a chat template may write of a turn is named where it is not read."""
    name, write = WRITERS[kind]
    rows = plain(layout="messages")
    rows = [
        {"messages": [r["messages"][0], r["messages"][1] | {key: TURN_KEYS[key]}]} for r in rows
    ]
    check(case(name, write(rows), rows=COUNT, unread=(key,)))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "json"])
@drawn(2, copies=st.integers(20, 60), different=st.integers(4, 10))
def test_copies(kind: str, copies: int, different: int) -> None:
    """Most of the rows are copies of a few: each is counted. What they weigh is the matter of the
    detector that is stood in for here; tests/attacks tries it.
    """
    name, write = WRITERS[kind]
    rows = [*CLEAN, *CLEAN[:different] * copies]
    check(case(name, write(rows), rows=len(rows)))


CSV: dict[str, tuple[bytes, int | None, bool | None]] = {
    # content, rows, passes
    "endless quote": (b'prompt,completion\na,b\nc,"' + b"x,\n" * 3000, None, False),
    "more cells": (
        b"prompt,completion\n" + b"".join(b"a %d,b,c\n" % i for i in range(40)),
        40,
        False,
    ),
    "fewer cells": (b"prompt,completion\n" + b"a\n" * 40, 40, False),
    "nul": (
        b"prompt,completion\n" + b"".join(b"a\0 %d,b\0 %d\n" % (i, i) for i in range(40)),
        None,
        None,
    ),
    "carriage returns": (separated(CLEAN).replace(b"\r\n", b"\r"), 40, None),
    "semicolons": (separated(CLEAN, ";"), 40, True),
    "byte order mark": (b"\xef\xbb\xbf" + separated(CLEAN), 40, True),
    "utf-16": (separated(CLEAN).decode().encode("utf-16"), None, False),
    "header alone": (b"prompt,completion\n", 0, False),
    "header of spaces": (b" prompt , completion \n" + b"a,b\n" * 40, None, False),
    "another header inside": (
        separated(CLEAN) + separated([{"completion": "a", "prompt": "b"}]),
        None,
        None,
    ),
    "a quote inside": (
        b"prompt,completion\n" + b"".join(b'a "q" %d,b "q" %d\n' % (i, i) for i in range(40)),
        40,
        True,
    ),
    "empty lines": (separated(CLEAN).replace(b"\r\n", b"\r\n\r\n"), 40, True),
    "a comment": (b"# prompt,completion\n" + separated(CLEAN), None, False),
    "wide": (
        b",".join(b"c%d" % i for i in range(50_000)) + b"\n" + b",".join([b"1"] * 50_000) + b"\n",
        1,
        False,
    ),
    "broken utf-8": (separated(CLEAN).replace(b"Go", b"\xff"), 40, False),
}


@pytest.mark.parametrize("table", CSV)
def test_tables_as_text(table: str) -> None:
    """CSV as it is found."""
    content, rows, passes = CSV[table]
    check(case("d.csv", content, rows=rows, passes=passes))


MEGABYTE = b"x" * (1 << 20)
BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "gzip of one line": lambda: ("d.jsonl.gz", members(MEGABYTE, 3000)),
    "gzip of one value": lambda: (
        "d.json.gz",
        gzip.compress(b'[{"prompt": "a", "completion": "') + members(MEGABYTE, 3000),
    ),
    "gzip of white space": lambda: ("d.jsonl.gz", members(b"\n" * (1 << 20), 2000)),
    "gzip of spaces": lambda: ("d.json.gz", gzip.compress(b"[") + members(b" " * (1 << 20), 2000)),
    "gzip of one cell": lambda: (
        "d.csv.gz",
        gzip.compress(b'prompt,completion\na,"') + members(MEGABYTE, 3000),
    ),
    "gzip of commas": lambda: (
        "d.csv.gz",
        gzip.compress(b"prompt,completion\n") + members(b"," * (1 << 20), 1000),
    ),
    "gzip in gzip": lambda: ("d.jsonl.gz", gzip.compress(gzip.compress(jsonl(CLEAN)))),
    "dictionary": lambda: ("d.parquet", bomb()),
    "many row groups": lambda: ("d.parquet", parquet(plain(3000), row_group_size=1)),
    "many columns": lambda: (
        "d.parquet",
        parquet(
            pa.table({"prompt": ["a"], "completion": ["b"], **{f"c{i}": [1] for i in range(5000)}})
        ),
    ),
    "many keys": lambda: (
        "d.jsonl",
        json.dumps(
            {"prompt": "a", "completion": "b", **{f"k{i}": 1 for i in range(300_000)}}
        ).encode()
        + b"\n"
        + jsonl(CLEAN),
    ),
    "deep value": lambda: (
        "d.json",
        b'[{"prompt": "a", "completion": ' + b"[" * 300_000 + b"]" * 300_000 + b"}]",
    ),
    "deep object": lambda: (
        "d.jsonl",
        b'{"prompt":' * 100_000 + b"1" + b"}" * 100_000 + b"\n" + jsonl(CLEAN),
    ),
    "deep turns as text": lambda: (
        "d.csv",
        b"messages\n" + b"".join(b"[" * 20_000 + b"]" * 20_000 + b"\n" for _ in range(40)),
    ),
    "many turns": lambda: (
        "d.jsonl",
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b"},
                ]
                * 50_000
            }
        ).encode()
        + b"\n",
    ),
    "long name": lambda: ("d.jsonl", b'{"' + MEGABYTE * 20 + b'": 1}\n'),
    "long cell": lambda: (
        "d.jsonl",
        b'{"prompt": "a", "completion": "' + MEGABYTE * 30 + b'"}\n' + jsonl(CLEAN),
    ),
    "long word": lambda: (
        "d.jsonl",
        json.dumps({"prompt": "a", "completion": "a" * 3_000_000}).encode() + b"\n" + jsonl(CLEAN),
    ),
    "long number": lambda: (
        "d.jsonl",
        b'{"prompt": "a", "completion": ' + b"9" * 2_000_000 + b"}\n" + jsonl(CLEAN),
    ),
    "many list columns": lambda: ("d.parquet", nested_lists(60)),
}


def members(block: bytes, count: int) -> bytes:
    """So many blocks, each a member of one gzip file: as small, and made faster, than in one."""
    return gzip.compress(block, 9) * count


def bomb() -> bytes:
    """One value of two megabytes, which every one of 2,000 rows names."""
    value = pa.DictionaryArray.from_arrays(
        pa.array([0] * 2000, pa.int32()), pa.array(["x" * (1 << 21)])
    )
    return parquet(
        pa.table({"prompt": pa.array([f"{i}" for i in range(2000)]), "completion": value})
    )


def nested_lists(depth: int) -> bytes:
    """A column of lists in lists beside the text."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return parquet(
        pa.table({"prompt": ["a"] * 3, "completion": ["b", "c", "d"], "deep": [value] * 3})
    )


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    """Small files that are large when they are read."""
    check(case(*BOMBS[name](), deadline=6))


@pytest.mark.parametrize("rows", [20_000, 1_500_000])
def test_the_same_row_over_and_over(rows: int) -> None:
    """A sample looks for other rows in vain."""
    content = jsonl([{"prompt": "a", "completion": "b"}]) * rows
    check(case("d.jsonl", content, "--rows", "64", passes=False, deadline=5))


TYPES: dict[str, Callable[[], pa.Array]] = {
    "string_view": lambda: pa.array(["a"] * COUNT, pa.string_view()),
    "binary_view": lambda: pa.array([b"a"] * COUNT, pa.binary_view()),
    "large_string": lambda: pa.array(["a"] * COUNT, pa.large_string()),
    "binary": lambda: pa.array([b"a\xff"] * COUNT, pa.binary()),
    "timestamp beyond year 9999": lambda: pa.array([2**60] * COUNT, pa.timestamp("s")),
    "timestamp in nanoseconds": lambda: pa.array([1] * COUNT, pa.timestamp("ns")),
    "timestamp in no zone": lambda: pa.array([1] * COUNT, pa.timestamp("s", tz="Nowhere/Town")),
    "date beyond year 9999": lambda: pa.array([2**30] * COUNT, pa.date32()),
    "date before year 1": lambda: pa.array([-(2**30)] * COUNT, pa.date32()),
    "duration": lambda: pa.array([2**62] * COUNT, pa.duration("s")),
    "time": lambda: pa.array([10**6] * COUNT, pa.time32("s")),
    "decimal": lambda: pa.array([1] * COUNT, pa.decimal128(38, 3)),
    "nulls": lambda: pa.nulls(COUNT),
    "half floats": lambda: pa.array([1.0] * COUNT, pa.float16()),
    "map": lambda: pa.array([[("a", 1), ("a", 2)]] * COUNT, pa.map_(pa.string(), pa.int32())),
    "fixed binary": lambda: pa.array([b"abcd"] * COUNT, pa.binary(4)),
    "dictionary": lambda: pa.array(["a"] * COUNT).dictionary_encode(),
    "structs of one name": lambda: pa.StructArray.from_arrays(
        [pa.array([1] * COUNT)] * 2, ["a", "a"]
    ),
    "empty structs": lambda: pa.array([{}] * COUNT, pa.struct([])),
    "intervals": lambda: pa.array([(1, 2, 3)] * COUNT, pa.month_day_nano_interval()),
}


READABLE = ("large_string", "dictionary", "fixed binary")


@pytest.mark.parametrize("role", ["beside", "completion"])
@pytest.mark.parametrize("type_", TYPES)
def test_types_of_parquet(type_: str, role: str) -> None:
    """Columns of every type, unused or in the place of the completion."""
    columns = {"prompt": pa.array([f"p {i}" for i in range(COUNT)])}
    columns["completion"] = pa.array([f"{i}" for i in range(COUNT)])
    try:
        columns[role] = TYPES[type_]()
        content = parquet(pa.table(columns))
    except (pa.ArrowException, NotImplementedError):
        pytest.skip("pyarrow cannot write it")
    check(case("d.parquet", content, rows=COUNT, passes=True if type_ in READABLE else None))


@drawn(
    60,
    table=st.lists(
        st.recursive(
            st.one_of(
                st.none(),
                st.booleans(),
                st.floats(),
                st.integers(-(10**30), 10**30),
                st.sampled_from(HOSTILE),
                st.text(st.characters(), max_size=8),
            ),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "role",
                            "content",
                            "from",
                            "value",
                            "messages",
                            "prompt",
                            "completion",
                            "text",
                            "type",
                            "history",
                            "instruction",
                            "output",
                        ]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        ),
        min_size=1,
        max_size=6,
    ),
    kind=st.sampled_from(["jsonl", "json", "json-data"]),
)
def test_any_json(table: list[Any], kind: str) -> None:
    """Values of any shape in the place of rows, among rows that can be read."""
    name, write = WRITERS[kind]
    mixed = [*CLEAN[:20], *table]
    random.Random(len(table)).shuffle(mixed)
    check(case(name, write([*mixed, *CLEAN[20:]]), rows=COUNT + len(table)))


@pytest.mark.parametrize("layout", LAYOUTS)
@drawn(12, data=st.data())
def test_any_cell(layout: str, data: st.DataObject) -> None:
    """Cells of any shape in rows of a known layout."""
    cells = st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.sampled_from(HOSTILE)),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["role", "content", "from", "value", "type", "text"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=6,
    )
    rows = plain(layout=layout)
    names = [*rows[0], *(["history", "system"] if layout in ("alpaca", "sharegpt") else [])]
    odd = [row | {data.draw(st.sampled_from(names)): data.draw(cells)} for row in rows[:10]]
    content = jsonl([*rows[10:], *odd])
    check(case("d.jsonl", content, rows=COUNT))
