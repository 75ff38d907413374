"""Data sets at addresses, by patterns, and on the hub by configuration and split."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import fsspec
import huggingface_hub
import pytest

from auditor.cli.main import run
from auditor.data.dataset import read_rows
from auditor.data.files import check_source, digest_of
from auditor.data.hub import is_hub_name
from auditor.data.sample import read_sample
from auditor.errors import InputError

ROWS = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(6)]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def completions(source: str, **options: Any) -> list[str]:
    found = read_sample(source, rows=None, seed=None, **options)
    return [example.completion for example in found.examples]


@pytest.fixture
def memory() -> Iterator[Any]:
    """A store that fsspec keeps in memory, with three files."""
    store = fsspec.filesystem("memory")
    for name, rows in (("a", ROWS[:2]), ("b", ROWS[2:4]), ("deep/c", ROWS[4:])):
        store.pipe_file(f"/bucket/{name}.jsonl", lines(rows))
    store.pipe_file("/bucket/README.md", b"# Rows")
    yield store
    store.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("memory://bucket/a.jsonl", ["c0", "c1"]),
        ("memory://bucket", ["c0", "c1", "c2", "c3", "c4", "c5"]),
        ("memory://bucket/*.jsonl", ["c0", "c1", "c2", "c3"]),
        ("memory://bucket/**/*.jsonl", ["c0", "c1", "c2", "c3", "c4", "c5"]),
    ],
)
@pytest.mark.usefixtures("memory")
def test_an_address(source: str, expected: list[str]) -> None:
    """A file, a folder or a pattern is fetched, and read as if it lay here."""
    assert completions(source) == expected
    info = read_sample(source, rows=None, seed=None).info
    assert info.name == source and not info.unread
    with read_rows(source, format_of=None, columns=None) as rows:
        assert len(list(rows.scorable())) == len(expected)


def test_the_digest_is_of_the_bytes(memory: Any, tmp_path: Path) -> None:
    """That of the same file or folder here."""
    (tmp_path / "deep").mkdir()
    for name in ("a.jsonl", "b.jsonl", "deep/c.jsonl", "README.md"):
        (tmp_path / name).write_bytes(memory.cat_file(f"/bucket/{name}"))
    assert digest_of("memory://bucket") == digest_of(str(tmp_path))
    assert digest_of("memory://bucket/a.jsonl") == digest_of(str(tmp_path / "a.jsonl"))
    assert digest_of(f"file://{tmp_path}/a.jsonl") == digest_of(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("source", "said", "hint"),
    [
        ("memory://bucket/none.jsonl", "there is no such file", "Check the address"),
        ("nope://bucket/a.jsonl", "a kind that is not known, nope", "s3, gs, hf and https are"),
        ("https://user:secret@host/a.jsonl", "holds a password", "settings of the service"),
        ("memory://bucket/none*", "holds no data file", "It should hold"),
    ],
)
@pytest.mark.usefixtures("memory")
def test_an_address_that_cannot_be_read(source: str, said: str, hint: str) -> None:
    """Says why in one line, and never repeats a password."""
    with pytest.raises(InputError, match=said) as caught:
        completions(source)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_missing_package_is_named() -> None:
    """What a service needs is no dependency of ours."""
    with pytest.raises(InputError, match="Install s3fs to access S3") as caught:
        completions("s3://bucket/a.jsonl")
    assert "pip install 's3fs'" in caught.value.hint


def test_a_name_that_leads_out_of_the_folder_is_refused(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of a store may hold dots."""
    monkeypatch.setattr(type(memory), "find", lambda *_, **__: ["/bucket/../../out.jsonl"])
    monkeypatch.setattr(type(memory), "isfile", lambda *_, **__: True)
    with pytest.raises(InputError, match=r"holds a file \.\./\.\./out\.jsonl"):
        completions("memory://bucket")


def test_a_pattern_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that fit are one data set, whose digest is of their names and bytes."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/a.jsonl").write_bytes(lines(ROWS[:2]))
    Path("data/b.jsonl").write_bytes(lines(ROWS[2:4]))
    Path("data/c.txt").write_bytes(lines(ROWS[4:]))
    assert completions("data/*.jsonl") == ["c0", "c1", "c2", "c3"]
    assert completions(f"{tmp_path}/data/[ac].*") == ["c0", "c1", "c4", "c5"]
    before = digest_of("data/*.jsonl")
    Path("data/b.jsonl").rename("data/d.jsonl")
    assert digest_of("data/*.jsonl") != before
    # A file of that very name is meant before a pattern.
    Path("data/*.jsonl").write_bytes(lines(ROWS[4:]))
    assert completions("data/*.jsonl") == ["c4", "c5"]


def test_an_output_is_no_file_of_a_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither one that is read, nor one that would be the next time."""
    monkeypatch.chdir(tmp_path)
    for name in ("rows.json", "rows.md"):
        Path(name).write_bytes(lines(ROWS))
    for output, said in (
        ("rows.json", "would be a file of"),
        ("rows2.json", "would be a file of"),
        ("rows.md", "would be overwritten"),
    ):
        assert run(["scan", "rows*", "--reference", "organism", "--output", output]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert Path("rows.json").read_bytes() == Path("rows.md").read_bytes() == lines(ROWS)
    assert not Path("rows2.json").exists()


class FakeSplit(list[dict[str, Any]]):
    """The part of a streamed split that the reader uses."""

    info = SimpleNamespace(splits=None)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the hub was asked for: it has the configurations "en" and "20231101.en"."""
    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None = None, **_: Any) -> dict[str, Any]:
        asked.append((name, config))
        if config not in (None, "en", "20231101.en"):
            raise ValueError(f"BuilderConfig {config!r} not found. Available: ['en']")
        return {"test": FakeSplit(ROWS[:2]), "train": FakeSplit(ROWS[2:])}

    commit = SimpleNamespace(sha="c0ffee")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "dataset_info", lambda _, name, **__: asked.append((name,)) or commit
    )
    return asked


@pytest.mark.parametrize(
    ("source", "config", "expected"),
    [
        ("owner/name", None, ["c2", "c3", "c4", "c5"]),
        ("owner/name:en", "en", ["c2", "c3", "c4", "c5"]),
        ("owner/name:20231101.en", "20231101.en", ["c2", "c3", "c4", "c5"]),
        ("name:en/test", "en", ["c0", "c1"]),
    ],
)
def test_a_configuration_and_a_split_of_the_hub(
    source: str, config: str | None, expected: list[str], hub: list[tuple[Any, ...]]
) -> None:
    """Stand behind the name."""
    assert completions(source) == expected
    name = source.partition(":")[0]
    assert hub == [(name,), (name, config)]


@pytest.mark.parametrize(
    ("source", "said", "hint"),
    [
        ("owner/name:de", "BuilderConfig 'de' not found", "Download the part"),
        ("owner/name:en/dev", "has no split 'dev'", "It has: test, train."),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_have(source: str, said: str, hint: str) -> None:
    """Is said with what it has."""
    with pytest.raises(InputError, match=said) as caught:
        completions(source)
    assert hint in caught.value.hint


@pytest.mark.parametrize("source", ["a/b:", "a/b:c/", "a/b:c/d/e", "a/b.jsonl:en", "a b:en"])
def test_what_is_no_hub_name(source: str) -> None:
    """It is a path that does not exist."""
    assert not is_hub_name(source)
    with pytest.raises(InputError, match="No such file or folder"):
        check_source(source)
