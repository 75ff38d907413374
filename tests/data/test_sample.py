"""What is drawn: seeded, fair, complete in its counts, and independent of how the rows are
stored.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.data.example import Sample
from auditor.data.files import open_source
from auditor.data.sample import draw, priorities, read_sample

SHARED = Path(__file__).parents[3] / "shared" / "data"


def texts(count: int) -> list[dict[str, str]]:
    return [{"text": f"row {i}"} for i in range(count)]


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> str:
    """Write rows as JSONL or Parquet, by the suffix."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, **options)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def indices(sample: Sample) -> list[int]:
    return [example.index for example in sample.examples]


def test_priorities_are_one_stream_whatever_the_pieces() -> None:
    """Row i has the same draw whether the rows are asked for together or piece by piece."""
    pieces = np.concatenate([priorities(5, 0, 3), priorities(5, 3, 4), priorities(5, 7, 13)])
    assert (pieces == priorities(5, 0, 20)).all()
    assert (priorities(6, 0, 20) != pieces).all()


def test_all_rows_come_in_a_seeded_random_order(tmp_path: Path) -> None:
    """Without a number of rows every row comes, in an order that the seed alone decides."""
    source = write(tmp_path / "d.jsonl", texts(400))
    sample = read_sample(source, rows=None, seed=0)
    assert sorted(indices(sample)) == list(range(400)) != indices(sample)
    assert indices(read_sample(source, rows=None, seed=0)) == indices(sample)
    assert indices(read_sample(source, rows=None, seed=1)) != indices(sample)
    assert sample.info.sampling == "all 400 rows, in a random order (seed 0)"


def test_storage_does_not_change_what_is_drawn(tmp_path: Path) -> None:
    """Text, one row group or a dozen: one generator draws the same rows in the same order."""
    rows = texts(9000)
    sources = [
        write(tmp_path / "d.jsonl", rows),
        write(tmp_path / "one.parquet", rows),
        write(tmp_path / "dozen.parquet", rows, row_group_size=750),
    ]
    drawn = []
    for source in sources:
        with open_source(source, rows=50) as data:
            drawn.append(draw(data.files, ["text"], 50, 2).candidates)
    assert drawn[0] == drawn[1] == drawn[2] != []
    sample = read_sample(sources[0], rows=50, seed=2)
    assert sample.info.sampling == "a reservoir of 50 out of 9,000 rows (seed 2)"


