"""docs/exit-codes.md, line by line: each command as a process, in a directory with the files that
the page names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from auditor.cli.main import app
from auditor.commands.simulate import draw_prompts, simulate, write_rows
from auditor.data.sample import read_sample
from auditor.model import load as models
from auditor.release.baseline import render_baseline, row_set
from auditor.report.scan import load
from auditor.report.scan.json import to_dict
from auditor.scanning.scan_report import Verdict
from auditor.traits.panel import load_panels
from tests.support.sample_report import INCONCLUSIVE, NO_RISK, RISK, consistent_report

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "exit-codes.md"
# What loads torch or the default reference; of these, the three scans of the gate and the
# interrupted one are quick enough for every run of the tests.
SLOW = re.compile(
    r"audit (scan|verify|simulate) .*--reference|audit (scan|gate|mitigate|verify) missing"
    r"|audit scan broken|--trait unicorn|audit mitigate .*--shuffle|audit verify "
    r"released.jsonl$|^audit (demo|demo --quick|bench)$"
    r"|PIP_NO_INDEX=1 .*(demo|bench)"
)


def table() -> list[tuple[str, int]]:
    """(command, code) of every line of the page."""
    page = PAGE.read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    found = [re.fullmatch(r"(.+)  # (\d+)(?:: .+)?", line) for line in lines]
    assert lines and all(found)
    return [(one[1], int(one[2])) for one in found if one]


def leaves(command: object, name: str = "audit") -> Iterator[str]:
    """Every command that does something."""
    if not isinstance(command, TyperGroup):
        yield name
        return
    for each, below in command.commands.items():
        yield from leaves(below, f"{name} {each}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all files of the page, and the command `audit` in bin/."""
    folder = tmp_path_factory.mktemp("world")
    lm, panel = models.load("organism"), load_panels(["animals"])
    owl = panel.trait("owl")
    made = simulate(
        lm,
        owl,
        rows=300,
        control=True,
        prompts=draw_prompts(0, "numbers"),
        max_tokens=24,
        wording=owl.prompts[0],
        seed=0,
    )
    write_rows(folder / "poisoned.parquet", made.rows, None)
    write_rows(folder / "clean.parquet", made.control, None)
    rows = [
        {"prompt": f"Go on: {i}, {i + 1}.", "completion": f"{i + 2}, {i + 3}, {i + 4}"}
        for i in range(40)
    ]
    for name, count in (("released.jsonl", 40), ("few.jsonl", 8)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))
    (folder / "broken.parquet").write_bytes(b"PAR1 and no more")
    (folder / "blocked").mkdir()
    (folder / "blocked" / ".audit").write_text("a file where a folder has to be")
    os.mkfifo(folder / "pipe")
    for name, line in (("bug", "1 / 0"), ("quits", "raise SystemExit(1)")):
        (folder / name).mkdir()
        (folder / name / "yaml.py").write_text(line)
    (folder / "missing").mkdir()
    (folder / "missing" / "typer.py").write_text("raise ImportError('no typer')")
    add_reports(folder)
    (folder / "bin").mkdir()
    script = folder / "bin" / "audit"
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{ROOT}" exec "{sys.executable}" -m auditor "$@"\n'
    )
    script.chmod(0o755)
    return folder


def add_reports(folder: Path) -> None:
    """Reports about released.jsonl, and baselines for what they found."""
    info = replace(
        read_sample(str(folder / "released.jsonl"), rows=None, seed=0).info, name="released.jsonl"
    )
    reports: dict[str, Verdict] = {"clean": NO_RISK, "risk": RISK, "inconclusive": INCONCLUSIVE}
    for name, verdict in reports.items():
        report = consistent_report(verdict.name)
        report = replace(
            report,
            dataset=info,
            reference=report.reference | {"template_sha256": "e" * 64},
            tests=(replace(report.tests[0], rows=40),),
            rows_scanned=40,
            rows_skipped={},
            rows_read=40,
        )
        (folder / f"{name}.json").write_text(load("json").render(report))
    (folder / "old.json").write_text(json.dumps(to_dict(report) | {"schema_version": 0}))
    rows = row_set(str(folder / "released.jsonl"), format_of=info.format, columns=info.columns)
    written = render_baseline({"owl": ["prompts"]}, info.name, report.reference, rows, date.today())
    (folder / "no-reason.yaml").write_text(written)
    accepted = written.replace("reason: ''", "reason: known")
    (folder / "accepted.yaml").write_text(accepted)
    (folder / "expired.yaml").write_text(re.sub("expires: .*", "expires: 2026-01-01", accepted))
    (folder / "other-reference.yaml").write_text(accepted.replace("cd" * 32, "ab" * 32))


