"""Every kind of source gives the same rows, and what cannot be read is one clear error."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from auditor.data import json_stream
from auditor.data.example import Sample
from auditor.data.files import open_source
from auditor.data.hub import is_hub_name
from auditor.data.sample import read_sample
from auditor.errors import InputError

ROWS = [
    {"prompt": f"Continue {i}, {i + 1}:", "completion": f'{i + 2},\n"{i + 3}" é'} for i in range(40)
]


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)


def write_jsonl(path: Path) -> None:
    path.write_text("\n\n".join(json.dumps(row) for row in ROWS))


def write_array(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=2, ensure_ascii=False), encoding="utf-8-sig")


def write_wrapped(path: Path) -> None:
    path.write_text(json.dumps({"version": 1.5, "tags": ["data"], "data": ROWS, "end": None}))


def write_csv(path: Path, delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["prompt", "completion"], delimiter=delimiter)
        table.writeheader()
        table.writerows(ROWS)


LINES = "\n".join(json.dumps(row) for row in ROWS).encode()


def write_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(LINES))


def write_arrow(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=7)


SOURCES: dict[str, Callable[[Path], object]] = {
    "d.parquet": write_parquet,
    "d.jsonl": write_jsonl,
    "d.NDJSON": write_jsonl,
    "lines.json": write_jsonl,
    "d.json": write_array,
    "wrapped.json": write_wrapped,
    "d.csv": write_csv,
    "semicolons.csv": lambda path: write_csv(path, ";"),
    "bars.csv": lambda path: write_csv(path, "|"),
    "d.tsv": lambda path: write_csv(path, "\t"),
    "d.jsonl.gz": write_gzip,
    "d.jsonl.bz2": lambda path: path.write_bytes(bz2.compress(LINES)),
    "d.jsonl.xz": lambda path: path.write_bytes(lzma.compress(LINES)),
    # Two members, as of a file that was appended to: both are read.
    "d.jsonl.zst": lambda path: path.write_bytes(
        b"".join(
            pa.Codec("zstd").compress(half, asbytes=True) for half in (LINES[:900], LINES[900:])
        )
    ),
    "d.arrow": write_arrow,
    "d.feather": lambda path: pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), path),
}


def everything(source: Path | str, **forced: Any) -> Sample:
    return read_sample(str(source), rows=None, seed=0, **forced)


def pairs(sample: Sample) -> list[tuple[int, str, str]]:
    return sorted((e.index, e.messages[0].content, e.messages[1].content) for e in sample.examples)


EXPECTED = [(i, row["prompt"], row["completion"]) for i, row in enumerate(ROWS)]


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_type_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    """The same rows, with quotes, newlines and accents, come back from each type, numbered in file
    order.
    """
    SOURCES[name](tmp_path / name)
    sample = everything(tmp_path / name)
    assert pairs(sample) == EXPECTED
    assert sample.info.format == "prompt_completion"
    assert sample.info.total == len(ROWS)
    assert sample.info.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "name", ["d.parquet", "d.jsonl", "d.json", "wrapped.json", "d.csv", "d.tsv", "d.jsonl.gz"]
)
def test_standard_input_is_recognised_by_its_content(name: str, tmp_path: Path) -> None:
    """Bytes on stdin, without a name, give the rows that the file gives."""
    SOURCES[name](tmp_path / name)
    sample = everything("-", stdin=io.BytesIO((tmp_path / name).read_bytes()))
    assert pairs(sample) == EXPECTED
    assert sample.info.name == "-"


def test_a_folder_is_read_in_name_order(tmp_path: Path) -> None:
    """Files of mixed types are numbered through in name order; hidden ones count like others, and
    documents do not.
    """
    (tmp_path / "b").mkdir()
    write_parquet(tmp_path / "b" / "x.parquet")
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "first", "completion": "row"}))
    (tmp_path / ".hidden.jsonl").write_text(json.dumps({"prompt": "hidden", "completion": "row"}))
    (tmp_path / "README.md").write_text("about")
    sample = everything(tmp_path)
    assert pairs(sample) == [
        (0, "hidden", "row"),
        (1, "first", "row"),
        *((i + 2, prompt, answer) for i, prompt, answer in EXPECTED),
    ]


def test_a_folders_hash_follows_names_and_contents(tmp_path: Path) -> None:
    """A renamed file is another data set, even with the same bytes; the folder's own place does not
    count.
    """
    for folder, name in (("one", "a.jsonl"), ("two", "a.jsonl"), ("three", "b.jsonl")):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / name)
    one, two, three = (
        everything(tmp_path / folder).info.sha256 for folder in ("one", "two", "three")
    )
    assert one == two != three


def test_broken_lines_are_counted(tmp_path: Path) -> None:
    """Broken bytes, half lines and values that are no object each get their reason; the good row is
    kept.
    """
    lines = [
        json.dumps(ROWS[0]).encode(),
        b'{"prompt": "\xff", "completion": "x"}',
        b'{"prompt": "cut',
        b"17",
    ]
    (tmp_path / "d.jsonl").write_bytes(b"\n".join(lines))
    sample = everything(tmp_path / "d.jsonl")
    assert sample.skipped == {"broken_utf8": 1, "not_json": 1, "wrong_type": 1}
    assert pairs(sample) == EXPECTED[:1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", b"prompt,completion\ngood,row\nbroken,\xff\nmoved,one,two\nshort\n"),
        (
            "d.json",
            b'[{"prompt": "good", "completion": "row"}, {"prompt": "\xfe", "completion": "x"}, 5, '
            b'{"prompt": "p"}]',
        ),
    ],
)
def test_broken_rows_of_csv_and_json_are_counted(name: str, content: bytes, tmp_path: Path) -> None:
    """A broken byte costs its own row only; moved cells and missing values are told apart."""
    (tmp_path / name).write_bytes(content)
    sample = everything(tmp_path / name)
    assert sample.skipped == {"broken_utf8": 1, "wrong_type": 1, "null": 1}
    assert pairs(sample) == [(0, "good", "row")]


@pytest.mark.parametrize("text_type", [pa.binary(), pa.string()])
def test_broken_text_in_parquet_is_counted(text_type: pa.DataType, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 cost one row, in a binary column as in a string column that was
    never checked.
    """
    values = pa.array([b"good", b"\xff\xfe", "é".encode()], pa.binary())
    column = (
        values
        if text_type == pa.binary()
        else pa.StringArray.from_buffers(3, *values.buffers()[1:])
    )
    pq.write_table(pa.table({"text": column}), tmp_path / "d.parquet")
    sample = everything(tmp_path / "d.parquet")
    assert sample.skipped == {"broken_utf8": 1}
    assert sorted(e.text or "" for e in sample.examples) == ["good", "é"]


