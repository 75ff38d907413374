"""A run directory survives kills, damage, a full disk and a second process."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.errors import RunError
from auditor.runs import run_directory as rundir
from auditor.runs.run_directory import (
    RunDir,
    Section,
    installed_versions,
    last_run,
    run_key,
    set_last,
    write_file,
)

ROOT = Path(__file__).parents[2]

IDENTITY = {"dataset": "ab" * 32, "settings": {"seed": 0, "alpha": 0.01}, "version": "0.1.0"}


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs `code`."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_key_is_hash_of_canonical_json() -> None:
    """The key depends on what the identity says, not on the order in which it says it."""
    turned = {key: IDENTITY[key] for key in reversed(IDENTITY)}
    assert run_key(turned) == run_key(IDENTITY)
    assert run_key(IDENTITY | {"version": "0.1.1"}) != run_key(IDENTITY)
    # printf '{"a":1}' | sha256sum
    assert run_key({"a": 1}) == "015abd7f5cc57a2d"


def test_open_writes_identity_and_versions(tmp_path: Path) -> None:
    """settings.json says what the run is and what it ran with."""
    with RunDir.open(tmp_path, IDENTITY) as run:
        settings = json.loads((run.path / "settings.json").read_text())
    assert run.path == tmp_path / ".audit" / "runs" / run_key(IDENTITY)
    assert settings["identity"] == IDENTITY
    assert settings["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize("name", ["plain", "trait/owl/0003", "..", "a b%2F?*"])
def test_unit_round_trip(tmp_path: Path, name: str) -> None:
    """A unit comes back as it was saved, in a later process too, whatever its name."""
    arrays = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.zeros((0, 4)),
        "rows": np.array([3, 1]),
    }
    with RunDir.open(tmp_path, IDENTITY) as run:
        run.save_unit(name, arrays)
        assert [path.parent for path in run.path.rglob("*.npz")] == [run.path / "units"]
    with RunDir.open(tmp_path, IDENTITY) as run:
        loaded = run.load_unit(name)
    assert loaded is not None
    assert loaded.keys() == arrays.keys()
    for key, array in arrays.items():
        assert loaded[key].dtype == array.dtype
        np.testing.assert_array_equal(loaded[key], array)


def test_missing_unit_is_none(tmp_path: Path) -> None:
    """What has not been done yet is absent, not an error."""
    with RunDir.open(tmp_path, IDENTITY) as run:
        assert run.load_unit("nothing") is None
        assert run.report() is None


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    """An array that could only be kept as a pickle is refused when saved, and leaves no file."""
    with RunDir.open(tmp_path, IDENTITY) as run:
        with pytest.raises(ValueError, match="array of objects"):
            run.save_unit("bad", {"x": np.array([{}], dtype=object)})
        assert not [*run.path.glob("units/*")]


def test_damaged_unit_is_as_if_absent(tmp_path: Path) -> None:
    """A unit cut short or with any one byte changed gives its own arrays or None, never other
    numbers or an error.
    """
    array = np.array([1.5, -2.0])
    with RunDir.open(tmp_path, IDENTITY) as run:
        run.save_unit("unit", {"x": array})
        path = run.path / "units" / "unit.npz"
        whole = path.read_bytes()
        outcomes = set()
        for place in range(len(whole)):
            for damaged in (
                whole[:place],
                whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :],
            ):
                path.write_bytes(damaged)
                loaded = run.load_unit("unit")
                outcomes.add(loaded is None)
                if loaded is not None:
                    assert loaded.keys() == {"x"}
                    np.testing.assert_array_equal(loaded["x"], array)
        assert True in outcomes


def test_what_another_machine_kept_is_as_if_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Units, report, settings and the note of the last run count only with this machine's own
    signature, in the run and under the name that they were signed for.
    """
    # A command that ran before in this process may have taken the records to itself.
    monkeypatch.setattr(logging.getLogger("auditor"), "propagate", True)
    caplog.set_level("INFO", logger="auditor")

    def keep(root: Path, identity: dict[str, Any]) -> RunDir:
        with RunDir.open(root, identity) as run:
            run.save_unit("unit", {"x": np.ones(1)})
            run.save_unit("other", {"x": np.zeros(1)})
            run.finish({"verdict": "no_risk"})
            set_last(root, run.path, "d.parquet")
        return run

    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path / "theirs"))
    path = keep(tmp_path, IDENTITY).path
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path / "ours"))
    with RunDir.open(tmp_path, IDENTITY) as run:
        assert run.load_unit("unit") is None
        assert run.report() is None
        with pytest.raises(RunError, match="no scan here"):
            last_run(tmp_path)
    assert "not signed by this machine" in caplog.text
    assert keep(tmp_path, IDENTITY).report() == {"verdict": "no_risk"}
    assert last_run(tmp_path) == path
    # What this machine has signed for another unit, or another run.
    shutil.copy(path / "units" / "other.npz", path / "units" / "unit.npz")
    assert RunDir(path, None).load_unit("unit") is None
    second = keep(tmp_path, IDENTITY | {"version": "2"})
    for name in ("units/unit.npz", "report.json", "report.json.hmac"):
        shutil.copy(path / name, second.path / name)
    assert second.load_unit("unit") is None
    assert second.report() is None


