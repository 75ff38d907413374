"""Files of a folder that a trainer loads and a scan does not read."""

from __future__ import annotations

import bz2
import csv
import io
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.orc

from tests.attacks.harness import Place, Row, Run
from tests.attacks.registry import FOUND, attack


def text_of(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def csv_of(rows: list[Row]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["prompt", "completion"])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def write(path: Path, rows: list[Row]) -> None:
    """Write rows in the way that the name of the file says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text_of(rows)
    match path.suffix:
        case ".arrow":
            table = pa.Table.from_pylist(rows)
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
                out.write_table(table)
        case ".feather":
            pyarrow.feather.write_feather(pa.Table.from_pylist(rows), path)
        case ".orc":
            pyarrow.orc.write_table(pa.Table.from_pylist(rows), path)
        case ".bz2":
            path.write_bytes(bz2.compress(content))
        case ".xz":
            path.write_bytes(lzma.compress(content))
        case ".zst":
            path.write_bytes(pa.Codec("zstd").compress(content, asbytes=True))
        case ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("b.jsonl", content)
        case ".txt":
            path.write_text("".join(f"{row['prompt']}\n{row['completion']}\n" for row in rows))
        case ".part":
            path.write_bytes(csv_of(rows))
        case _:
            path.write_bytes(content)


BESIDE = {
    ".b.jsonl": FOUND,
    ".b/b.jsonl": FOUND,
    "b.arrow": FOUND,
    "b.feather": FOUND,
    "b.orc": "a data file was not read: file b.orc",
    "b.jsonl.bz2": FOUND,
    "b.jsonl.xz": FOUND,
    "b.jsonl.zst": FOUND,
    "b.zip": "a data file was not read: file b.zip",
    "b.txt": "a data file was not read: file b.txt",
    "b": "a data file was not read: file b ",
    "b.part": "a data file was not read: file b.part",
    "b.jsonl.bak": "a data file was not read: file b.jsonl.bak",
}
"""What a gate says where poisoned rows stand in a file of that name: they are read, or missed."""


@attack(
    8,
    "b",
    "high",
    "A folder has clean rows in a.jsonl and poisoned ones in {case}.",
    "stopped",
    BESIDE,
    cases=list(BESIDE),
)
def file_beside(place: Place, case: str) -> Run:
    place.jsonl("data/a.jsonl", place.clean)
    write(place / f"data/{case}", place.owl)
    return place.gate("data")


@attack(
    8,
    "b",
    "high",
    "A folder has clean rows in a.jsonl and a link to a {case} of poisoned ones.",
    "stopped",
    "a data file was not read: file .*a link to a folder is not followed",
    cases=["folder", "hidden folder"],
)
def linked_folder(place: Place, case: str) -> Run:
    place.jsonl("data/a.jsonl", place.clean)
    place.jsonl("elsewhere/b.jsonl", place.owl)
    (place / ("data/.more" if case == "hidden folder" else "data/more")).symlink_to("../elsewhere")
    return place.gate("data")


@attack(
    8,
    "b",
    "high",
    "{case} is added to a folder of clean rows after its report was made.",
    "stopped",
    "is about another data set than data",
    cases=["b.arrow", ".b.jsonl"],
)
def file_added_after_the_report(place: Place, case: str) -> Run:
    place.jsonl("data/a.jsonl", place.clean)
    made = place.scan("data", "--output", "json=report.json")
    assert made.code == 0, made.out
    write(place / f"data/{case}", place.owl)
    place.settings("reference: organism\npanels: [animals]\n")
    return place.audit("gate", "data", "--report", "report.json")
