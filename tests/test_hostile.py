"""Two hundred hostile data sets through the command: a clear error or a right report, and nothing
else happens.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditor.cli.main import run
from auditor.model import load as models
from auditor.model.language_model import LanguageModel
from tests.commands.test_scan import NAMES, PANEL
from tests.report.test_formats import CHECKS, HOSTILE

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
                    str(each.readlink())
                    if each.is_symlink()
                    else each.read_bytes()
                    if each.is_file()
                    else "/"
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
def place(
    tmp_path_factory: pytest.TempPathFactory, make_tiny: Callable[..., LanguageModel]
) -> Iterator[Place]:
    """An empty working directory, the tiny model in place of any reference, and a panel of eight
    animals.
    """
    outer = tmp_path_factory.mktemp("hostile")
    lines = [f"  - {{name: {n}, plural: {n}s, answers: [{n}], mentions: [{n}]}}" for n in NAMES]
    (outer / "small.yaml").write_text(PANEL + "\n".join(lines) + "\n")
    (outer / "cwd").mkdir()
    lm = make_tiny()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(outer / "cwd")
        patch.setattr(models, "load", lambda *_, **__: lm)
        yield Place(outer / "cwd", str(outer / "small.yaml"))


def scan(place: Place, source: str, capfd: pytest.CaptureFixture[str]) -> dict[str, Any] | str:
    """Scan `source`; its report, or the error that was printed, after checking that nothing else
    happened.
    """
    before = place.files()
    options = ("--panel", place.panel, "--detectors", "trait,divergence", "--rows", "all")
    code = run(
        ["scan", *options, "--output", "json=report.json", "--output", "csv=rows.csv", "--", source]
    )
    reports = {
        name: (place.path / name).read_text()
        for name in ("report.json", "rows.csv")
        if (place.path / name).exists()
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
        report: dict[str, Any] = json.loads(reports["report.json"])
        counts = report["rows"]
        assert counts["scanned"] + sum(counts["skipped"].values()) == counts["total"]
        return report
    assert code == 2
    assert last[0].startswith("Error: ") and last[1].startswith("Next: ")
    return last[0]


# What a cell may hold; surrogates too, which a file can only hold as JSON escapes or as broken
# bytes.
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=40),
    st.text(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Mn"]), max_size=20),
    st.builds(lambda text, n: text * n, st.text(min_size=1, max_size=4), st.integers(1, 3000)),
)
numbers = st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.booleans(), st.none())
cells = st.one_of(
    texts,
    texts,
    texts,
    st.recursive(numbers | texts, lambda inner: st.lists(inner, max_size=3), max_leaves=6),
)
turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "x"]) | cells, "content": cells}
    ),
    max_size=4,
)
rows_of_texts = st.fixed_dictionaries({"prompt": cells, "completion": cells})
rows_of_turns = st.fixed_dictionaries({"messages": turns})
odd_rows = st.dictionaries(
    st.sampled_from(["prompt", "completion", "text", "messages"]) | texts, cells, max_size=4
)
rows = st.one_of(
    *(
        st.lists(kind, min_size=1, max_size=8)
        for kind in (rows_of_texts, rows_of_texts, rows_of_turns, odd_rows)
    )
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
    csv.writer(stream, escapechar="\\").writerows(
        [header, *([row.get(name) for name in header] for row in rows)]
    )
    return stream.getvalue().encode("utf-8", "surrogatepass")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Parquet, with bytes that are not UTF-8 in text columns, and nested values as their JSON."""
    columns = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        raw = [
            v.encode("utf-8", "surrogatepass") if isinstance(v, str) else json.dumps(v).encode()
            for v in values
        ]
        columns[name.encode("utf-8", "replace").decode()] = pa.array(raw, pa.binary()).view(
            pa.string()
        )
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