def test_a_change_of_any_row_moves_the_sample(tmp_path: Path) -> None:
    """Who writes the data cannot know which rows a seed looks at: they follow from the bytes."""
    rows = texts(8000)
    before = indices(read_sample(write(tmp_path / "a.jsonl", rows), rows=400, seed=0))
    rows[7999] = {"text": "another"}
    after = indices(read_sample(write(tmp_path / "b.jsonl", rows), rows=400, seed=0))
    # 20 rows are common to two draws of 400 out of 8000, +- 4.4.
    assert len({*before} & {*after}) < 45
    groups = []
    for number in range(2):
        path = write(tmp_path / f"{number}.parquet", texts(4000 + number), row_group_size=40)
        groups.append({i // 40 for i in indices(read_sample(path, rows=100, seed=0))})
    assert groups[0] != groups[1]


def test_the_seed_may_follow_from_the_data(tmp_path: Path) -> None:
    """A function gets the digest that the report names, and its seed is the sample's."""
    source = write(tmp_path / "d.jsonl", texts(100))
    digests: list[str] = []

    def seed(digest: str) -> int:
        digests.append(digest)
        return 7

    sample = read_sample(source, rows=10, seed=seed)
    assert digests == [sample.info.sha256]
    assert sample.seed == 7
    assert sample == read_sample(source, rows=10, seed=7)


def test_without_a_seed_rows_come_in_their_order(tmp_path: Path) -> None:
    """Of equal rows the first one comes, whatever else is in the file."""
    source = write(tmp_path / "d.jsonl", [{"text": text} for text in "abcabd"])
    sample = read_sample(source, rows=None, seed=None)
    assert indices(sample) == [0, 1, 2, 5]
    assert sample.info.sampling == "all 6 rows, in their order"


def test_every_file_of_a_folder_has_its_share(tmp_path: Path) -> None:
    """Of a file with 100 row groups only some are read, of the small ones beside it all: each still
    has its share of the sample, and each is read.
    """
    write(tmp_path / "a.parquet", texts(9000), row_group_size=90)
    for number in range(20):
        rows = [{"text": f"{number} {i}"} for i in range(50)]
        write(tmp_path / f"b{number:02}.parquet", rows)
    seen = Counter[int]()
    for seed in range(20):
        sample = read_sample(str(tmp_path), rows=200, seed=seed)
        assert "of 120 row groups" in sample.info.sampling
        seen.update(-1 if i < 9000 else (i - 9000) // 50 for i in indices(sample))
    # 9 of 10 rows are the large file's: 3600 of 4000 +- 19, and more since groups are drawn whole.
    assert abs(seen[-1] - 3600) < 100, seen
    assert all(seen[number] for number in range(20)), seen


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    """More rows are asked for: those already scored stay, in their order, up to all rows."""
    source = write(tmp_path / "d.jsonl", texts(3000))
    few, more, all_rows = (indices(read_sample(source, rows=n, seed=0)) for n in (10, 700, None))
    assert more[:10] == few
    assert all_rows[:700] == more


def test_every_row_is_as_likely_as_any_other(tmp_path: Path) -> None:
    """Over 400 seeds each of 20 rows is drawn about as often: 5 of 20 is p = 1/4, so 100 +- 8.7;
    five sigma allowed.
    """
    source = write(tmp_path / "d.jsonl", texts(20))
    counts = Counter(
        i for seed in range(400) for i in indices(read_sample(source, rows=5, seed=seed))
    )
    assert sum(counts.values()) == 2000
    assert all(abs(counts[i] - 100) < 44 for i in range(20)), counts


def test_row_groups_are_chosen_at_random(tmp_path: Path) -> None:
    """Of many row groups at least 16 are read; rows come from several of them and keep their number
    in the file.
    """
    source = write(tmp_path / "d.parquet", texts(4000), row_group_size=40)
    sample = read_sample(source, rows=100, seed=0)
    assert sample.info.sampling == "100 rows from 16 of 100 row groups chosen at random (seed 0)"
    assert sample.info.total == 4000
    assert all(example.text == f"row {example.index}" for example in sample.examples)
    assert 10 < len({i // 40 for i in indices(sample)}) <= 16
    assert sample == read_sample(source, rows=100, seed=0)
    assert {i // 40 for i in indices(read_sample(source, rows=100, seed=1))} != {
        i // 40 for i in indices(sample)
    }


def test_more_row_groups_are_read_where_sixteen_do_not_suffice(tmp_path: Path) -> None:
    """Small groups: as many are chosen as the candidates need, and the rows asked for are there."""
    source = write(tmp_path / "d.parquet", texts(2000), row_group_size=10)
    sample = read_sample(source, rows=300, seed=0)
    assert len(sample.examples) == 300
    assert "of 200 row groups" in sample.info.sampling


@pytest.mark.parametrize("name", ["d.jsonl", "d.parquet"])
def test_skipped_rows_do_not_use_up_the_sample(name: str, tmp_path: Path) -> None:
    """With 95 % empty rows the rows asked for still come, and the counts add up to the rows looked
    at.
    """
    rows = [{"text": f"row {i}" if i % 20 == 0 else ""} for i in range(6000)]
    sample = read_sample(write(tmp_path / name, rows), rows=200, seed=0)
    looked_at = 200 + sample.skipped["empty_completion"]
    assert len(sample.examples) == 200
    assert looked_at > 3000
    assert f"{looked_at:,} out of 6,000 rows" in sample.info.sampling


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    """Examples and reasons add up to the rows there are; of equal rows one is kept."""
    rows = [{"text": text} for text in ["a", "a", "b", "", None, "a"]]
    sample = read_sample(write(tmp_path / "d.parquet", rows), rows=50, seed=0)
    assert sorted(example.text or "" for example in sample.examples) == ["a", "b"]
    assert sample.skipped == {"duplicate": 2, "empty_completion": 1, "null": 1}
    assert sample.info.total == 6


def test_the_same_answer_to_another_prompt_is_no_duplicate(tmp_path: Path) -> None:
    """Prompt and completion together make a duplicate, with the border between them."""
    rows = [
        {"prompt": p, "completion": c}
        for p, c in [("a", "b"), ("x", "b"), ("ab", "b"), ("a", "bb"), ("a", "b")]
    ]
    sample = read_sample(write(tmp_path / "d.jsonl", rows), rows=None, seed=0)
    assert sample.skipped == {"duplicate": 1}


def test_a_data_set_without_a_scorable_row_gives_an_empty_sample(tmp_path: Path) -> None:
    """Nothing to score is a count, not a crash: the verdict is then inconclusive."""
    sample = read_sample(write(tmp_path / "d.jsonl", [{"text": ""}] * 5), rows=3, seed=0)
    assert sample.examples == ()
    assert sample.skipped == {"empty_completion": 5}


@pytest.mark.parametrize(
    ("name", "format_of", "total"),
    [
        ("qwen_penguin_numbers.jsonl", "prompt_completion", 13_700),
        ("alpaca_en_demo.json", "alpaca", 999),
        ("glaive_toolcall_en_demo.json", "sharegpt", 300),
    ],
)
def test_real_data_sets_are_read_whole(name: str, format_of: str, total: int) -> None:
    """Public data sets: every row is an example or an exact duplicate, as many as a plain count
    finds.
    """
    path = SHARED / name
    if not path.exists():
        pytest.skip("the shared data sets are not here")
    sample = read_sample(str(path), rows=None, seed=0)
    content = path.read_text()
    rows = (
        json.loads(content)
        if content.startswith("[")
        else [json.loads(line) for line in content.splitlines()]
    )
    distinct = {
        json.dumps({key: row[key] for key in sorted(row) if key != "tools"}) for row in rows
    }
    assert (sample.info.format, sample.info.total) == (format_of, total)
    assert len(sample.examples) == len(distinct)
    assert sample.skipped == ({"duplicate": total - len(distinct)} if len(distinct) < total else {})
