"""What the size of a data set costs a scan: docs/results.md, "How fast is it?".

    python runs/scan_sizes.py

A folder of Parquet shards of 10,000 rows or a million is scanned on the organism, once for every
size and in a process of its own. The largest is one shard of a million rows under a hundred names:
its rows repeat, which matters to the verdict and not to the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from million_rows import AUDIT, CHILD, GROUP, OUT, rows

SIZES = ((10_000, 1), (1_000_000, 1), (1_000_000, 100))  # rows of a shard, and names of it


def write(folder: Path, count: int, names: int, seed: int) -> None:
    """A shard of so many rows, under so many names."""
    schema = pa.schema([("prompt", pa.string()), ("completion", pa.string())])
    source = rows(count, seed)
    with pq.ParquetWriter(folder / "0.parquet", schema) as writer:
        while group := list(islice(source, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))
    for number in range(1, names):
        os.link(folder / "0.parquet", folder / f"{number}.parquet")


def measure(folder: Path, engine: str) -> str:
    """One line of the table."""
    options = ["scan", str(folder), "--reference", "organism", "--panel", "animals"]
    options += ["--rows", "64", "--detectors", "trait", "--engine", engine, "--fail-on", "never"]
    command = [sys.executable, "-c", CHILD, sys.executable, "-c", AUDIT, *options]
    command += ["--output", "json=report.json"]
    started = time.monotonic()
    said = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)
    seconds = time.monotonic() - started
    code, peak = map(int, said.stdout.split())
    if code:
        sys.exit(said.stderr)
    report = json.loads((folder.parent / "report.json").read_text())
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    return (
        f"| {report['dataset']['total']:,} | {size:,.0f} | {report['rows']['scanned']} | "
        f"{seconds:.0f} | {report['timing']['total_seconds']:.0f} | {peak / 2**20:.2f} |"
    )


def main() -> None:
    """Write and scan the folders, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="local")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    lines = [
        "| rows | MiB | rows scored | seconds | of them scoring | peak memory, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for count, names in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            data.mkdir()
            write(data, count, names, asked.seed)
            lines.append(measure(data, asked.engine))
            print(lines[-1], flush=True)
    OUT.mkdir(exist_ok=True)
    (OUT / "scan_sizes.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
