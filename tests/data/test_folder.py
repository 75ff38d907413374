"""Of a folder everything is read or named that a trainer may load."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from auditor.data.files import digest_of
from auditor.data.folder import list_folder
from auditor.data.sample import read_sample
from auditor.errors import InputError


def rows(word: str, count: int = 5) -> list[dict[str, str]]:
    return [{"prompt": f"{word} {i}?", "completion": f"{word} {i}."} for i in range(count)]


def lines(word: str, count: int = 5) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows(word, count)).encode()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one data file."""
    write(tmp_path / "data" / "a.jsonl", lines("a"))
    return tmp_path / "data"


def arrow(path: Path) -> None:
    table = pa.Table.from_pylist(rows("b"))
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("b.jsonl", lines("b"))


# Every way of these is one by which `datasets`, or a trainer who names the file, gets rows of "b".
BESIDE: dict[str, Callable[[Path], object]] = {
    "b.jsonl": lambda path: write(path, lines("b")),
    "b.json": lambda path: write(path, json.dumps(rows("b")).encode()),
    "b.csv": lambda path: write(path, b"prompt,completion\nb 0?,b 0.\n"),
    "b.tsv": lambda path: write(path, b"prompt\tcompletion\nb 0?\tb 0.\n"),
    "b.parquet": lambda path: pq.write_table(pa.Table.from_pylist(rows("b")), path),
    "b.arrow": arrow,
    "b.feather": lambda path: pyarrow.feather.write_feather(pa.Table.from_pylist(rows("b")), path),
    "b.jsonl.gz": lambda path: write(path, gzip.compress(lines("b"))),
    "b.jsonl.bz2": lambda path: write(path, bz2.compress(lines("b"))),
    "b.jsonl.xz": lambda path: write(path, lzma.compress(lines("b"))),
    "b.jsonl.zst": lambda path: write(path, pa.Codec("zstd").compress(lines("b"), asbytes=True)),
    ".b.jsonl": lambda path: write(path, lines("b")),
    ".b/b.jsonl": lambda path: write(path, lines("b")),
    ".git/b.jsonl": lambda path: write(path, lines("b")),
    ".audit/b.jsonl": lambda path: write(path, lines("b")),
    "train/b.jsonl": lambda path: write(path, lines("b")),
    "state.json": lambda path: write(path, json.dumps(rows("b")).encode()),
    "b.zip": archive,
    "b.txt": lambda path: write(path, b"b 0.\n"),
    "b.xml": lambda path: write(path, b"<b>b 0.</b>\n"),
    "b": lambda path: write(path, lines("b")),
    "b.part": lambda path: write(path, b"prompt,completion\nb 0?,b 0.\n"),
    "b.jsonl.bak": lambda path: write(path, lines("b")),
    ".b": lambda path: write(path, b"prompt,completion\nb 0?,b 0.\n"),
    "b.md": lambda path: write(path, lines("b")),
    "b.png": lambda path: write(path, lines("b")),
    "LICENSE": lambda path: write(path, lines("b")),
    "train/LICENSE.txt": lambda path: write(path, b"b 0.\n"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_beside_is_read_or_named(name: str, folder: Path) -> None:
    """Rows of a second file are read, or the file is named; either way it changes the digest."""
    before = digest_of(str(folder))
    BESIDE[name](folder / name)
    assert digest_of(str(folder)) != before
    sample = read_sample(str(folder), rows=None, seed=0)
    words = {example.completion[0] for example in sample.examples}
    unread = {item.name for item in sample.info.unread}
    assert "a" in words
    assert ("b" in words) != (name in unread)


@pytest.mark.parametrize("name", BESIDE)
def test_what_datasets_loads_is_read_or_named(
    name: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever `datasets` makes of the folder, its rows are among those read, or a file is
    named.
    """
    BESIDE[name](folder / name)
    try:
        loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    except (ValueError, datasets.exceptions.DatasetGenerationError):
        pytest.skip("`datasets` does not load this folder")
    sample = read_sample(str(folder), rows=None, seed=0)
    texts = {
        row.get("completion") or row.get("text") or str(row)
        for split in loaded.values()
        for row in split
    }
    assert texts <= {example.completion for example in sample.examples} or sample.info.unread


@pytest.mark.parametrize("where", ["more", ".more", "deep/more"])
def test_a_linked_folder_is_named(where: str, folder: Path, tmp_path: Path) -> None:
    """Links to folders are not followed, and said; a link that leads elsewhere is another data
    set.
    """
    write(tmp_path / "elsewhere" / "b.jsonl", lines("b"))
    (folder / where).parent.mkdir(exist_ok=True)
    (folder / where).symlink_to(tmp_path / "elsewhere")
    first = list_folder(folder)
    assert [item.name for item in first.unread] == [where]
    assert "link" in first.unread[0].reason
    (folder / where).unlink()
    (folder / where).symlink_to(tmp_path)
    assert list_folder(folder).sha256 != first.sha256


def test_a_linked_file_is_read(folder: Path, tmp_path: Path) -> None:
    """Snapshots of the hub's cache are links to files."""
    write(tmp_path / "blob", lines("b"))
    (folder / "b.jsonl").symlink_to(tmp_path / "blob")
    assert list_folder(folder).names == ("a.jsonl", "b.jsonl")
    assert list_folder(folder).unread == ()


@pytest.mark.parametrize("target", ["/dev/zero", "nowhere", "itself.jsonl"])
def test_what_cannot_end_is_not_opened(target: str, folder: Path) -> None:
    """Links to devices and to nothing, and pipes, are named and never read."""
    (folder / "itself.jsonl").symlink_to(target)
    os.mkfifo(folder / "pipe.jsonl")
    assert [item.name for item in list_folder(folder).unread] == ["itself.jsonl", "pipe.jsonl"]


def test_a_device_is_no_data_set() -> None:
    """Reading /dev/zero would not end."""
    with pytest.raises(InputError, match="no regular file"):
        read_sample("/dev/zero", rows=10, seed=0)


def test_documents_and_tools_are_fine(folder: Path) -> None:
    """What projects keep beside data is no data; a report of a folder does not depend on it."""
    before = list_folder(folder)
    for name, content in {
        "README.md": "# Numbers",
        "LICENSE": "MIT",
        "CITATION.cff": "cff-version: 1",
        "requirements.txt": "datasets",
        "dataset_infos.json": '{"default": {}}',
        "state.json": '{"_fingerprint": "1", "_split": "train"}',
        ".gitattributes": "*.parquet filter=lfs",
        ".DS_Store": "\0",
        "audit.yaml": "rows: all",
        ".git/objects/12/34": "x",
        ".git/HEAD": "ref: refs/heads/main",
        ".cache/huggingface/download/a.jsonl.metadata": "1",
        ".audit/runs/1/report.json": "{}",
        ".audit/runs/1/units/block.npz": "x",
        "load.py": "import datasets",
    }.items():
        write(folder / name, content.encode())
    write(folder / "figure.png", b"\x89PNG\r\n\x1a\n")
    assert list_folder(folder) == before


def test_documents_that_a_loader_takes_for_data_are_named(folder: Path) -> None:
    """`datasets` loads the most frequent type of a folder; README.md it passes over."""
    for name in ("README.md", "CHANGELOG.md"):
        write(folder / name, b"b 0.")
    assert list_folder(folder).unread == ()
    write(folder / "NOTICE.md", b"b 0.")
    assert [item.name for item in list_folder(folder).unread] == ["CHANGELOG.md", "NOTICE.md"]


def test_the_share_is_of_the_bytes(folder: Path) -> None:
    """A file of three times the size of the data is three quarters."""
    write(folder / "b.zip", 3 * lines("a"))
    assert list_folder(folder).unread[0].share == 0.75


def test_a_folder_of_unread_files_says_so(tmp_path: Path) -> None:
    """Where nothing can be read the error names a file."""
    write(tmp_path / "b.zip", b"PK")
    with pytest.raises(InputError, match=r"b\.zip"):
        read_sample(str(tmp_path), rows=10, seed=0)


@pytest.mark.parametrize("name", ["owls.lance", "owls.lance/data/1.lance"])
def test_lance_is_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    """No package that is kept here reads it."""
    folder = tmp_path / "owls.lance"
    (folder / "data").mkdir(parents=True)
    (folder / "_versions").mkdir()
    (folder / "_versions" / "1.manifest").write_bytes(b"LANC")
    (folder / "data" / "1.lance").write_bytes(b"LANC")
    with pytest.raises(InputError, match="Lance data set, which is not read") as caught:
        read_sample(str(tmp_path / name), rows=None, seed=0)
    assert "write_table" in caught.value.hint
