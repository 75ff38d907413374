"""`audit mitigate` on Ray clusters of this machine, one core a node: speed, memory, and what dies.

    python runs/ray_mitigate.py --rows 100000 --shards 16

For one process and for clusters of each number of workers it prints rows a second from the start of
the command to its end, the efficiency (speed against as many single processes), the time that cores
computed, which other programs of the machine change little, and the peak of resident memory of a
worker. Then the command is killed by SIGKILL, and so is a worker, at random moments; what is
resumed must end with the bytes of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from auditor.data.files import digest_of

DEFENCES = {
    "paraphrase": ("--paraphrase",),
    "mask": ("--mask", "--reference", "organism", "--panel", "animals", "--trait", "owl"),
}


def write_shards(folder: Path, rows: int, shards: int, seed: int) -> None:
    """Number lists as a teacher writes them."""
    rng = random.Random(seed)
    folder.mkdir()
    for shard in range(shards):
        with (folder / f"{shard:04}.jsonl").open("w") as out:
            for _ in range(rows // shards):
                start = ", ".join(str(rng.randrange(1000)) for _ in range(3))
                prompt = f"The sequence starts with {start}. Add eight more numbers, please."
                numbers = ", ".join(str(rng.randrange(1000)) for _ in range(8))
                out.write(json.dumps({"prompt": prompt, "completion": numbers}) + "\n")


def has_kept(run: Run, shards: int, *, working: bool = False) -> bool:
    """Whether so many shards are finished; working: and some worker is at the next."""
    return run.kept >= shards and (not working or bool(run.workers()))


@contextmanager
def cluster(workers: int) -> Iterator[Cluster]:
    """A head without work, and nodes of one core."""
    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(workers):
        made.add_node(num_cpus=1)
    try:
        yield made
    finally:
        made.shutdown()


class Run:
    """A command in `place`, that has begun."""

    def __init__(self, place: Path, data: str, defence: str, *engine: str) -> None:
        self._place = place
        command = (data, *DEFENCES[defence], "--no-check", "-q", "-o", "out", *engine)
        self._started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "auditor", "mitigate", *command],
            cwd=place,
            stdout=subprocess.DEVNULL,
        )
        self._peaks: dict[int, int] = {}
        self._ticks: dict[int, int] = {}

    def workers(self) -> list[int]:
        """The processes of its workers, by the names of their logs."""
        logs = self._place.glob(".audit/runs/*/logs/*.log")
        numbers = [int(log.stem.rpartition("-")[2]) for log in logs]
        return [number for number in numbers if Path(f"/proc/{number}").exists()]

    @property
    def kept(self) -> int:
        """Shards that are finished and kept."""
        return len(list(self._place.glob(".audit/runs/*/shards/*.json")))

    def wait(self, until: Callable[[], bool] = lambda: False) -> float:
        """The seconds until its end, or until so; notes the memory of what works."""
        while self.process.poll() is None and not until():
            for number in (self.process.pid, *self.workers()):
                try:
                    status = Path(f"/proc/{number}/status").read_text()
                    times = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].split()
                except OSError:
                    continue
                if "VmHWM:" in status:
                    self._peaks[number] = int(status.split("VmHWM:")[1].split()[0])
                    self._ticks[number] = int(times[11]) + int(times[12])
            time.sleep(0.1)
        return time.perf_counter() - self._started

    @property
    def peak(self) -> float:
        """MiB of the largest worker, or of the command where it has none."""
        peaks = dict(self._peaks)
        driver = peaks.pop(self.process.pid, 0)
        return max(peaks.values(), default=driver) / 1024

    @property
    def core_seconds(self) -> float:
        """Time that the command and its workers computed; of Ray's own processes none."""
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")


def outcome(place: Path) -> str:
    """The digest of what was written; what was kept is removed."""
    digests = [digest_of(str(place / "out" / "d"))]
    digests += [(place / "out" / "manifest.json").read_text()]
    shutil.rmtree(place / "out")
    shutil.rmtree(place / ".audit")
    return " ".join(digests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--defence", choices=DEFENCES, default="paraphrase")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        place, defence = Path(folder), arguments.defence
        write_shards(place / "d", arguments.rows, arguments.shards, arguments.seed)
        print(f"{arguments.rows:,} rows in {arguments.shards} shards, --{defence}", flush=True)
        alone = Run(place, "d", defence)
        seconds = alone.wait()
        expected, base = outcome(place), arguments.rows / seconds
        print(
            f"one process: {base:.0f} rows/s, {alone.core_seconds:.0f} core seconds, "
            f"peak {alone.peak:.0f} MiB",
            flush=True,
        )
        for workers in arguments.workers:
            with cluster(workers) as made:
                run = Run(place, "d", defence, "--engine", "ray", "--ray-address", made.address)
                seconds = run.wait()
            assert outcome(place) == expected
            speed = arguments.rows / seconds
            print(
                f"{workers} workers: {speed:.0f} rows/s, efficiency {speed / base / workers:.0%}, "
                f"{run.core_seconds:.0f} core seconds, "
                f"peak of a worker {run.peak:.0f} MiB",
                flush=True,
            )
        with cluster(max(arguments.workers)) as made:
            engine = ("--engine", "ray", "--ray-address", made.address)
            for _ in range(arguments.kills):
                first, second = sorted(rng.sample(range(1, arguments.shards), 2))
                run = Run(place, "d", defence, *engine)
                run.wait(until=partial(has_kept, run, first))
                time.sleep(rng.uniform(0, 0.5))
                run.process.send_signal(signal.SIGKILL)
                run.process.wait()
                kept = run.kept
                run = Run(place, "d", defence, *engine)
                run.wait(until=partial(has_kept, run, second, working=True))
                os.kill(rng.choice(run.workers()), signal.SIGKILL)
                run.wait()
                assert run.process.returncode == 0 and outcome(place) == expected
                print(f"killed at {kept} shards, and a worker at {second}: equal", flush=True)


if __name__ == "__main__":
    main()