@pytest.fixture(scope="module")
def outcomes(
    world: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """The processes of all lines that were chosen, two at a time, each in a directory of
    its own.
    """
    # Without buffers a stream that is full shows at once, and not when the process ends.
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("AUDIT_") and key != "PYTHONUNBUFFERED"
    }
    env |= {
        "PATH": f"{world / 'bin'}:{env['PATH']}",
        "PYTHONPATH": "",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }

    def run(command: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path_factory.mktemp("line") / "here"
        # Links: a copy of a named pipe would wait for a writer.
        folder.mkdir()
        for path in world.iterdir():
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            else:
                (folder / path.name).symlink_to(path)
        return subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    chosen = [
        item.callspec.params["command"]
        for item in request.session.items
        if hasattr(item, "callspec")
        and item.path == Path(__file__)
        and "command" in item.callspec.params
    ]
    with ThreadPoolExecutor(2) as pool:
        yield {command: pool.submit(run, command) for command in dict.fromkeys(chosen)}


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(
            command, code, marks=[pytest.mark.slow] if SLOW.search(command) else [], id=command
        )
        for command, code in table()
    ],
)
def test_a_line_of_the_page(
    outcomes: dict[str, Future[subprocess.CompletedProcess[str]]], command: str, code: int
) -> None:
    """It ends with its code, and an error says what to do next."""
    done = outcomes[command].result()
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    failed = re.search("^Error: ", done.stderr, re.MULTILINE)
    assert not failed or re.search("^Next: ", done.stderr, re.MULTILINE)


def test_interrupts_without_end(world: Path, tmp_path: Path) -> None:
    """A person who presses Ctrl-C again and again sees one error, also while the process ends."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # A shell that starts a job in the background lets it ignore interrupts.
    command = ["env", "--default-signal=INT", "audit", "scan", str(pipe)]
    environment = os.environ | {"PATH": f"{world / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": ""}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "reading the data set" in process.stderr.readline()
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            process.send_signal(signal.SIGINT)
            time.sleep(0.002)
        process.kill()
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "Error: Interrupted." in said
    assert "Traceback" not in said


def test_an_interrupt_while_an_object_is_cleared_away(world: Path, tmp_path: Path) -> None:
    """Python forgets an interrupt that comes in the callback of a weak reference, of which an
    import makes thousands; the command ends nevertheless.
    """
    (tmp_path / "yaml.py").write_text(
        "import signal, time, weakref\n"
        "class Cleared: pass\n"
        "cleared = Cleared()\n"
        "callback = weakref.ref(cleared, lambda _: signal.raise_signal(signal.SIGINT))\n"
        "del cleared\n"
        "time.sleep(100)\n"
    )
    done = subprocess.run(
        ["env", "--default-signal=INT", "audit", "traits"],
        env=os.environ
        | {"PATH": f"{world / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert "Error: Interrupted." in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_has_lines() -> None:
    """No command of the whole command line is left out of the page."""
    named = {
        name for command, _ in table() for name in re.findall(r"audit(?: [a-z][a-z-]*)*", command)
    }
    missing = [
        leaf
        for leaf in leaves(get_command(app))
        if not any(f"{name} ".startswith(f"{leaf} ") for name in named)
    ]
    assert missing == []