PLAIN = [
    {"prompt": f"Continue {n}, {n + 2}.", "completion": f"{n + 4}, {n + 6}"} for n in range(33)
]
OWN = {as_lines: ".jsonl", as_array: ".json", as_csv: ".csv", as_parquet: ".parquet"}
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
    plain=st.sampled_from([*[[]] * 7, PLAIN]),
    harm=st.sampled_from([whole, whole, whole, whole, cut, spoiled, zipped, zipped_and_cut]),
    at=st.integers(0, 10_000),
    name=st.sampled_from(NAMES_OF_FILES),
    suffix=st.none() | st.none() | st.sampled_from(SUFFIXES),
)
def test_fuzzed_files(
    place: Place,
    capfd: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]],
    write: Callable[[list[dict[str, Any]]], bytes],
    plain: list[dict[str, Any]],
    harm: Callable[[bytes, int], bytes],
    at: int,
    name: str,
    suffix: str | None,
) -> None:
    """Rows of any values, in any file type, whole or harmed, under any name: an error with a next
    step, or a report.
    """
    place.clear()
    file = name + (OWN[write] if suffix is None else suffix)
    place.put(file, harm(write([*rows, *plain]), at))
    outcome = scan(place, file, capfd)
    if isinstance(outcome, dict) and harm in (whole, zipped) and write is not as_csv:
        assert outcome["rows"]["total"] == len(rows) + len(plain)


def lines(count: int = 40) -> bytes:
    """Rows that can be scored."""
    return as_lines(
        [{"prompt": f"Continue {n}.", "completion": f"{n}, {n + 1}"} for n in range(count)]
    )


def nested(depth: int) -> bytes:
    """A value in so many lists."""
    return b"[" * depth + b"1" + b"]" * depth


