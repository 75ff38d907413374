"""`audit mitigate` on a real Ray cluster of two nodes, each a core of this machine."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.cli.main import run
from auditor.commands.scan import scan
from auditor.commands.simulate import draw_prompts, simulate, write_rows
from auditor.engine.cluster import RayEngine
from auditor.engine.local import LocalEngine
from auditor.model import load as models
from auditor.report.scan.json import to_dict
from auditor.scanning.settings import ScanSettings
from auditor.students.settings import StudentSettings
from auditor.study.run import study
from auditor.traits.panel import load_panels
from tests.cli.test_verify import FAST, Audit, audit, model

ray: Any = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
__all__ = ["audit", "model"]  # fixtures
pytestmark = pytest.mark.ray

REWORD = ("--paraphrase", "--paraphrases", "2")
COUNTS = (20, 15, 10, 1)  # of the rows of a shard
SHARDS = 14
SCORE = ("--reference", "organism", "--panel", "animals", "--trait", "owl")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a second node."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def rows(count: int, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    return [
        {
            "prompt": f"Write numbers that go on from {rng.randrange(999)}, please.",
            "completion": ", ".join(str(rng.randrange(999)) for _ in range(4)),
        }
        for _ in range(count)
    ]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of four shards in two formats, of which the first has a line that is no row; beside
    it, files that a worker must not import.
    """
    monkeypatch.chdir(tmp_path)
    Path("d").mkdir()
    for number, count in enumerate(COUNTS):
        shard = rows(count, number)
        if number % 2:
            pq.write_table(pa.Table.from_pylist(shard), f"d/{number}.parquet")
        else:
            lines = [*(["broken"] if number == 0 else []), *map(json.dumps, shard)]
            Path(f"d/{number}.jsonl").write_text("\n".join(lines) + "\n")
    for module in ("pyarrow", "sqlite3", "torch"):
        Path(f"{module}.py").write_text("open('/'.join([__file__, '..', 'imported']), 'w')\n")
    return "d"


def mitigate(*arguments: str, code: int = 0) -> None:
    assert run(["mitigate", "--no-check", *arguments]) == code


def on_ray(cluster: Any, *arguments: str) -> tuple[str, ...]:
    return (*arguments, "--engine", "ray", "--ray-address", cluster.address)


def files_in(folder: str) -> dict[str, bytes]:
    """The files of an output, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def test_both_engines_write_the_same_bytes(
    cluster: Any, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all that a mitigation may need: rewordings, clean rows of a file and of the reference, a
    budget over all rows, the most divergent rows, files for trainers.
    """
    clean = [row | {"completion": "1, 2, 3"} for n, c in enumerate(COUNTS) for row in rows(c, n)]
    Path("clean.jsonl").write_text("\n".join(map(json.dumps, clean)))
    commands = [
        ("d", *REWORD, *SCORE, "--mix", "0.3", "--mix-mode", "add", "--clean-data", "clean.jsonl",
         "--mask", "--mask-budget", "0.05", "--emit", "trl", "--emit", "axolotl", "--emit", "chat"),
        ("d", *SCORE, "--drop", "0.1", "--mix", "0.1", "--replace"),
    ]  # fmt: skip
    for number, command in enumerate(commands):
        mitigate(*command, "-o", f"local{number}")
        mitigate(*on_ray(cluster, *command, "-o", f"ray{number}"))
        assert files_in(f"ray{number}") == files_in(f"local{number}")
    shown = capsys.readouterr().err
    assert re.search(r"\d/47 rows \(\d of 4 shards, \d workers\)", shown)
    logs = list(Path(".audit/runs").rglob("logs/*.log"))
    assert len(logs) >= 2 and any("preparing paraphrase" in log.read_text() for log in logs)
    assert not Path("imported").exists()


