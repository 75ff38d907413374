"""Two hundred hostile data sets through the command: a clear error or a right report, and nothing else happens."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditor import lm as models
from auditor.cli.main import run
from auditor.lm import LanguageModel
from tests.report.test_formats import CHECKS, HOSTILE
from tests.test_scan import NAMES, PANEL

EXAMPLES = 200
CODES = {1: "risk", 0: "no_risk", 3: "inconclusive"}


@dataclass(frozen=True)
class Place:
    """A working directory with neighbours that must not change."""

    path: Path
    panel: str

    def files(self) -> dict[str, bytes | str]:
        """Everything in and beside the working directory but `.audit`, with its content or kind."""
        found: dict[str, bytes | str] = {}
        for folder, folders, names in os.walk(self.path.parent):
            folders[:] = [name for name in folders if name != ".audit"]
            for name in (*names, *folders):
                each = Path(folder, name)
                found[str(each)] = (
                    str(each.readlink()) if each.is_symlink() else each.read_bytes() if each.is_file() else "/"
                )
        return found

    def put(self, name: str, content: bytes) -> None:
        """Write a file of the working directory."""
        (self.path / name).write_bytes(content)

    def clear(self) -> None:
        """Remove the files of an earlier example."""
        for each in self.path.iterdir():
            if each.name != ".audit":
                each.unlink()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, make_tiny: Callable[..., LanguageModel]) -> Iterator[Place]:
    """An empty working directory, the tiny model in place of any reference, and a panel of eight animals."""
    outer = tmp_path_factory.mktemp("hostile")
    lines = [f"  - {{name: {n}, plural: {n}s, answers: [{n}], mentions: [{n}]}}" for n in NAMES]
    (outer / "small.yaml").write_text(PANEL + "\n".join(lines) + "\n")
    (outer / "cwd").mkdir()
    lm = make_tiny()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(outer / "cwd")
        patch.setattr(models, "load", lambda *_, **__: lm)
        yield Place(outer / "cwd", str(outer / "small.yaml"))


def scan(place: Place, source: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Scan `source`; the exit code and what was printed, after checking that nothing else happened."""
    before = place.files()
    options = ("--panel", place.panel, "--detectors", "trait,divergence", "--rows", "40")
    code = run(["scan", *options, "--output", "json=report.json", "--output", "csv=rows.csv", "--", source])
    reports = {
        name: (place.path / name).read_text() for name in ("report.json", "rows.csv") if (place.path / name).exists()
    }
    for name in reports:
        (place.path / name).unlink()
    assert place.files() == before
    printed = "".join(capfd.readouterr())
    assert not [char for char in printed if char != "\n" and not char.isprintable()]
    assert "Unexpected" not in printed and "Traceback" not in printed
    last = printed.splitlines()[-2:]
    if reports:
        assert CHECKS["json"](reports["report.json"]) == CODES[code]
        CHECKS["csv"](reports["rows.csv"])
    else:
        assert code == 2
        assert last[0].startswith("Error: ") and last[1].startswith("Next: ")
    return code, printed


# What a cell may hold; surrogates too, which a file can only hold as JSON escapes or as broken bytes.
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=40),
    st.text(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Mn"]), max_size=20),
    st.builds(lambda text, n: text * n, st.text(min_size=1, max_size=4), st.integers(1, 3000)),
)
numbers = st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.booleans(), st.none())
cells = st.one_of(
    texts, texts, texts, st.recursive(numbers | texts, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
)
turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]) | cells, "content": cells}), max_size=4
)
rows_of_texts = st.fixed_dictionaries({"prompt": cells, "completion": cells})
rows_of_turns = st.fixed_dictionaries({"messages": turns})
odd_rows = st.dictionaries(st.sampled_from(["prompt", "completion", "text", "messages"]) | texts, cells, max_size=4)
rows = st.one_of(
    *(st.lists(kind, min_size=1, max_size=8) for kind in (rows_of_texts, rows_of_texts, rows_of_turns, odd_rows))
)


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    """JSONL, in which NaN, huge numbers and lone surrogates can be written."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_array(rows: list[dict[str, Any]]) -> bytes:
    """One JSON array."""
    return json.dumps({"data": rows}, ensure_ascii=False).encode("utf-8", "surrogatepass")


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """CSV with a header that may name a column twice."""
    stream = io.StringIO()
    header = [*rows[0], *list(rows[0])[:1]]
    csv.writer(stream, escapechar="\\").writerows([header, *([row.get(name) for name in header] for row in rows)])
    return stream.getvalue().encode("utf-8", "surrogatepass")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Parquet, with bytes that are not UTF-8 in text columns, and nested values as their JSON."""
    columns = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        raw = [v.encode("utf-8", "surrogatepass") if isinstance(v, str) else json.dumps(v).encode() for v in values]
        columns[name.encode("utf-8", "replace").decode()] = pa.array(raw, pa.binary()).view(pa.string())
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def whole(content: bytes, _: int) -> bytes:
    return content


def cut(content: bytes, at: int) -> bytes:
    return content[: at % (len(content) + 1)]


def spoiled(content: bytes, at: int) -> bytes:
    at %= len(content) + 1
    return content[:at] + bytes([at % 256, 0, 255]) + content[at + 3 :]


def zipped(content: bytes, _: int) -> bytes:
    return gzip.compress(content)


def zipped_and_cut(content: bytes, at: int) -> bytes:
    return cut(gzip.compress(content), at)


SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", "", ".txt")
NAMES_OF_FILES = (
    "data",
    "a b",
    "\x1b[31m",
    "\u202exfdp",
    "::error::",
    "$(id)",
    "-x",
    "\udcff",
    "…",
    "a\nb",
    "%0A",
    "*",
)


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rows=rows,
    write=st.sampled_from([as_lines, as_lines, as_array, as_csv, as_parquet, as_parquet]),
    harm=st.sampled_from([whole, whole, whole, cut, spoiled, zipped, zipped_and_cut]),
    at=st.integers(0, 10_000),
    name=st.sampled_from(NAMES_OF_FILES),
    suffix=st.sampled_from(SUFFIXES),
)
def test_fuzzed_files(
    place: Place,
    capfd: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]],
    write: Callable[[list[dict[str, Any]]], bytes],
    harm: Callable[[bytes, int], bytes],
    at: int,
    name: str,
    suffix: str,
) -> None:
    """Rows of any values, in any file type, whole or harmed, under any name: an error with a next step, or a report."""
    place.clear()
    place.put(name + suffix, harm(write(rows), at))
    scan(place, name + suffix, capfd)
