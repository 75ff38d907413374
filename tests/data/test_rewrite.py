"""Writing a changed data set keeps everything that was not changed."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.data.batches import Row
from auditor.data.example import Example
from auditor.data.fields import Edits, edited, fields_of, splice, to_example
from auditor.data.formats import Layout
from auditor.data.json_stream import array_records
from auditor.data.rewrite import Transform, rewrite
from auditor.data.text import open_bytes
from auditor.data.text_row import TextRow
from auditor.errors import InputError

COLUMNS = ["prompt", "completion"]


def change(edits: dict[int, Sequence[Edits]]) -> Transform:
    """A transform that treats the rows named as given and keeps all others."""
    done = 0

    def transform(rows: Sequence[Row]) -> list[Sequence[Edits]]:
        nonlocal done
        copies = [edits.get(i, [{}]) for i in range(done, done + len(rows))]
        done += len(rows)
        return copies

    return transform


def written(path: Path, content: bytes, edits: dict[int, Sequence[Edits]]) -> bytes:
    """What `rewrite` makes of a file with this content."""
    path.write_bytes(content)
    target = path.with_name(f"new-{path.name}")
    rewrite(path, target, COLUMNS, change(edits))
    assert path.read_bytes() == content
    return target.read_bytes()


COMPLETION: Edits = {("completion",): "NEW"}


def test_splice_changes_the_string_and_nothing_else() -> None:
    """Odd spacing, escapes, nested paths, repeated keys and JSON within a string survive."""
    text = '{ "a" :"x", "b":\t[ {"c": "old", "d": 1.50 } , null], "a": "y\\u00e9" }'
    assert splice(text, ("a",), "z") == text.replace('"y\\u00e9"', '"z"')
    assert splice(text, ("b", 0, "c"), 'q"\n') == text.replace('"old"', '"q\\"\\n"')
    assert splice('{"é": "x"}', ("é",), "ü") == '{"é": "ü"}'
    assert splice('{"e": "x"}', ("e",), "ü") == '{"e": "\\u00fc"}'
    inner = json.dumps([{"role": "user", "content": "hi"}])
    outer = json.dumps({"messages": inner, "k": 1})
    assert (
        json.loads(json.loads(splice(outer, ("messages", 0, "content"), "ho"))["messages"])[0][
            "content"
        ]
        == "ho"
    )


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        (Layout("text", {"text": "t"}), {"t": "abc"}),
        (
            Layout("messages", {"messages": "m"}),
            {
                "m": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "u"},
                    {"role": "assistant", "content": "a"},
                ]
            },
        ),
        (
            Layout("messages", {"messages": "m"}),
            {
                "m": [
                    {"role": "user", "content": [{"type": "text", "text": "u"}]},
                    {"role": "assistant", "content": "a"},
                ]
            },
        ),
        (
            Layout("messages", {"messages": "m"}),
            {"m": '[{"role":"user","content":"u"},{"role":"assistant","content":"a"}]'},
        ),
        (
            Layout("sharegpt", {"conversations": "c", "system": "s"}),
            {"c": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}], "s": "sys"},
        ),
        (
            Layout("alpaca", {"instruction": "i", "input": "n", "output": "o", "history": "h"}),
            {"i": "do", "n": "this", "o": "done", "h": [["q", "a"]]},
        ),
        (
            Layout("alpaca", {"instruction": "i", "input": "n", "output": "o"}),
            {"i": "do", "n": " ", "o": "done"},
        ),
        (
            Layout("prompt_completion", {"prompt": "p", "completion": "c", "system": "s"}),
            {"p": "u", "c": "a", "s": "x"},
        ),
        (
            Layout("prompt_completion", {"prompt": "p", "completion": "c"}),
            {
                "p": "u",
                "c": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],
            },
        ),
        (Layout("prompt_completion", {"prompt": "p", "completion": "c"}), {"p": b"u", "c": b"a"}),
    ],
)
def test_fields_are_what_an_example_is_made_of(layout: Layout, row: dict[str, object]) -> None:
    """The texts of a row give its example back, and each can be changed at its place."""
    fields = fields_of(row, layout)
    example = to_example(7, row, layout)
    assert isinstance(example, Example)
    assert TextRow(7, fields).example == example
    new = {field.path: f"{field.text}!" for field in fields}
    after = fields_of(edited(row, new), layout)
    assert [field.text for field in after] == [f"{field.text}!" for field in fields]


def test_joined_parts_have_no_place() -> None:
    """A content of several parts can be read but not written back."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    row = {"m": [{"role": "user", "content": parts}, {"role": "assistant", "content": "c"}]}
    first, second = fields_of(row, Layout("messages", {"messages": "m"}))
    assert (first.path, first.text) == ((), "ab")
    assert second.path == ("m", 1, "content")


