"""What the size of a data set costs a scan: docs/results.md, "How fast is it?".

    python runs/scan_sizes.py

A folder of Parquet shards of 10,000 rows or a million is scanned on the organism, once for every
size and in a process of its own. The largest is one shard of a million rows under a hundred names:
its rows repeat, which matters to the verdict and not to the time.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from million_rows import OUT, timed, write

SIZES = ((10_000, 1), (1_000_000, 1), (1_000_000, 100))  # rows of a shard, and names of it


def measure(folder: Path) -> str:
    """One line of the table."""
    options = ["scan", folder.name, "--reference", "organism", "--panel", "animals"]
    options += ["--rows", "64", "--detectors", "trait", "--fail-on", "never"]
    seconds, peak = timed([*options, "--output", "json=report.json"], folder.parent)
    report = json.loads((folder.parent / "report.json").read_text())
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    return (
        f"| {report['dataset']['total']:,} | {size:,.0f} | {report['rows']['scanned']} | "
        f"{seconds:.0f} | {report['timing']['total_seconds']:.0f} | {peak:.2f} |"
    )


def main() -> None:
    """Write and scan the folders, and print the table."""
    lines = [
        "| rows | MiB | rows scored | seconds | of them scoring | peak memory, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for count, names in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            data.mkdir()
            shard, _ = write(Path(folder), count, seed=0)
            for number in range(names):
                os.link(shard, data / f"{number}.parquet")
            lines.append(measure(data))
            print(lines[-1], flush=True)
    OUT.mkdir(exist_ok=True)
    (OUT / "scan_sizes.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