def test_a_unit_is_a_plain_archive_too(tmp_path: Path) -> None:
    """Its signature is in the comment of the zip file, which numpy passes over."""
    with RunDir.open(tmp_path, IDENTITY) as run:
        run.save_unit("unit", {"x": np.arange(3)})
        assert np.load(run.path / "units" / "unit.npz")["x"].tolist() == [0, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
@pytest.mark.parametrize(
    "name",
    [".audit", ".audit/runs", "RUN", "RUN/units", "RUN/lock", "RUN/report.json", "RUN/x.txt"],
)
def test_links_in_the_run_directory_are_not_followed(tmp_path: Path, name: str) -> None:
    """A link that came with a checkout is an error or is replaced; what it leads to stays."""
    target = tmp_path / "target"
    if name.endswith((".json", ".txt", "lock")):
        target.write_text("precious")
    else:
        target.mkdir()
    key = run_key(IDENTITY)
    link = tmp_path / name.replace("RUN", f".audit/runs/{key}")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    if name.endswith((".json", ".txt")):
        with RunDir.open(tmp_path, IDENTITY) as run:
            assert run.report() is None
            run.finish({"a": 1})
            run.write_text("x.txt", "text")
        assert target.read_text() == "precious"
        assert not link.is_symlink()
    else:
        with pytest.raises(RunError, match="is a link"):
            RunDir.open(tmp_path, IDENTITY)
        assert target.read_text() == "precious" if target.is_file() else not list(target.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_the_note_of_the_last_scan_replaces_a_link(tmp_path: Path) -> None:
    """What the link leads to is neither read nor written."""
    (tmp_path / "keys").write_text("precious")
    with RunDir.open(tmp_path, IDENTITY) as run:
        for name in ("last", "last.hmac"):
            (tmp_path / ".audit" / name).symlink_to("../keys")
        with pytest.raises(RunError, match="no scan here"):
            last_run(tmp_path)
        set_last(tmp_path, run.path, "d.parquet")
    assert last_run(tmp_path) == run.path
    assert (tmp_path / "keys").read_text() == "precious"


def test_finish_and_report(tmp_path: Path) -> None:
    """A finished run gives its report back; a damaged report counts as unfinished."""
    with RunDir.open(tmp_path, IDENTITY) as run:
        run.finish({"verdict": "no_risk"})
    with RunDir.open(tmp_path, IDENTITY) as run:
        assert run.report() == {"verdict": "no_risk"}
        (run.path / "report.json").write_text('{"verdict": ')
        assert run.report() is None


def test_report_refuses_nan(tmp_path: Path) -> None:
    """A NaN never reaches a report, and the refused report leaves the earlier one in place."""
    with RunDir.open(tmp_path, IDENTITY) as run:
        run.finish({"risk": 0.5})
        with pytest.raises(ValueError, match="JSON compliant"):
            run.finish({"risk": float("nan")})
        assert run.report() == {"risk": 0.5}


def test_fresh_forgets_finished_work(tmp_path: Path) -> None:
    """A fresh start finds neither units nor report."""
    with RunDir.open(tmp_path, IDENTITY) as run:
        run.save_unit("unit", {"x": np.ones(1)})
        run.finish({})
    with RunDir.open(tmp_path, IDENTITY, fresh=True) as run:
        assert run.load_unit("unit") is None
        assert run.report() is None


def test_table_and_text(tmp_path: Path) -> None:
    """Tables are Parquet, text is UTF-8."""
    table = pa.table({"row": [0, 1], "score": [0.5, None]})
    with RunDir.open(tmp_path, IDENTITY) as run:
        run.write_table("rows.parquet", table)
        run.write_text("note.txt", "Eule é")
        assert pq.read_table(run.path / "rows.parquet").equals(table)
        assert (run.path / "note.txt").read_bytes() == "Eule é".encode()


def test_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    """Two processes do not work on one run; a killed one does not keep it locked."""
    holder = child(
        """
        import json, sys, time
        from pathlib import Path
        from auditor.runs.run_directory import RunDir
        run = RunDir.open(Path(sys.argv[1]), json.loads(sys.argv[2]))
        print("open", flush=True)
        time.sleep(60)
        """,
        str(tmp_path),
        json.dumps(IDENTITY),
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(RunError, match="Another process"):
            RunDir.open(tmp_path, IDENTITY)
        RunDir.open(tmp_path, IDENTITY | {"version": "other"}).close()
    finally:
        holder.kill()
        holder.communicate()
    RunDir.open(tmp_path, IDENTITY).close()


def test_kill_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A process killed again and again in a loop of writes leaves only whole files, and leftovers
    are cleared away.
    """
    code = """
        import json, sys
        from pathlib import Path
        import numpy as np
        from auditor.runs.run_directory import RunDir
        with RunDir.open(Path(sys.argv[1]), json.loads(sys.argv[2])) as run:
            print("open", flush=True)
            number = 0
            while True:
                number += 1
                run.save_unit(f"unit{number % 5}", {"x": np.full(50_000, number)})
                run.finish({"numbers": [number] * 5_000})
        """
    for attempt in range(4):
        writer = child(code, str(tmp_path), json.dumps(IDENTITY))
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        time.sleep(0.15 + 0.013 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        with RunDir.open(tmp_path, IDENTITY) as run:
            units = [path.stem for path in (run.path / "units").iterdir()]
            assert units
            for name in units:
                loaded = run.load_unit(name)
                assert loaded is not None
                assert loaded["x"].shape == (50_000,)
                assert len(set(loaded["x"].tolist())) == 1
            report = run.path / "report.json"
            if report.exists():
                numbers = json.loads(report.read_text())["numbers"]
                assert len(numbers) == 5_000
                assert len(set(numbers)) == 1
            assert not list(run.path.rglob("*.partial"))


def test_open_clears_what_a_kill_left(tmp_path: Path) -> None:
    """A temporary file of a killed process goes away when the run is opened again."""
    with RunDir.open(tmp_path, IDENTITY) as run:
        run.save_unit("unit", {"x": np.ones(1)})
        leftover = run.path / "units" / ".other.npz.123.partial"
        leftover.write_bytes(b"PK")
    RunDir.open(tmp_path, IDENTITY).close()
    assert not leftover.exists()


def test_full_disk_is_one_error_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full the caller gets a RunError of one line; the old file stays and no
    leftover does.
    """
    path = tmp_path / "report.json"
    write_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(rundir.os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device") as caught:
        write_file(path, b"new")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="needs links, pipes and devices")
def test_links_and_pipes_are_written_through(tmp_path: Path) -> None:
    """What a link points to is replaced and the link stays; a device stays one, and a pipe's reader
    gets it all.
    """
    (tmp_path / "link").symlink_to("old")
    (tmp_path / "old").write_bytes(b"old")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "old").read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        write_file(tmp_path / "pipe", b"new")
        assert read.result() == b"new"
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_write_cut_off_by_the_system(tmp_path: Path) -> None:
    """A write that the system itself cuts off half-way (a limit on file size) leaves no file and
    raises RunError.
    """
    writer = child(
        """
        import json, resource, sys
        from pathlib import Path
        import numpy as np
        from auditor.errors import RunError
        from auditor.runs.run_directory import RunDir
        with RunDir.open(Path(sys.argv[1]), json.loads(sys.argv[2])) as run:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            try:
                run.save_unit("big", {"x": np.zeros(100_000)})
            except RunError as error:
                print(error.message)
            print(run.load_unit("big"), [path.name for path in (run.path / "units").iterdir()])
        """,
        str(tmp_path),
        json.dumps(IDENTITY),
    )
    output, errors = writer.communicate(timeout=60)
    assert writer.returncode == 0, errors
    assert "Cannot write" in output
    assert "File too large" in output
    assert output.splitlines()[-1] == "None []"


def test_unusable_place(tmp_path: Path) -> None:
    """A file where the directory should be is reported as a RunError."""
    (tmp_path / ".audit").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write"):
        RunDir.open(tmp_path, IDENTITY)


def test_last_run(tmp_path: Path) -> None:
    """Later commands find the last run, also after the whole directory was moved; without one they
    say what to do.
    """
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    with pytest.raises(RunError, match="audit scan DATASET"):
        last_run(before)
    with RunDir.open(before, IDENTITY) as run:
        set_last(before, run.path, "dataset.parquet")
    assert last_run(before) == run.path
    assert json.loads((before / ".audit" / "last").read_text())["dataset"] == "dataset.parquet"
    before.rename(after)
    assert last_run(after).name == run_key(IDENTITY)
    with pytest.raises(RunError):
        last_run(before)


def test_sections_keep_units_apart(tmp_path: Path) -> None:
    """Units of the same name in two sections of a run are two units, and neither is one of the
    run's own.
    """
    with RunDir.open(tmp_path, {"verb": "study"}) as run:
        owl, cat = Section(run, "owl greedy"), Section(run, "cat greedy")
        owl.save_unit("block 0", {"x": np.array(1)})
        cat.save_unit("block 0", {"x": np.array(2)})
        found = [section.load_unit("block 0") for section in (owl, cat)]
        assert [int(unit["x"]) for unit in found if unit is not None] == [1, 2]
        assert run.load_unit("block 0") is None


def test_other_code_is_another_run(tmp_path: Path) -> None:
    """One byte of one source file changes the digest that every run is keyed by, in
    whatever checkout.
    """
    for package in ("auditor", "detectors", "mitigations"):
        shutil.copytree(ROOT / package, tmp_path / package)
    code = "from auditor.runs.run_directory import installed_versions as v; print(v()['code'])"

    def digest() -> str:
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    before = digest()
    assert before == installed_versions()["code"]
    with (tmp_path / "detectors" / "trait.py").open("a") as source:
        source.write("# another line\n")
    assert digest() != before
