"""What attacks are built with: places with data and settings in them, and runs of the command line.

An attack knows the program only as its users do: by its command line, its files and its exit codes.
"""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from tests.attacks.registry import Right

ROOT = Path(__file__).parents[2]
ORGANISM = ROOT / "auditor" / "resources" / "organism"
AUDIT = Path(sys.executable).with_name("audit")
ROWS = 64
"""Rows of a plain data set here: enough for a risk and for a pass."""
SCAN = ("--reference", "organism", "--panel", "animals", "--seed", "0")
"""The settings of nearly all scans here; the seed makes their outcome the same every time."""
FIRST_LINES = 8
Row = dict[str, Any]


class AttackWorksError(AssertionError):
    """The outcome is not the right one."""


@dataclass(frozen=True)
class Run:
    """How a command ended.

    code: None when it ran out of time. seconds: of processor time. memory: bytes at most.
    """

    code: int | None
    out: str
    err: str
    seconds: float = 0.0
    memory: int = 0

    @property
    def first_lines(self) -> str:
        """What a reader sees first of the page, in one line."""
        return in_one_line(self.out, FIRST_LINES)

    @property
    def all_in_one_line(self) -> str:
        """The page and the errors."""
        return in_one_line(f"{self.out}\n{self.err}")


def in_one_line(page: str, most: int | None = None) -> str:
    """The first lines of a page, without frames."""
    lines = [line.strip("│ ") for line in page.splitlines() if line.strip("│╭╮╰╯─ ")]
    return " ".join(" ".join(lines[:most]).split())


def judge(right: Right, says: str, run: Run, words: Sequence[str] = ()) -> None:
    """Raise AttackWorksError unless the run ended as is right, and said why."""
    told = f"exit {run.code}: {run.first_lines} {run.err.strip()[-300:]}"
    if run.code is None:
        raise AttackWorksError(f"It did not end in time: {told}")
    if "Unexpected" in run.err or "Traceback" in run.err or run.code not in (0, 1, 2, 3):
        raise AttackWorksError(f"It crashed: {told}")
    fine = {
        "passes": run.code == 0,
        "found": run.code == 1,
        "refused": run.code == 2,
        "stopped": run.code in (1, 2, 3),
        "named": any(word in f"{run.first_lines} {run.err}" for word in words),
        "handled": True,
        "untouched": True,
    }
    if not fine[right]:
        raise AttackWorksError(told)
    if not re.search(says, run.all_in_one_line):
        raise AttackWorksError(f"It does not say {says!r}: {told}")


def unless(held: bool, what: str) -> None:
    """Raise AttackWorksError where a condition does not hold."""
    if not held:
        raise AttackWorksError(what)


class Server:
    """The process whose forks run the command line."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.server"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer to a request."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@dataclass(frozen=True)
class Samples:
    """Data whose truth is known, in a folder: owl.parquet and clean.parquet, and their rows."""

    folder: Path

    @functools.cached_property
    def owl(self) -> list[Row]:
        """Rows of a teacher that loves owls."""
        return pq.read_table(self.folder / "owl.parquet").to_pylist()

    @functools.cached_property
    def clean(self) -> list[Row]:
        """The reference's own rows on the same prompts."""
        return pq.read_table(self.folder / "clean.parquet").to_pylist()