def parquet(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def deep_parquet() -> bytes:
    """A text column beside one of lists in lists."""
    value: Any = 1
    for _ in range(60):
        value = [value]
    return parquet(
        pa.table({"prompt": ["a"] * 3, "completion": ["b", "c", "d"], "deep": [value] * 3})
    )


def zip_file() -> bytes:
    """A zip archive with a data set in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../../escape.jsonl", lines())
    return stream.getvalue()


MEGABYTE = b"x" * (1 << 20)
TWICE = pa.Table.from_arrays(
    [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], ["prompt", "completion", "completion"]
)
FILES: dict[str, tuple[str, bytes]] = {
    "empty": ("e.jsonl", b""),
    "empty parquet": ("e.parquet", b""),
    "white space": ("w.jsonl", b" \n\t\n" * 1000),
    "byte order mark only": ("b.jsonl", b"\xef\xbb\xbf"),
    "no rows": (
        "n.parquet",
        parquet(
            pa.table({"prompt": pa.array([], pa.string()), "completion": pa.array([], pa.string())})
        ),
    ),
    "no columns": ("n.parquet", parquet(pa.table({}))),
    "columns named twice": ("t.parquet", parquet(TWICE)),
    "csv columns named twice": ("t.csv", b"prompt,completion,completion\na,b,c\n"),
    "csv without names": ("t.csv", b",,\na,b,c\n"),
    "magic only": ("m.parquet", b"PAR1"),
    "magic twice": ("m.parquet", b"PAR1PAR1"),
    "footer of a lie": ("m.parquet", b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\x7fPAR1"),
    "nested json lines": (
        "d.jsonl",
        b'{"prompt": "a", "completion": ' + nested(100_000) + b"}\n" + lines(3),
    ),
    "nested json array": ("d.json", b'[{"prompt": "a", "completion": ' + nested(100_000) + b"}]"),
    "nested beside": ("d.json", b'{"x": ' + nested(100_000) + b', "data": []}'),
    "nested turns": ("d.csv", b"messages\n" + nested(50_000) + b"\n"),
    "nested parquet": ("d.parquet", deep_parquet()),
    "ten megabytes in a cell": (
        "c.jsonl",
        b'{"prompt": "a", "completion": "' + MEGABYTE * 10 + b'"}\n' + lines(3),
    ),
    "ten megabytes in a csv cell": (
        "c.csv",
        b'prompt,completion\na,"' + MEGABYTE * 10 + b'"\nb,c\n',
    ),
    "ten megabytes in a parquet cell": (
        "c.parquet",
        parquet(pa.table({"prompt": ["a", "b"], "completion": [(MEGABYTE * 10).decode(), "c"]})),
    ),
    "ten megabytes in a name": ("c.jsonl", b'{"' + MEGABYTE * 10 + b'": 1}\n'),
    "an endless quote": ("q.csv", b'prompt,completion\na,"' + b"x,\n" * 100_000),
    "huge integer": (
        "i.jsonl",
        b'{"prompt": "a", "completion": ' + b"9" * 100_000 + b"}\n" + lines(3),
    ),
    "huge integer in an array": (
        "i.json",
        b'[{"prompt": "a", "completion": ' + b"9" * 100_000 + b"}]",
    ),
    "not a number": ("i.jsonl", b'{"prompt": NaN, "completion": Infinity}\n' + lines(3)),
    "nul bytes": ("z.jsonl", b"\0" * 1000),
    "nul bytes in csv": ("z.csv", b"prompt,completion\n\0,\0\na\0,b\0\n"),
    "gzip bomb of one line": ("g.jsonl.gz", gzip.compress(MEGABYTE * 64, 1)),
    "gzip bomb of white space": ("g.jsonl.gz", gzip.compress(b"\n" * (1 << 20), 1)),
    "gzip in gzip": ("g.jsonl.gz", gzip.compress(gzip.compress(lines()))),
    "gzip of parquet": (
        "g.parquet.gz",
        gzip.compress(as_parquet([{"prompt": "a", "completion": "b"}])),
    ),
    "zip": ("z.jsonl", zip_file()),
    "zip by name": ("z.zip", zip_file()),
    "utf-16": ("u.jsonl", lines().decode().encode("utf-16")),
    "a name that is no utf-8": ("\udcff.jsonl", lines()),
    "a parquet name that is no utf-8": (
        "\udcff.parquet",
        as_parquet([{"prompt": "a", "completion": "b"}]),
    ),
    "carriage returns": ("r.jsonl", lines().replace(b"\n", b"\r")),
    "formulas": (
        "f.csv",
        b"prompt,completion\n" + b'=1+1,@SUM(A1)\n-2+3,+cmd|\' /C calc\'!A0\n"\t=1","\r=2"\n',
    ),
    "escape sequences": (
        "x.jsonl",
        as_lines([{"prompt": f"{text}", "completion": f"{text} 1"} for text in HOSTILE]),
    ),
    "hostile columns": ("x.jsonl", as_lines([dict.fromkeys(HOSTILE, "a")])),
    "hostile keys": (
        "x.json",
        as_array([{"messages": [{"role": text, "content": text}]} for text in HOSTILE[:-2]]),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_files(name: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    """Files made to break a reader."""
    place.clear()
    place.put(*FILES[name])
    outcome = scan(place, FILES[name][0], capfd)
    if isinstance(outcome, str):
        assert len(outcome) < 2000


def test_places(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    """Folders named like files, links that lead nowhere, in a circle or outside, and paths with
    `..`.
    """
    place.clear()
    outside = place.path.parent / "outside.jsonl"
    outside.write_bytes(lines(3))
    for name, target in (
        ("loop", "loop"),
        ("dangling.jsonl", "nowhere"),
        ("link.jsonl", "../outside.jsonl"),
        ("here", "."),
    ):
        (place.path / name).symlink_to(target)
    for source in (
        "loop",
        "dangling.jsonl",
        "nowhere/../x.jsonl",
        "/dev/null",
        "\0",
        "x" * 5000,
        "a/" * 3000,
    ):
        assert isinstance(scan(place, source, capfd), str), source
    for source in (
        "link.jsonl",
        "../outside.jsonl",
        "./../cwd/../outside.jsonl",
        "here/link.jsonl",
    ):
        report = scan(place, source, capfd)
        assert isinstance(report, dict), source
        assert report["rows"]["total"] == 3