LINES = (
    b'\xef\xbb\xbf{"prompt": "a", "completion":"1", "id": 10000000000000000000001, "x": null}\r\n'
    b"\n"
    b'{"completion" : "2\xc3\xa9", "prompt": "b", "score": 1.50}\n'
    b"  \n"
    b"not json\n"
    b'{"prompt": "c", "completion": "3"}'
)


def test_jsonl_lines_stay_byte_for_byte(tmp_path: Path) -> None:
    """Nothing changed: the same bytes; a change touches its own string only; blank and broken lines
    stay.
    """
    assert written(tmp_path / "a.jsonl", LINES, {}) == LINES
    changed = written(tmp_path / "b.jsonl", LINES, {1: [COMPLETION]})
    assert changed == LINES.replace(b'"2\xc3\xa9"', b'"NEW"')
    dropped = written(tmp_path / "c.jsonl", LINES, {0: [], 3: []})
    assert (
        dropped
        == b'\xef\xbb\xbf\n{"completion" : "2\xc3\xa9", "prompt": "b", "score": 1.50}\n  \nnot '
        b"json\n"
    )
    doubled = written(tmp_path / "d.jsonl", LINES, {3: [{}, COMPLETION]})
    assert doubled == LINES + b'\n{"prompt": "c", "completion": "NEW"}'