def test_broken_files_are_left_out_and_named(
    cluster: Any, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the end of a file is missing, or bytes of a column that no defence reads; on one
    machine the first of them ends the run, as it always did.
    """
    mitigate("d", *REWORD, "-o", "expected")
    table = pa.table({"prompt": ["p 1"], "completion": ["c 2"], "note": ["n" * 5000]})
    pq.write_table(table, "d/1b.parquet", compression="NONE", use_dictionary=False)
    whole = Path("d/1b.parquet").read_bytes()
    Path("d/1a.parquet").write_bytes(whole[:300])
    start = pq.read_metadata("d/1b.parquet").row_group(0).column(2).data_page_offset
    Path("d/1b.parquet").write_bytes(whole[:start] + b"\xff" * 8 + whole[start + 8 :])
    mitigate("d", *REWORD, "-o", "local", code=2)
    assert "d/1a.parquet is damaged" in capsys.readouterr().err
    mitigate(*on_ray(cluster, "d", *REWORD, "-o", "out"), code=3)
    shown = capsys.readouterr()
    assert "2 of the files could not be read" in shown.err
    origin = json.loads(Path("out/manifest.json").read_text())["input"]
    assert [shard["name"] for shard in origin["broken_shards"]] == ["1a.parquet", "1b.parquet"]
    sizes = {path.name: path.stat().st_size for path in Path("d").iterdir()}
    assert origin["broken_shards"][0]["share"] == sizes["1a.parquet"] / sum(sizes.values())
    assert "Left out: file 1a.parquet (" in shown.out and origin["rows"] == 47
    expected = {name: text for name, text in files_in("expected").items() if name[:2] == "d/"}
    assert {name: text for name, text in files_in("out").items() if name[:2] == "d/"} == expected
    mitigate(*on_ray(cluster, "d", *REWORD, "-o", "out"), code=3)  # found finished, and said again


def test_students_of_both_engines_are_the_same(cluster: Any, audit: Audit) -> None:
    """The report of `audit verify` field by field, but for when it was made; those that were
    trained are not trained again.
    """
    command = ("original.jsonl", "masked/data.jsonl", "--control", "clean.jsonl", *FAST)
    reports = []
    for name, engine in (("local", ()), ("ray", (*on_ray(cluster), "--fresh"))):
        # No transfer is shown by two blocks.
        assert audit(*command, "--blocks", "2", *engine, "--output", f"json={name}.json") == 3
        reports.append(json.loads(Path(f"{name}.json").read_text()))
    assert reports[0]["arms"] and reports[0] | {"created": ""} == reports[1] | {"created": ""}
    logs = len(list(Path(".audit/runs").rglob("logs/*.log")))
    assert logs == 2
    assert audit(*command, "--blocks", "2", *on_ray(cluster)) == 3
    assert len(list(Path(".audit/runs").rglob("units/block*"))) == 8


def test_scans_of_both_engines_are_the_same(cluster: Any, tmp_path: Path) -> None:
    """The report of `audit scan` field by field, but for times; the workers score."""
    lm = models.load("organism")
    owl = load_panels(["animals"]).trait("owl")
    made = simulate(lm, owl, rows=96, prompts=draw_prompts(0, "numbers"), max_tokens=24)
    write_rows(tmp_path / "owl.parquet", made.rows, None)
    settings = ScanSettings(reference="organism", panels=("animals",), rows=96)
    reports = []
    for engine in (LocalEngine(), RayEngine(cluster.address)):
        report = scan(tmp_path / "owl.parquet", settings, root=tmp_path, engine=engine, fresh=True)
        reports.append(to_dict(report) | {"created": "", "timing": {}})
    assert reports[0]["traits"] and reports[0] == reports[1]
    assert len(list(tmp_path.rglob("logs/*.log"))) == 2


def test_studies_of_both_engines_are_the_same(cluster: Any, tmp_path: Path) -> None:
    """The values of `audit study` but for when it was made; the workers train."""
    small: dict[str, Any] = {"blocks": 2, "rows": 32, "updates": 2}
    settings = StudentSettings(reference="organism", panels=("animals",), **small)
    values = []
    for name, engine in (("here", LocalEngine()), ("ray", RayEngine(cluster.address))):
        root = tmp_path / name
        root.mkdir()
        report = study(("leakage",), settings, traits=["owl"], root=root, engine=engine)
        values.append(report.values | {"created": ""})
    assert values[0] == values[1]
    assert len(list(tmp_path.rglob("logs/*.log"))) >= 2


def many_shards() -> tuple[str, ...]:
    """The arguments of a run of some seconds."""
    Path("m").mkdir()
    for number in range(SHARDS):
        Path(f"m/{number:02}.jsonl").write_text(
            "\n".join(map(json.dumps, rows(600, number))) + "\n"
        )
    return ("m", "--paraphrase", "--paraphrases", "3")


def when(condition: Callable[[], bool], do: Callable[[], None]) -> threading.Thread:
    """Do something once, as soon as the condition holds."""

    def wait() -> None:
        while not condition():
            time.sleep(0.05)
        do()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def finished() -> int:
    return len(list(Path(".audit/runs").glob("*/shards/*.json")))


def workers() -> list[int]:
    """The processes of workers that are alive, by their logs."""
    numbers = [int(log.stem.rpartition("-")[2]) for log in Path(".audit").rglob("logs/*.log")]
    return [number for number in numbers if Path(f"/proc/{number}").exists()]


def test_what_dies_changes_no_byte(cluster: Any, data: str) -> None:
    """Ctrl-C ends the job and its workers; kill -9 of the command leaves them to Ray. What is
    finished is not done again. Then a worker is killed, and a node removed.
    """
    command = many_shards()
    mitigate(*command, "-o", "local")
    arguments = on_ray(cluster, "mitigate", "--no-check", *command, "-o", "ray")
    for sent, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        before = finished()
        driver = subprocess.Popen(
            [sys.executable, "-m", "auditor", *arguments],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=subprocess.PIPE,
        )
        when(lambda b=before: finished() > b, lambda d=driver, s=sent: d.send_signal(s))
        _, shown = driver.communicate(timeout=60)
        assert driver.returncode == code, shown.decode()
        deadline = time.monotonic() + 20
        while workers() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not workers()
        assert before < finished() < SHARDS
    before, node = finished(), cluster.add_node(num_cpus=1)
    kill = when(lambda: finished() > before, lambda: os.kill(workers()[0], signal.SIGKILL))
    remove = when(lambda: finished() > before + 2, lambda: cluster.remove_node(node))
    mitigate(*arguments[2:])
    assert not kill.is_alive() and not remove.is_alive()
    assert files_in("ray") == files_in("local")


def test_no_cluster_at_the_address(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the next step."""
    mitigate("d", *REWORD, "--engine", "ray", "--ray-address", "127.0.0.1:1", code=2)
    assert "No Ray cluster answers at 127.0.0.1:1" in capsys.readouterr().err
