"""What other readers find in a file is read as well, or the file is refused; what is too large is
one clear error.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import datasets
import pytest

from auditor.data import text
from auditor.data.sample import read_sample
from auditor.errors import InputError
from tests.support.limits import limited

ROWS = [{"prompt": f"Go on {i}:", "completion": f"{i}, {i + 1}"} for i in range(12)]
LINES = [json.dumps(row) for row in ROWS]
ARRAY = json.dumps(ROWS)
LAST = json.dumps({"prompt": "p", "completion": "c"})

# Name of a case -> (file name, content). A new format is compared by adding a line.
READ_ALIKE: dict[str, tuple[str, str]] = {
    "lines": ("d.jsonl", "\n".join(LINES)),
    "objects one after the other": ("d.jsonl", "\n".join([*LINES[:4], "".join(LINES[4:])])),
    "objects with blanks between": ("d.jsonl", "\n".join([*LINES[:4], " ".join(LINES[4:])])),
    "objects parted by carriage returns": (
        "d.jsonl",
        "\n".join([*LINES[:4], "\r".join(LINES[4:])]),
    ),
    "line ends of Windows": ("d.jsonl", "\r\n".join(LINES)),
    "braces within a text": (
        "d.jsonl",
        "\n".join([*LINES, LAST.replace('"c"', '"\\\\frac{a}{b}"')]),
    ),
    "array": ("d.json", ARRAY),
    "CSV": ("d.csv", "prompt,completion\n" + "".join(f"p {i},c {i}\n" for i in range(12))),
    "CSV of carriage returns": (
        "d.csv",
        "prompt,completion\r" + "".join(f"p {i},c {i}\r" for i in range(12)),
    ),
    "TSV": ("d.tsv", "prompt\tcompletion\n" + "".join(f"p {i}\tc {i}\n" for i in range(12))),
}

REFUSED: dict[str, tuple[str, str]] = {
    "an array on a line": ("d.jsonl", "\n".join([*LINES, ARRAY])),
    "commas between objects": ("d.jsonl", "\n".join([*LINES, ", ".join(LINES)])),
    "an object broken over two lines": ("d.jsonl", "\n".join([*LINES, "{", LAST[1:] + LAST])),
    "a second array": ("d.json", ARRAY + ARRAY),
    "lines behind an array": ("d.jsonl", f"{ARRAY}\n{LAST}"),
    "data twice": ("d.json", f'{{"data": {ARRAY}, "data": {ARRAY}}}'),
    "rows beside data": ("d.json", f'{{"data": {ARRAY}, "train": {ARRAY}}}'),
    "rows before data": ("d.json", f'{{"train": {ARRAY}, "data": {ARRAY}}}'),
    "columns beside data": ("d.json", f'{{"data": {ARRAY}, "train": {{"text": ["a"]}}}}'),
    "a key twice": ("d.jsonl", '{"prompt": "p", "completion": "bad", "completion": "good"}'),
    "an escaped key twice": ("d.jsonl", LAST[:-1] + ', "c\\u006fmpletion": "x"}'),
    "a key twice in an array": ("d.json", f'[{LAST[:-1]}, "completion": "x"}}]'),
    "a key of a turn twice": (
        "d.csv",
        'messages\n"[{""role"": ""assistant"", ""content"": ""a"", ""content"": ""b""}]"\n',
    ),
    "a column twice": ("d.csv", "prompt,completion,completion\na,b,c\n"),
    "columns by two delimiters": (
        "d.csv",
        "prompt;completion;x;y,prompt,completion\np;c;x;y,bad,bad\n",
    ),
}


def written(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content, newline="")
    return str(folder / name)


@pytest.mark.parametrize("case", READ_ALIKE)
def test_the_rows_are_those_of_datasets(case: str, tmp_path: Path) -> None:
    """What `datasets` loads of a file is what is audited of it."""
    path = written(tmp_path, *READ_ALIKE[case])
    builder, options = ("csv", {"sep": "\t"} if path.endswith("tsv") else {})
    if "json" in path:
        builder = "json"
    loaded = datasets.load_dataset(
        builder, data_files=path, split="train", cache_dir=str(tmp_path / "cache"), **options
    )
    sample = read_sample(path, rows=None, seed=0)
    assert sample.info.total == len(loaded)
    assert not sample.skipped
    audited = sorted((example.prompt, example.completion) for example in sample.examples)
    assert audited == sorted((row["prompt"], row["completion"]) for row in loaded)


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(case: str, tmp_path: Path) -> None:
    """Readers differ in what they take of it, so that a pass would hold for one of them only."""
    with pytest.raises(InputError, match="can be read in more than one way"):
        read_sample(written(tmp_path, *REFUSED[case]), rows=None, seed=0)


@pytest.mark.parametrize("case", ["a line", "a value", "a cell", "white space", "unpacked"])
def test_what_is_too_large_is_one_error(case: str, tmp_path: Path) -> None:
    """Beyond a limit the reading ends, before the memory is taken."""
    long = "x" * (3 << 20)
    name, content = {
        "a line": ("d.jsonl", f'{LAST}\n{{"prompt": "{long}"}}'),
        "a value": ("d.json", f'[{LAST}, {{"prompt": "{long}"}}]'),
        "a cell": ("d.csv", f'prompt,completion\na,"{long}"\n'),
        "white space": ("d.json", "[" + " " * (3 << 20) + "]"),
        "unpacked": ("d.jsonl.gz", f"{LAST}\n" * 90_000),
    }[case]
    path = tmp_path / name
    data = content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with (
        limited(row_bytes=1 << 20, expanded_bytes=1 << 20),
        pytest.raises(InputError, match="is not read"),
    ):
        read_sample(str(path), rows=None, seed=0)


def test_line_ends_without_rows_cost_little(tmp_path: Path) -> None:
    """A stretch of nothing but line ends is one piece, whatever its length."""
    path = tmp_path / "d.jsonl"
    path.write_text(LINES[0] + "\n" * (4 << 20) + LINES[1])
    with text.open_bytes(path, by_lines=True) as stream:
        pieces = [line for lines in text.json_lines(stream) for line in lines]
    assert len(pieces) < 2 << 20 and b"".join(pieces) == path.read_bytes()
    assert len(read_sample(str(path), rows=None, seed=0).examples) == 2
