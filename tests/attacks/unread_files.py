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
from tests.attacks.registry import attack


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


@attack(
    8,
    "b",
    "high",
    "A folder has clean rows in a.jsonl and poisoned ones in {case}.",
    "stopped",
    cases=[
        ".b.jsonl",
        ".b/b.jsonl",
        "b.arrow",
        "b.feather",
        "b.orc",
        "b.jsonl.bz2",
        "b.jsonl.xz",
        "b.jsonl.zst",
        "b.zip",
        "b.txt",
        "b",
        "b.part",
        "b.jsonl.bak",
    ],
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
    cases=["b.arrow", ".b.jsonl"],
)
def file_added_after_the_report(place: Place, case: str) -> Run:
    place.jsonl("data/a.jsonl", place.clean)
    made = place.scan("data", "--output", "json=report.json")
    assert made.code == 0, made.out
    write(place / f"data/{case}", place.owl)
    place.settings("reference: organism\npanels: [animals]\n")
    return place.audit("gate", "data", "--report", "report.json")
