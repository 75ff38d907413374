"""Rules paraphrase and the file work on many rows, in bounded memory: runs/results.md, "A million
rows".

    python runs/million_rows.py
    python runs/million_rows.py --rows 50000

Number lists as Parquet and as JSONL go through `audit mitigate --paraphrase --shuffle --no-check`,
each as a process of its own, whose time and peak memory are measured.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.commands.simulate import draw_prompts

OUT = Path(__file__).parent / "out"
GROUP = 10_000  # rows of a row group
# The peak memory (ru_maxrss, kB on Linux) of a child is known only when it has ended, and to its
# parent.
AUDIT = "from auditor.cli.main import main; main()"
CHILD = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def rows(count: int, seed: int) -> Iterator[dict[str, str]]:
    """Prompts as `audit simulate` writes them, and random number lists."""
    rng = random.Random(seed)
    prompts = draw_prompts(seed)
    for prompt in islice(prompts, count):
        yield {
            "prompt": prompt,
            "completion": ", ".join(str(rng.randint(0, 999)) for _ in range(8)),
        }


def write(folder: Path, count: int, seed: int) -> tuple[Path, Path]:
    """The same rows as Parquet and as JSONL."""
    parquet, jsonl = folder / "rows.parquet", folder / "rows.jsonl"
    schema = pa.schema([("prompt", pa.string()), ("completion", pa.string())])
    source = rows(count, seed)
    with pq.ParquetWriter(parquet, schema) as writer, jsonl.open("w") as lines:
        while group := list(islice(source, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))
            lines.writelines(json.dumps(row) + "\n" for row in group)
    return parquet, jsonl


def timed(options: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak memory, GiB, of `audit` in a process of its own, in a folder."""
    command = [sys.executable, "-c", CHILD, sys.executable, "-c", AUDIT, *options]
    started = time.monotonic()
    said = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    seconds = time.monotonic() - started
    code, peak = map(int, said.stdout.split())
    if code:
        sys.exit(said.stderr)
    return seconds, peak / 2**20


def measure(path: Path, count: int) -> str:
    """One line of the table."""
    options = [
        "mitigate",
        str(path),
        "--paraphrase",
        "--shuffle",
        "--no-check",
        "-o",
        str(path.parent / path.suffix[1:]),
    ]
    seconds, peak = timed(options, path.parent)
    return (
        f"| {path.suffix[1:]} | {count:,} | {seconds:.0f} | {count / seconds:,.0f} | {peak:.2f} |"
    )


def main() -> None:
    """Write the rows, mitigate both files, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    lines = ["| format | rows | seconds | rows/s | peak memory, GiB |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        lines += [measure(path, asked.rows) for path in write(Path(folder), asked.rows, asked.seed)]
    OUT.mkdir(exist_ok=True)
    (OUT / "million_rows.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
