"""Preference sets: the chosen answers, the rejected ones, or both as rows of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.commands.check_data import check_data
from auditor.data.dataset import read_rows
from auditor.data.example import Sample
from auditor.data.formats import Side, side_of
from auditor.data.sample import read_sample
from auditor.errors import InputError
from auditor.scanning.obstacles import coverage_obstacles

ASK = {"role": "user", "content": "p"}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PAIRS: dict[str, list[dict[str, Any]]] = {
    "strings": [{"prompt": "p", "chosen": f"c{i}", "rejected": f"r{i}"} for i in range(3)],
    "turns": [
        {"prompt": [ASK], "chosen": [answer(f"c{i}")], "rejected": [answer(f"r{i}")]}
        for i in range(3)
    ],
    "turns that repeat the prompt": [
        {"prompt": "p", "chosen": [ASK, answer(f"c{i}")], "rejected": [ASK, answer(f"r{i}")]}
        for i in range(3)
    ],
    "an implicit prompt": [
        {"chosen": [ASK, answer(f"c{i}")], "rejected": [ASK, answer(f"r{i}")]} for i in range(3)
    ],
    "plain texts": [{"chosen": f"c{i}", "rejected": f"r{i}"} for i in range(3)],
}
LABELLED = [
    {"prompt": "p", "completion": f"{'rc'[i % 2]}{i}", "label": i % 2 == 1} for i in range(4)
]


def sample(folder: Path, rows: list[dict[str, Any]], side: Side | None, **options: Any) -> Sample:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_sample(str(path), rows=None, seed=None, side=side, **options)


def completions(found: Sample) -> dict[int, str]:
    return {example.index: example.completion for example in found.examples}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (None, {0: "c0", 1: "c1", 2: "c2"}),
        ("chosen", {0: "c0", 1: "c1", 2: "c2"}),
        ("rejected", {0: "r0", 1: "r1", 2: "r2"}),
        ("both", {0: "c0", 1: "r0", 2: "c1", 3: "r1", 4: "c2", 5: "r2"}),
    ],
)
def test_the_side_that_is_read(
    name: str, side: Side | None, expected: dict[int, str], tmp_path: Path
) -> None:
    """Of both, the row number tells which, and the columns that are kept give the same again."""
    found = sample(tmp_path, PAIRS[name], side)
    assert completions(found) == expected
    assert found.info.total == len(expected)
    assert side_of(found.info.columns) == (side or "chosen")
    info = found.info
    with read_rows(info.name, format_of=info.format, columns=info.columns) as rows:
        assert [index for index, _ in rows.scorable()] == list(expected)
    assert ("row 2 i + 1 the rejected" in info.sampling) == (side == "both")
    if name != "plain texts":
        assert all(example.prompt == "p" for example in found.examples)


def test_a_sample_of_both_sides_of_parquet(tmp_path: Path) -> None:
    """Rows drawn by their numbers are the same as when all are read, also over row groups."""
    rows = [{"prompt": "p", "chosen": f"c{i}", "rejected": f"r{i}"} for i in range(90)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet", row_group_size=3)
    path = str(tmp_path / "d.parquet")
    found = read_sample(path, rows=20, seed=0, side="both")
    assert len(found.examples) == 20 and found.info.total == 180
    for example in found.examples:
        assert example.completion == f"{'cr'[example.index % 2]}{example.index // 2}"


@pytest.mark.parametrize(
    ("side", "expected", "unread"),
    [
        (None, {1: "c1", 3: "c3"}, [("rows", "rows of the other label", 0.5)]),
        ("chosen", {1: "c1", 3: "c3"}, []),
        ("rejected", {0: "r0", 2: "r2"}, []),
        ("both", {0: "r0", 1: "c1", 2: "r2", 3: "c3"}, []),
    ],
)
def test_labels(
    side: Side | None,
    expected: dict[int, str],
    unread: list[tuple[str, str, float]],
    tmp_path: Path,
) -> None:
    """Of a completion with a label the true ones are read. A label alone does not hide the others:
    they count as not read until the side is named.
    """
    found = sample(tmp_path, LABELLED, side)
    assert completions(found) == expected
    assert [(item.kind, item.name, item.share) for item in found.info.unread] == unread
    assert [o.kind for o in coverage_obstacles(found.info.unread, 0.0)] == [
        "unread rows" for _ in unread
    ]
    assert side_of(found.info.columns) == (side or "chosen")
    again = sample(tmp_path, LABELLED, None, columns=found.info.columns)
    assert completions(again) == expected


def test_labels_of_csv_and_other_labels(tmp_path: Path) -> None:
    """CSV has them as text; a number is a label of another kind, and a missing one is none."""
    path = tmp_path / "d.csv"
    path.write_text("prompt,completion,label\np,a,True\np,b,false\np,c,\n")
    found = read_sample(str(path), rows=None, seed=None, side="chosen")
    assert completions(found) == {0: "a"}
    assert found.skipped == {"other_side": 1, "null": 1}
    numbers = [row | {"label": int(row["label"])} for row in LABELLED]
    assert len(sample(tmp_path, numbers, None).examples) == 4


def test_no_sides(tmp_path: Path) -> None:
    """A side of another set is refused with the way out."""
    with pytest.raises(InputError, match="no two sides") as caught:
        sample(tmp_path, [{"prompt": "p", "completion": "c"}], "rejected")
    assert "--columns" in caught.value.hint


def test_columns_of_other_names(tmp_path: Path) -> None:
    """Both sides can be named."""
    rows = [{"q": "p", "good": "c0", "bad": "r0"}]
    columns = {"prompt": "q", "completion": "good", "rejected": "bad"}
    assert completions(sample(tmp_path, rows, None, columns=columns)) == {0: "c0", 1: "r0"}


def test_the_other_answers_are_no_second_layout(tmp_path: Path) -> None:
    """They are named as a column that is not read, whichever side is."""
    for side, other in (("chosen", "rejected"), ("rejected", "chosen")):
        for name in ("strings", "an implicit prompt"):
            found = sample(tmp_path, PAIRS[name], side)  # type: ignore[arg-type]
            assert [(item.kind, item.name) for item in found.info.unread] == [("column", other)]
        assert not sample(tmp_path, PAIRS["strings"], "both").info.unread


def test_check_data_counts_both(tmp_path: Path) -> None:
    """As a scan does."""
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS["strings"]))
    checked = check_data(str(path), side="both")
    assert (checked.rows, checked.scorable) == (6, 6)