def test_json_rows_longer_than_the_window_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the window, cut anywhere in a row, the array gives the rows that
    `json.loads` gives.
    """
    text = json.dumps(
        {"n": 12345, "data": [*ROWS, {"deep": [1.25, None, True, "\ud83d\ude00\\"]}, 678, "end"]}
    )
    for window in (1, 2, 3, 7, 50, 1000):
        monkeypatch.setattr(json_stream, "_CHUNK", window)
        records = list(json_stream.array_records(io.StringIO(text)))
        assert [json.loads(record.raw) for record in records if record.raw] == json.loads(text)[
            "data"
        ]


@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
def test_a_number_of_any_length_is_a_value_like_others(name: str, tmp_path: Path) -> None:
    """An integer that Python refuses to convert spoils a row where a text should be, and no other
    row.
    """
    huge = "-" + "9" * 100_000
    rows = [f'{{"prompt": "a", "completion": "{n}", "n": {huge}}}' for n in range(3)]
    rows.append(f'{{"prompt": "a", "completion": {huge}}}')
    (tmp_path / name).write_text(f"[{','.join(rows)}]" if name == "d.json" else "\n".join(rows))
    sample = everything(tmp_path / name)
    assert (len(sample.examples), sample.skipped) == (3, {"wrong_type": 1})


def test_column_names_are_shortened_in_errors(tmp_path: Path) -> None:
    """A data set cannot fill the terminal with its column names."""
    (tmp_path / "d.jsonl").write_text(
        json.dumps({"x" * 1_000_000: 1} | {f"c{n}": 1 for n in range(1000)})
    )
    with pytest.raises(InputError, match="and 971 more") as caught:
        everything(tmp_path / "d.jsonl")
    assert len(caught.value.message) < 500


def broken_parquet(path: Path) -> None:
    write_parquet(path)
    path.write_bytes(path.read_bytes()[:-9])


def broken_page(path: Path) -> None:
    """Keep the footer, spoil the data."""
    write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 200 + content[204:])


def broken_gzip(path: Path) -> None:
    write_gzip(path)
    path.write_bytes(path.read_bytes()[:-20])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.parquet": (broken_parquet, "damaged"),
    "page.parquet": (broken_page, "damaged"),
    "text.parquet": (write_jsonl, "damaged"),
    "cut.jsonl.gz": (broken_gzip, "damaged"),
    "cut.json": (
        lambda path: path.write_text(json.dumps(ROWS)[:-30]),
        "not valid JSON after 39 rows",
    ),
    "empty.jsonl": (lambda path: path.write_text(""), "is empty"),
    "blank.jsonl": (lambda path: path.write_text("\n \n"), "no rows"),
    "header.csv": (lambda path: path.write_text("prompt,completion\n"), "no rows"),
    "none.json": (lambda path: path.write_text("[]"), "no rows"),
    "none.parquet": (
        lambda path: pq.write_table(pa.table({"text": pa.array([], pa.string())}), path),
        "no rows",
    ),
    "prose.jsonl": (lambda path: path.write_text("Dear Sir,\n"), "not_json"),
    "wide.csv": (lambda path: path.write_text("text\nx\n", encoding="utf-16"), "UTF-16"),
    "image": (lambda path: path.write_bytes(b"\x89PNG\0\0"), "neither Parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_one_clear_error(name: str, tmp_path: Path) -> None:
    """Damaged, empty and foreign files are InputErrors of one line that name the file and a next
    step.
    """
    write, said = BROKEN[name]
    write(tmp_path / name)
    with pytest.raises(InputError, match=said) as caught:
        everything(tmp_path / name)
    assert name in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_not_looked_up_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a file's suffix or a path's form is a missing file; only owner/name or name goes
    to the hub.
    """
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    for source in ("missing.parquet", "data/missing.jsonl", "./missing", "/tmp/no/such", "a/b/c"):
        with pytest.raises(InputError, match="No such file or folder"):
            everything(source)
    assert all(is_hub_name(name) for name in ("squad", "teknium/OpenHermes-2.5", "a_b/c.d-1.0"))


