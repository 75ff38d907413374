"""The parts of a data set: what an interrupted run has finished is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.commands.mitigate import mitigate
from auditor.engine.interface import Tell
from auditor.errors import RunError
from auditor.mitigating import shard
from auditor.mitigating.record import Part
from auditor.mitigating.shard import ShardTask, ShardWorker, open_worker
from auditor.runs import run_directory
from mitigations import step

ROWS = 5


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three shards."""
    monkeypatch.chdir(tmp_path)
    Path("d").mkdir()
    for number in range(3):
        lines = [
            json.dumps({"prompt": f"Write a list of {number} and {i}.", "completion": f"{i}, 7"})
            for i in range(ROWS)
        ]
        Path(f"d/{number}.jsonl").write_text("\n".join(lines) + "\n")
    return Path("d")


def run(data: Path, output: str) -> dict[str, bytes]:
    """The files of a mitigated data set, by name."""
    steps = [step("paraphrase", variants=2), step("shuffle")]
    folder = mitigate(str(data), steps, output=Path(output)).folder
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_finished_shards_are_not_done_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interrupt in the third one; the first, of which a byte was lost since, is."""
    expected = run(data, "whole")
    assert json.loads(expected["manifest.json"])["output"]["shards"][1]["rows"] == 2 * ROWS
    # The output is known by the run, which is made anew.
    write, done, stops = ShardWorker.write, list[int](), [2 * ROWS]

    def note(worker: ShardWorker, task: ShardTask, tell: Tell) -> Part:
        if task.shard.first in stops:
            raise KeyboardInterrupt
        done.append(task.shard.first)
        return write(worker, task, tell)

    monkeypatch.setattr(ShardWorker, "write", note)
    with pytest.raises(KeyboardInterrupt):
        run(data, "again")
    assert done == [0, ROWS] and not Path("again").exists()
    (first, *_), stops[:] = sorted(Path().rglob("sources.npy"), key=lambda p: p.stat().st_ino), []
    kept = json.loads(next(Path().rglob("shards/*.json")).read_text())
    assert kept["sha256"].keys() == {"data", "masked.jsonl", "set_aside.parquet", "sources.npy"}
    (first.parent / "data").write_bytes(b"")
    assert run(data, "again") == expected
    assert len(done) == 4 and done[3] == 2 * ROWS
    assert not list(Path().rglob("shards")), "parts are kept until all is in its place only"


def test_a_planted_link_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that somebody else wrote do not become a part of the output."""
    folders: list[Path] = []

    def note(worker: ShardWorker, task: ShardTask, tell: Tell) -> Part:
        folders.append(shard.part_folder(worker._run, worker._job, task.shard))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ShardWorker, "write", note)
        with pytest.raises(KeyboardInterrupt):
            run(data, "out")
    Path("planted").mkdir()
    folders[0].parent.mkdir(exist_ok=True)
    folders[0].symlink_to(Path("planted").resolve())
    with pytest.raises(RunError, match="is a link"):
        run(data, "out")


def test_a_worker_of_another_version_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes must not depend on the node."""
    jobs: list[Any] = []
    monkeypatch.setattr("auditor.commands.mitigate.open_worker", lambda job: jobs.append(job))
    with pytest.raises(TypeError):
        run(data, "out")
    with open_worker(jobs[0]):
        pass
    versions = run_directory.installed_versions() | {"torch": "0"}
    monkeypatch.setattr(run_directory, "installed_versions", lambda: versions)
    with pytest.raises(RunError, match="other versions of torch"), open_worker(jobs[0]):
        pass
