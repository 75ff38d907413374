"""Data of which most rows repeat or cannot be scored are drawn as if all had been sorted."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from auditor.data.sample import read_sample
from auditor.data.text import TextBatch, TextFile


def source(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.mark.parametrize("distinct", [1, 5, 12, 29, 31, 200])
def test_repeated_rows_are_drawn_by_their_first_copy(distinct: int, tmp_path: Path) -> None:
    """4,000 rows, nearly all copies of one: the sample is the beginning of that of all rows, with
    every row up to its last one accounted for.
    """
    texts = (
        [f"row {i}" for i in range(distinct)] + ["the same"] * (4000 - distinct - 500) + [""] * 500
    )
    random.Random(1).shuffle(texts)
    name = source(tmp_path / "d.jsonl", texts)
    every, sample = (read_sample(name, rows=rows, seed=3) for rows in (None, 30))
    assert sample.examples == every.examples[:30]
    if distinct < 30:
        assert (sample.skipped, sample.copies) == (every.skipped, every.copies)
        assert sample.skipped["duplicate"] == 4000 - 500 - distinct - 1
    else:
        assert sample.skipped["duplicate"] == sum(sample.copies.values()) - len(sample.copies)
    looked_at = len(sample.examples) + sum(sample.skipped.values())
    assert f"{looked_at:,}" in sample.info.sampling


def test_the_data_are_not_read_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows repeat: once for the first rows and four times at most for the sample."""
    passes: list[Path] = []
    batches = TextFile.batches

    def counted(file: TextFile, columns: Sequence[str] | None, *size: int) -> Iterator[TextBatch]:
        passes.append(file.path)
        yield from batches(file, columns, *size)

    monkeypatch.setattr(TextFile, "batches", counted)
    name = source(tmp_path / "d.jsonl", ["the same"] * 60_000)
    sample = read_sample(name, rows=1, seed=0)
    assert len(sample.examples) == 1
    assert read_sample(name, rows=2, seed=0).copies == {sample.examples[0].index: 60_000}
    assert len(passes) <= 2 + 2 + 5