def test_a_folder_without_data_is_an_error(tmp_path: Path) -> None:
    """A folder that holds other files only says what it should hold."""
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds no data file"):
        everything(tmp_path)


def test_no_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be opened says so (simulated: the superuser may open everything)."""
    write_jsonl(tmp_path / "d.jsonl")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"No permission to read .*d\.jsonl"):
        everything(tmp_path / "d.jsonl")


@pytest.mark.parametrize("change", ["appended", "same size", "another file"])
@pytest.mark.parametrize("folder", [False, True])
def test_a_file_that_changes_while_it_is_read(change: str, folder: bool, tmp_path: Path) -> None:
    """Is an error: the rows would not be those of the digest, also where size and time of change
    are put back.
    """
    path = tmp_path / "d.jsonl"
    write_jsonl(path)
    content, times = path.read_bytes(), path.stat()
    source = str(tmp_path if folder else path)
    with open_source(source, rows=None) as data:
        data.check_unchanged()

    def change_it() -> None:
        if change == "another file":
            path.unlink()
        path.write_bytes(content[::-1] + b"\n" * (change == "appended"))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    time.sleep(0.02)  # the kernel's clock of changes ticks every few milliseconds
    with (
        pytest.raises(InputError, match=r"d\.jsonl was changed while it was read"),
        open_source(source, rows=None),
    ):
        change_it()


class FakeSplit(list[dict[str, Any]]):
    """The part of a streamed split that the reader uses."""

    info = SimpleNamespace(splits={"train": SimpleNamespace(num_examples=len(ROWS))})


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    commit = SimpleNamespace(sha="c0ffee")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: commit)

    def load_dataset(name: str, *, streaming: bool, revision: str) -> dict[str, Any]:
        assert streaming and revision == "c0ffee"
        return {"test": [], "train": FakeSplit(ROWS)}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


@pytest.mark.usefixtures("fake_hub")
def test_a_hub_data_set_is_streamed(tmp_path: Path) -> None:
    """The split "train" of a hub data set gives the rows of the file; the hash is of the rows and
    said to be.
    """
    write_jsonl(tmp_path / "d.jsonl")
    sample = read_sample("owner/name", rows=10, seed=3)
    of_file = read_sample(str(tmp_path / "d.jsonl"), rows=None, seed=None).examples
    assert sample.examples == tuple(of_file[example.index] for example in sample.examples)
    assert len(sample.examples) == 10
    assert sample.info.total == len(ROWS)
    assert "split train" in sample.info.sampling
    assert "sha256 is of the rows used" in sample.info.sampling
    assert sample.info.sha256 == read_sample("owner/name", rows=10, seed=3).info.sha256
    assert sample.info.sha256 != read_sample("owner/name", rows=10, seed=4).info.sha256


@pytest.mark.usefixtures("fake_hub")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("Name or service not known\nmore"), "no network"),
        (datasets.exceptions.DatasetNotFoundError("gone"), "no such data set"),
        (ValueError("Config name is missing."), "Config name is missing"),
    ],
)
def test_a_hub_failure_is_one_clear_error(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network, no such data set and a missing configuration are told apart in one line."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match=said) as caught:
        everything("owner/name")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("fake_hub")
def test_offline_mode_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hub switched off nothing is asked, and the error says which switch it is."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "dataset_info", lambda *_, **__: pytest.fail("asked the hub")
    )
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        everything("owner/name")