@dataclass(frozen=True)
class Place:
    """A working directory for one attack, and what runs there.

    path: the working directory. It has a cache folder of its own beside it, as a machine of its
    own has.
    """

    path: Path
    samples: Samples
    server: Server

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def clean(self) -> list[Row]:
        """Rows that pass."""
        return self.samples.clean[:ROWS]

    @property
    def owl(self) -> list[Row]:
        """Rows that a scan finds the trait owl in."""
        return self.samples.owl[:ROWS]

    # Building

    def jsonl(self, name: str, rows: Iterable[Row]) -> Path:
        """Write rows as JSON lines."""
        return self.text(name, "".join(json.dumps(row) + "\n" for row in rows))

    def text(self, name: str, content: str) -> Path:
        """Write a text file, gzipped where its name says so."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode()
        path.write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)
        return path

    def csv(self, name: str, header: Sequence[str], records: Iterable[Sequence[object]]) -> Path:
        """Write a CSV file; names of the header may repeat."""
        path = self.path / name
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([header, *records])
        return path

    def parquet(self, name: str, table: pa.Table | Sequence[Row], group: int | None = None) -> Path:
        """Write a Parquet file with row groups of `group` rows."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = table if isinstance(table, pa.Table) else pa.Table.from_pylist(list(table))
        pq.write_table(table, path, row_group_size=group)
        return path

    def model(self, name: str) -> Path:
        """Copy the organism, for changing the copy."""
        path = self.path / name
        shutil.copytree(ORGANISM, path)
        return path

    def settings(self, content: str, name: str = "audit.yaml") -> Path:
        """Write settings into the working directory."""
        return self.text(name, content)

    # Running

    def environment(self, **variables: str) -> dict[str, str]:
        """The variables of a process here: no settings but these, and a cache of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AUDIT_")}
        own = {
            "PYTHONPATH": str(ROOT),
            "SUBLIMINAL_AUDIT_CACHE": str(self.path.with_name("cache")),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "PIP_NO_INDEX": "1",
            "HF_HUB_OFFLINE": "1",
        }
        return kept | own | variables

    def audit(
        self,
        *arguments: str | Path,
        folder: Path | None = None,
        wall: float = 120,
        cpu: int = 0,
        memory: int = 0,
        **variables: str,
    ) -> Run:
        """Run a command line in a fork of the server.

        wall, cpu: seconds after which it is stopped. memory: bytes that it may take at most.
        variables: of the environment.
        """
        streams = {name: str(self.path.with_name(name)) for name in ("stdout", "stderr")}
        answer = self.server.ask(
            {
                "arguments": [str(argument) for argument in arguments],
                "folder": str(folder or self.path),
                "environment": self.environment(**variables),
                "wall": wall,
                "cpu": cpu,
                "memory": memory,
                **streams,
            }
        )
        out, err = (Path(streams[name]).read_text(errors="replace") for name in streams)
        return Run(answer["code"], out, err, answer["seconds"], answer["memory"])

    def gate(self, data: str | Path, *arguments: str | Path, **options: Any) -> Run:
        """`audit gate` of a data set under the usual settings."""
        return self.audit("gate", data, *SCAN, *arguments, **options)

    def scan(self, data: str | Path, *arguments: str | Path, **options: Any) -> Run:
        """`audit scan` of a data set under the usual settings."""
        return self.audit("scan", data, *SCAN, *arguments, **options)

    def process(self, *command: str | Path, wall: float = 120, **variables: str) -> Run:
        """Run a process of its own."""
        try:
            done = subprocess.run(
                list(command),
                cwd=self.path,
                env=self.environment(**variables),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=wall,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Run(None, "", "")
        return Run(done.returncode, done.stdout, done.stderr)

    def report(self, rows: Sequence[Row], *options: str) -> dict[str, Any]:
        """The JSON report, as report.json here too, of a scan of rows, which are written to
        data.jsonl. The same scan is made once for all attacks.
        """
        data = self.jsonl("data.jsonl", rows)
        digest = hashlib.sha256(data.read_bytes() + repr(options).encode()).hexdigest()
        kept = self.samples.folder / f"{digest}.json"
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                run = self.scan("data.jsonl", "--output", "json=report.json", *options)
                assert run.code in (0, 1, 3), run.err
                shutil.move(self.path / "report.json", kept)
                shutil.rmtree(self.path / ".audit")
        shutil.copy(kept, self.path / "report.json")
        value: dict[str, Any] = json.loads(kept.read_text())
        return value
