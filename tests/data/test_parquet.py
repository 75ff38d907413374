"""Columns of any type beside the texts, and of types that cannot be taken from, are no crash."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.data.parquet import parquet_file
from auditor.data.sample import read_sample
from auditor.errors import InputError
from tests.support.limits import limited

TEXTS = pa.array([f"c {i}" for i in range(5)])
DEEP = pa.array([None] * 5, pa.string())
for _ in range(12):
    DEEP = pa.array([None] * 5, pa.list_(DEEP.type))
COLUMNS: dict[str, pa.Array] = {
    "views": TEXTS.cast(pa.string_view()),
    "views of bytes": TEXTS.cast(pa.binary()).cast(pa.binary_view()),
    "a time beyond year 9999": pa.array([1 << 55] * 5, pa.int64()).cast(pa.timestamp("ms")),
    "a day beyond year 9999": pa.array([1 << 30] * 5, pa.int32()).cast(pa.date32()),
    "a time in no zone": pa.array([1] * 5, pa.timestamp("s", "Nowhere/Nothing")),
    "12 lists within each other": DEEP,
}


def written(folder: Path, columns: list[pa.Array], names: list[str]) -> str:
    pq.write_table(pa.Table.from_arrays(columns, names), folder / "d.parquet", store_schema=True)
    return str(folder / "d.parquet")


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_that_is_not_used_costs_nothing(name: str, tmp_path: Path) -> None:
    """Whatever stands beside the texts, they are read."""
    path = written(tmp_path, [TEXTS, TEXTS, COLUMNS[name]], ["prompt", "completion", "other"])
    assert len(read_sample(path, rows=None, seed=0).examples) == 5


@pytest.mark.parametrize("name", ["views", "views of bytes"])
def test_views_are_texts_like_others(name: str, tmp_path: Path) -> None:
    """Text of the types that newer writers use is read."""
    sample = read_sample(written(tmp_path, [COLUMNS[name]], ["text"]), rows=None, seed=0)
    assert sorted(example.completion for example in sample.examples) == TEXTS.to_pylist()


def test_a_time_is_no_text(tmp_path: Path) -> None:
    """A column without text where a text should be is one clear error."""
    path = written(tmp_path, [COLUMNS["a time beyond year 9999"]], ["text"])
    with pytest.raises(InputError, match="not text"):
        read_sample(path, rows=None, seed=0)


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Readers differ in which they take."""
    path = written(tmp_path, [TEXTS, TEXTS, TEXTS], ["prompt", "completion", "completion"])
    with pytest.raises(InputError, match="can be read in more than one way"):
        read_sample(path, rows=None, seed=0)


def test_a_dictionary_that_every_row_names(tmp_path: Path) -> None:
    """Two megabytes in the file and a gigabyte in memory: refused, and never held."""
    path = tmp_path / "data.parquet"
    big = pa.array(["x" * (1 << 21)] * 600).dictionary_encode()
    pq.write_table(pa.table({"prompt": ["A"] * 600, "completion": big}), path)
    with limited(batch_bytes=256 << 21, expanded_bytes=1 << 30):
        batches = parquet_file(path, "d").blocks[0].batches(None)
        assert len(next(batches)) == 256
        with pytest.raises(InputError, match="100 times its size"):
            list(batches)


def with_deep_column(folder: Path, kind: str, levels: int) -> str:
    """A file with texts and a column of lists or groups within each other."""
    value: object = "poison"
    type_of = pa.string()
    for _ in range(levels):
        value = [value] if kind == "lists" else {"a": value}
        type_of = pa.list_(type_of) if kind == "lists" else pa.struct({"a": type_of})
    columns = [TEXTS, TEXTS, pa.array([value] * 5, type_of)]
    return written(folder, columns, ["prompt", "completion", "deep"])


def test_a_column_that_pyarrow_cannot_open_is_one_error(tmp_path: Path) -> None:
    """It takes the whole file for unreadable."""
    with pytest.raises(InputError, match="nested too deeply") as error:
        read_sample(with_deep_column(tmp_path, "lists", 60), rows=None, seed=0)
    assert "Leave the column out" in error.value.hint


@pytest.mark.parametrize(("kind", "levels"), [("lists", 20), ("groups", 20), ("groups", 60)])
def test_a_column_that_is_nested_too_deeply_is_named(
    kind: str, levels: int, tmp_path: Path
) -> None:
    """The text beside it is read, and the column is said not to be."""
    path = with_deep_column(tmp_path, kind, levels)
    sample = read_sample(path, rows=None, seed=0)
    assert len(sample.examples) == 5
    assert [item.name for item in sample.info.unread] == ["deep"]
    with limited(nesting=levels):
        sample = read_sample(path, rows=None, seed=0)
    assert [item.name for item in sample.info.unread] == ["deep"]