def test_gzip_stays_gzip_and_has_no_time(tmp_path: Path) -> None:
    """A gzipped file comes out gzipped, with the same bytes each time."""
    once = written(tmp_path / "a.jsonl.gz", gzip.compress(LINES), {1: [COMPLETION]})
    assert gzip.decompress(once) == LINES.replace(b'"2\xc3\xa9"', b'"NEW"')
    assert once == written(tmp_path / "b.jsonl.gz", gzip.compress(LINES), {1: [COMPLETION]})


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstd)]
)
def test_a_packed_file_stays_packed(
    suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """A compressed file comes out compressed in the same way, with the changed row."""
    new = tmp_path / f"new-a.jsonl{suffix}"
    once = written(tmp_path / f"a.jsonl{suffix}", pack(LINES), {1: [COMPLETION]})
    assert once[:3] == pack(LINES)[:3]
    assert open_bytes(new).read() == LINES.replace(b'"2\xc3\xa9"', b'"NEW"')


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file])
def test_arrow_stays_arrow(new: Callable[..., pa.RecordBatchWriter], tmp_path: Path) -> None:
    """Streams stay streams and files stay files, with their schema; rows change, go and double."""
    rows = [{"prompt": p, "completion": "x", "n": i} for i, p in enumerate("abcd")]
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"k": "v"})
    source, target = tmp_path / "a.arrow", tmp_path / "b.arrow"
    with new(source, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    rewrite(source, target, COLUMNS, change({0: [COMPLETION], 1: [], 3: [{}, COMPLETION]}))
    is_file = target.read_bytes().startswith(b"ARROW1")
    assert is_file == source.read_bytes().startswith(b"ARROW1")
    opened = pa.ipc.open_file(target) if is_file else pa.ipc.open_stream(target)
    output = opened.read_all()
    assert output.schema.equals(table.schema, check_metadata=True)
    assert [(row["n"], row["completion"]) for row in output.to_pylist()] == [
        (0, "NEW"),
        (2, "x"),
        (3, "x"),
        (3, "NEW"),
    ]


ARRAY = (
    b'{"version": 2, "data": [\n  {"prompt": "a", "completion": "1"},\n  {"completion": "2", "k": '
    b"1.0},\n"
    b'  {"completion": "3"}\n ], "end": [1]}\n'
)


def test_json_arrays_keep_what_surrounds_their_rows(tmp_path: Path) -> None:
    """Head, separators and tail stay; rows can be dropped at both ends and added."""
    assert written(tmp_path / "a.json", ARRAY, {}) == ARRAY
    assert written(tmp_path / "b.json", ARRAY, {1: [COMPLETION]}) == ARRAY.replace(b'"2"', b'"NEW"')
    ends = json.loads(written(tmp_path / "c.json", ARRAY, {0: [], 2: []}))
    assert ends == {"version": 2, "data": [{"completion": "2", "k": 1.0}], "end": [1]}
    more = json.loads(written(tmp_path / "d.json", ARRAY, {2: [{}, COMPLETION]}))
    assert [row["completion"] for row in more["data"]] == ["1", "2", "3", "NEW"]
    assert json.loads(
        written(tmp_path / "e.json", b'[{"completion": "1"}]', {0: [{}, COMPLETION]})
    )[1] == {"completion": "NEW"}


def test_array_records_join_to_the_text() -> None:
    """However long the text, its parts are the whole of it."""
    rows = [{"completion": "x" * 1000, "n": i} for i in range(3000)]
    text = json.dumps({"a": 1, "data": rows, "b": 2}, indent=1)
    records = list(array_records(io.StringIO(text)))
    assert "".join(record.lead + record.raw for record in records) == text
    assert [json.loads(record.raw) for record in records if record.raw] == rows


def test_a_broken_byte_in_an_unused_column_does_not_keep_a_row_from_being_changed(
    tmp_path: Path,
) -> None:
    """A row of an array that can be scored is rewritten too; the broken byte stays as it is."""
    array = b'[{"completion": "1", "note": "\xff"}, {"completion": "2"}]'
    rows: list[Row] = []

    def transform(batch: Sequence[Row]) -> list[Sequence[Edits]]:
        rows.extend(batch)
        return [[COMPLETION] if isinstance(row, dict) else [{}] for row in batch]

    (tmp_path / "a.json").write_bytes(array)
    rewrite(tmp_path / "a.json", tmp_path / "b.json", COLUMNS, transform)
    layout = Layout("text", {"text": "completion"})
    assert all(isinstance(to_example(0, row, layout), Example) for row in rows)
    expected = array.replace(b'"1"', b'"NEW"').replace(b'"2"', b'"NEW"')
    assert (tmp_path / "b.json").read_bytes() == expected


TABLE = (
    b'prompt;completion;note\r\n"a;1";"x\r\ny";n1\r\n\r\nb;2;"n '
    b'""2"""\r\ntoo;many;cells;here\r\nc;3\r\n'
)


def test_csv_records_stay_byte_for_byte(tmp_path: Path) -> None:
    """Delimiter, quotes, line ends within cells and broken records stay; a changed record keeps its
    other cells.
    """
    assert written(tmp_path / "a.csv", TABLE, {}) == TABLE
    changed = written(tmp_path / "b.csv", TABLE, {1: [{("completion",): "q;r"}]})
    assert changed == TABLE.replace(b'b;2;"n ""2"""', b'b;"q;r";"n ""2"""')
    assert written(tmp_path / "c.csv", TABLE, {0: [], 3: [COMPLETION]}) == (
        b'prompt;completion;note\r\n\r\nb;2;"n ""2"""\r\ntoo;many;cells;here\r\nc;NEW\r\n'
    )


def rich_table() -> pa.Table:
    """Ten rows with the types that are easily lost."""
    turns = pa.list_(
        pa.struct([("role", pa.string()), ("content", pa.large_string()), ("w", pa.float32())])
    )
    rows = [
        [
            {"role": "user", "content": f"u{i}", "w": None},
            {"role": "assistant", "content": f"a{i}", "w": 0.1},
        ]
        for i in range(10)
    ]
    return pa.table(
        {
            "messages": pa.array(rows, turns),
            "completion": pa.array(
                [None if i == 3 else f"c{i % 2}" for i in range(10)]
            ).dictionary_encode(),
            "prompt": pa.array([f"p{i}" for i in range(10)], pa.large_string()),
            "nested": pa.array([{"a": [i, None], "b": {"c": b"\xff"}} for i in range(10)]),
            "map": pa.array([[("k", i)] for i in range(10)], pa.map_(pa.string(), pa.int16())),
            "when": pa.array([i * 1_000_000_001 for i in range(10)], pa.timestamp("ns", "UTC")),
            "money": pa.array([None] * 10, pa.decimal128(9, 2)),
            "nothing": pa.nulls(10),
        }
    ).replace_schema_metadata({"huggingface": '{"info": 1}', "mine": "yes"})


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """The table in row groups of four, each column with its own compression."""
    path = tmp_path / "in.parquet"
    codecs = {"messages.list.element.content": "GZIP", "prompt": "SNAPPY", "completion": "NONE"}
    pq.write_table(
        rich_table(), path, row_group_size=4, compression=codecs, use_dictionary=["completion"]
    )
    return path


def groups(path: Path) -> list[tuple[int, list[str]]]:
    """Rows and compressions of each row group."""
    metadata = pq.read_metadata(path)
    found = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return [(g.num_rows, [g.column(i).compression for i in range(g.num_columns)]) for g in found]


def test_parquet_keeps_schema_groups_compression_and_values(parquet: Path, tmp_path: Path) -> None:
    """A changed text here and there leaves every other value, the schema, its metadata and the row
    groups.
    """
    new = tmp_path / "out.parquet"
    edits: dict[int, Sequence[Edits]] = {
        1: [{("completion",): "NEW", ("prompt",): "P"}],
        9: [{("messages", 1, "content"): "A"}],
    }
    rewrite(parquet, new, ["messages", "completion", "prompt"], change(edits))
    before, after = pq.read_table(parquet), pq.read_table(new)
    assert after.schema.equals(before.schema, check_metadata=True)
    assert groups(new) == groups(parquet)
    expected = before.to_pylist()
    expected[1] |= {"completion": "NEW", "prompt": "P"}
    expected[9]["messages"][1]["content"] = "A"
    assert after.to_pylist() == expected
    assert after.drop_columns(["messages", "completion", "prompt"]).equals(
        before.drop_columns(["messages", "completion", "prompt"])
    )
    assert pq.read_metadata(new).format_version == pq.read_metadata(parquet).format_version


def test_parquet_drops_and_adds_rows_within_their_group(parquet: Path, tmp_path: Path) -> None:
    """A dropped row makes its group smaller, an added one larger; an emptied group is left out."""
    new = tmp_path / "out.parquet"
    edits: dict[int, Sequence[Edits]] = {0: [], 5: [{}, COMPLETION], 8: [], 9: []}
    rewrite(parquet, new, ["completion"], change(edits))
    assert [rows for rows, _ in groups(new)] == [3, 5]
    assert pq.read_table(new).column("completion").to_pylist() == [
        "c1",
        "c0",
        None,
        "c0",
        "c1",
        "NEW",
        "c0",
        "c1",
    ]
    assert pq.read_table(new).column("prompt").to_pylist() == [
        "p1",
        "p2",
        "p3",
        "p4",
        "p5",
        "p5",
        "p6",
        "p7",
    ]


def test_parquet_unchanged_equals_the_original(parquet: Path, tmp_path: Path) -> None:
    """With nothing to change even a category column and broken UTF-8 come out as they went in."""
    new = tmp_path / "out.parquet"
    rewrite(parquet, new, ["completion"], change({}))
    assert pq.read_table(new).equals(pq.read_table(parquet), check_metadata=True)


def test_text_cannot_go_into_a_column_of_another_type(tmp_path: Path) -> None:
    """Said in one line, with the column."""
    path = tmp_path / "n.parquet"
    pq.write_table(pa.table({"completion": [1, 2]}), path)
    with pytest.raises(InputError, match="completion is int64"):
        rewrite(path, tmp_path / "o.parquet", COLUMNS, change({0: [COMPLETION]}))
