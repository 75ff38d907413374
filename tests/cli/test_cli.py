"""The command line: arguments, where each thing is printed, and the exit codes."""

from __future__ import annotations

import errno
import io
import json
import re
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from auditor import __version__
from auditor.cli import main
from auditor.cli.bench import budget
from auditor.cli.parsing import Target, parse_columns, parse_rows, parse_targets
from auditor.cli.progress import Plain, line
from auditor.engine.local import LocalEngine
from auditor.errors import AuditError, InputError, ModelError, RunError
from auditor.progress import Progress
from auditor.report.scan.json import from_dict
from auditor.scanning.scan_report import ScanReport, Verdict
from auditor.scanning.settings import ScanSettings
from auditor.traits.panel import load_panels
from tests.support.sample_report import INCONCLUSIVE, NO_RISK, RISK, hostile_report, sample_report

Calls = list[dict[str, Any]]


class Verb:
    """A stand-in for `auditor.commands.scan.scan`: notes its arguments, then does what the test
    says.
    """

    def __init__(self) -> None:
        self.calls: Calls = []
        self.does: Callable[[str], ScanReport] = lambda source: sample_report(RISK)

    def __call__(self, source: str, settings: ScanSettings, **arguments: Any) -> ScanReport:
        self.calls.append({"source": source, **asdict(settings), **arguments})
        arguments["progress"](Progress("scoring", 10, 400))
        return self.does(source)

    def returns(self, verdict: Verdict) -> None:
        self.does = lambda source: sample_report(verdict)

    def raises(self, error: BaseException) -> None:
        def fail(source: str) -> ScanReport:
            raise error

        self.does = fail


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Verb:
    """The fake verb in place of the real one, two known detectors, and an empty working
    directory.
    """
    fake = Verb()
    module, registry = types.ModuleType("auditor.commands.scan"), types.ModuleType("detectors")
    module.scan = fake  # type: ignore[attr-defined]
    registry.DETECTORS = {"trait": None, "tuned": None, "fit": None, "surface": None}  # type: ignore[attr-defined]
    registry.DEFAULT = ("trait", "fit", "surface")  # type: ignore[attr-defined]
    registry.ON_REQUEST = ("tuned", "students")  # type: ignore[attr-defined]
    registry.__path__ = [str(Path(__file__).parents[2] / "detectors")]
    monkeypatch.setitem(sys.modules, "auditor.commands.scan", module)
    monkeypatch.setitem(sys.modules, "detectors", registry)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset.parquet").touch()
    return fake


@pytest.mark.parametrize(("verdict", "code"), [(NO_RISK, 0), (RISK, 1), (INCONCLUSIVE, 3)])
def test_exit_code_follows_the_verdict(verb: Verb, verdict: Verdict, code: int) -> None:
    """Clean is 0, risk 1, and inconclusive never looks like either."""
    verb.returns(verdict)
    assert main.run(["scan", "dataset.parquet"]) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("No file x.", "Check the path."), 2),
        (ModelError("No model x.", "Check the name."), 2),
        (RunError("Disk full.", "Free some space."), 3),
        (OSError(errno.ENOSPC, "No space left on device"), 3),
        (ZeroDivisionError("oops"), 3),
        (MemoryError(), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_code_and_lines_of_errors(
    verb: Verb, capfd: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    """Every error ends as one Error and one Next line on standard error, nothing on standard
    output, and never as 1.
    """
    verb.raises(error)
    assert main.run(["scan", "dataset.parquet"]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-2:]
    assert last[0].startswith("Error: " if code != 130 else "Error: Interrupted.")
    assert last[1].startswith("Next: ")
    assert [each.startswith("Error: ") for each in err.splitlines()].count(True) == 1
    if isinstance(error, AuditError):
        assert last == [f"Error: {error.message}", f"Next: {error.hint}"]


def test_an_interruption_that_a_library_swallows(
    verb: Verb, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while modules are imported may come out as any other error, and is an interruption all
    the same.
    """
    monkeypatch.setattr(main, "INTERRUPT", threading.Event())
    with pytest.raises(KeyboardInterrupt):
        main._interrupt(signal.SIGINT, None)
    verb.raises(RecursionError("maximum recursion depth exceeded"))
    assert main.run(["scan", "dataset.parquet"]) == 130
    assert "Interrupted." in capfd.readouterr().err


def test_debug_shows_the_traceback(
    verb: Verb, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AUDIT_DEBUG=1 an unexpected error shows where it came from."""
    monkeypatch.setenv("AUDIT_DEBUG", "1")
    verb.raises(ZeroDivisionError("oops"))
    assert main.run(["scan", "x"]) == 3
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert "Error: Unexpected ZeroDivisionError: oops" in err


def test_error_text_does_not_act(verb: Verb, capfd: pytest.CaptureFixture[str]) -> None:
    """Text from outside in an error message is escaped and stays on its line."""
    verb.raises(InputError("Column \x1b[31m\u202ex\ny is missing.", "Look."))
    main.run(["scan", "x"])
    assert "Error: Column \\x1b[31m\\u202ex\\ny is missing.\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan"],
        ["nope"],
        ["scan", "x", "--nope"],
        ["scan", "x", "--seed", "one"],
        ["scan", "x", "--seed", "-1"],
        ["scan", "x", "--rows", "0"],
        ["scan", "x", "--rows", "many"],
        ["scan", "x", "--alpha", "0"],
        ["scan", "x", "--alpha", "nan"],
        ["scan", "x", "--columns", "prompt"],
        ["scan", "x", "--detectors", "nope"],
        ["scan", "x", "--without", "trait,fit,surface"],
        ["scan", "x", "--output", "json"],
        ["scan", "x", "--output", "pdf=x.pdf"],
        ["scan", "x", "--output", "json=missing/report.json"],
        ["scan", "x", "--output", "json=."],
        ["scan", "x", "--output", "json=-", "--output", "json=-"],
        ["models", "fetch", "nope"],
    ],
)
def test_usage_errors(verb: Verb, capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """What the user typed wrong is code 2 with a next step, found before any work is done."""
    assert main.run(arguments) == 2
    assert verb.calls == []
    out, err = capfd.readouterr()
    assert out == ""
    assert [each.split(":")[0] for each in err.splitlines()] == ["Error", "Next"]


def test_no_command_shows_help(capfd: pytest.CaptureFixture[str]) -> None:
    """`audit` alone says what there is, and is a usage error."""
    assert main.run([]) == 2
    assert "Audit and defend:" in capfd.readouterr().out


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    """`audit --version` prints it and succeeds."""
    assert main.run(["--version"]) == 0
    assert capfd.readouterr().out == f"audit {__version__}\n"


def test_defaults_reach_the_verb(verb: Verb, tmp_path: Path) -> None:
    """`audit scan dataset.parquet` asks for the default audit of that file in the working
    directory.
    """
    main.run(["scan", "dataset.parquet"])
    (call,) = verb.calls
    del call["progress"]
    assert call == {
        "source": "dataset.parquet",
        "reference": "smollm2-135m",
        "panels": ["default"],
        "traits": (),
        "teacher": None,
        "rows": "auto",
        "seed": 0,
        "detectors": ("trait", "fit", "surface"),
        "format_of": None,
        "columns": {},
        "exclude_open": False,
        "exclude": 0.25,
        "budget": 600.0,
        "alpha": 0.01,
        "device": None,
        "dtype": None,
        "chat_template": None,
        "side": None,
        "hazard": "never",
        "like": [],
        "system": None,
        "score_rows": "needed",
        "origins": {},
        "engine": LocalEngine(),
        "fresh": False,
        "root": tmp_path,
    }


def test_options_reach_the_verb(verb: Verb) -> None:
    """Every option of `audit scan` arrives under its name, also standard input as the data set."""
    given = "--reference r --panel p --panel q.yaml --trait owl --trait cat --teacher t --rows all "
    given += "--seed 7 --without fit --format-of alpaca --columns prompt=a,completion=b "
    given += "--exclude-open --alpha 0.05 "
    given += "--device cuda --dtype bfloat16 --fresh"
    main.run(["scan", "-", *given.split(), "--hypothesis", "You love x."])
    (call,) = verb.calls
    expected = {
        "source": "-",
        "reference": "r",
        "panels": ["p", "q.yaml", "prompt:You love x."],
        "traits": ("owl", "cat"),
        "teacher": "t",
        "rows": "all",
        "seed": 7,
        "detectors": ("trait", "surface"),
        "format_of": "alpaca",
        "columns": {"prompt": "a", "completion": "b"},
        "exclude_open": True,
        "exclude": 0.25,
        "budget": 600.0,
        "alpha": 0.05,
        "device": "cuda",
        "dtype": "bfloat16",
        "fresh": True,
    }
    assert {key: call[key] for key in expected} == expected


def test_detectors_keep_the_order_of_the_registry(verb: Verb) -> None:
    """--detectors names a set: the order of its items changes nothing."""
    main.run(["scan", "x", "--detectors", "surface, trait"])
    assert verb.calls[0]["detectors"] == ("trait", "surface")
    main.run(["scan", "x", "--without", "fit", "--without", "surface"])
    assert verb.calls[1]["detectors"] == ("trait",)


def test_page_on_stdout_progress_on_stderr(verb: Verb, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output has the page and nothing else; progress is on standard error."""
    main.run(["scan", "x"])
    out, err = capfd.readouterr()
    assert "RISK FOUND: owl" in out
    assert "scoring" not in out
    assert "scoring: 10/400" in err
    assert "RISK" not in err


def test_json_on_stdout_moves_the_page(verb: Verb, capfd: pytest.CaptureFixture[str]) -> None:
    """With --output json=- standard output is the JSON report alone, and the page goes to standard
    error.
    """
    assert main.run(["scan", "x", "--output", "json=-"]) == 1
    out, err = capfd.readouterr()
    assert from_dict(json.loads(out)) == sample_report(RISK)
    assert "RISK FOUND: owl" in err


def test_reports_are_written_whatever_the_verdict(verb: Verb, tmp_path: Path) -> None:
    """Each --output is written before the command ends with the verdict's code."""
    verb.returns(INCONCLUSIVE)
    assert (
        main.run(["scan", "x", "--output", "json=a.json", "--output", f"json={tmp_path}/b.json"])
        == 3
    )
    for name in ("a.json", "b.json"):
        assert json.loads((tmp_path / name).read_text())["verdict"] == "inconclusive"
    written = [path.name for path in tmp_path.iterdir() if path.name != "dataset.parquet"]
    assert sorted(written) == ["a.json", "b.json"]


def test_one_report_that_fails_loses_no_other(
    verb: Verb, capfd: pytest.CaptureFixture[str]
) -> None:
    """The CSV lacks its row scores: the other report and the page are there, then comes the error
    with its code.
    """
    assert main.run(["scan", "x", "--output", "csv=rows.csv", "--output", "json=report.json"]) == 3
    out, err = capfd.readouterr()
    assert "RISK FOUND: owl" in out
    assert err.splitlines()[-2].startswith("Error: The scores of the rows")
    assert json.loads(Path("report.json").read_text())["verdict"] == "risk"
    assert not Path("rows.csv").exists()


def test_text_from_outside_is_no_command_of_github(
    verb: Verb, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In GitHub Actions every printed text stands between stop-commands and its token, which no
    text can know.
    """
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    verb.does = lambda source: hostile_report("::error::owned")
    main.run(["scan", "x"])
    page = capfd.readouterr().out
    verb.raises(InputError("##[error]owned", "Look."))
    main.run(["scan", "x"])
    error = "\n".join(capfd.readouterr().err.splitlines()[-4:])
    tokens = set()
    for text in (page, error):
        first, *between, last = text.strip().splitlines()
        token = first.removeprefix("::stop-commands::")
        assert len(token) == 32 and last == f"::{token}::"
        assert "owned" in "".join(between) and token not in "".join(between)
        tokens.add(token)
    assert len(tokens) == 2


@pytest.mark.parametrize("output", [[], ["--output", "json=-"]])
def test_a_reader_that_goes_away_does_not_change_the_exit_code(output: list[str]) -> None:
    """`audit scan x | head -0` ends with the verdict's code, and without a complaint."""
    code = """
import sys, types
from dataclasses import replace
from tests.support.sample_report import NO_RISK, sample_report
module, registry = types.ModuleType("auditor.commands.scan"), types.ModuleType("detectors")
big = replace(sample_report(NO_RISK), openly={f"trait{n}": 1 for n in range(50_000)})
module.scan, registry.DETECTORS = (lambda source, *_, **__: big), {"trait": None}
registry.DEFAULT, registry.ON_REQUEST, registry.__path__ = ("trait",), (), ["detectors"]
sys.modules |= {"auditor.commands.scan": module, "detectors": registry}
from auditor.cli.main import main
main()
"""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "scan", "x", *output],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=root,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    complaints = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0
    assert "Error" not in complaints


@pytest.mark.parametrize(("expected", "code"), [(1, 0), (0, 3)])
def test_a_demo_succeeds_if_every_step_ends_as_it_should(
    verb: Verb,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    expected: int,
    code: int,
) -> None:
    """One that does not is the last, and the demo says so. The whole of it runs in
    tests/test_examples.py.
    """
    verb.does = lambda _: sample_report(RISK)
    (tmp_path / "dataset.parquet").touch()
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path))
    steps = tuple(
        (purpose, "audit scan dataset.parquet", exit_code)
        for purpose, exit_code in (("A scan.", expected), ("Another.", 1))
    )
    monkeypatch.setattr("auditor.cli.demo.TINY", steps)
    assert main.run(["demo", "--quick"]) == code
    out = capfd.readouterr().out
    assert ("should have ended with 0" in out) == (code == 3)
    assert ("Another." in out) == (code == 0)


def test_bench_prints_a_table(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`audit bench` prints a line for each way of scoring, with nothing where the share of the peak
    is not measured.
    """
    plain = types.SimpleNamespace(
        way="plain",
        seconds=2.0,
        tokens=1500,
        tokens_per_second=750.0,
        same_argmax=1.0,
        peak_share=None,
    )
    exact = types.SimpleNamespace(**{**vars(plain), "way": "exact", "peak_share": 0.82})
    for name, content in (
        (
            "auditor.commands.bench",
            {"bench": lambda lm, rows, systems: [plain, exact] if len(systems) == 13 else []},
        ),
        ("auditor.model.load", {"load": lambda name: name}),
    ):
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("auditor.cli.bench.number_rows", lambda lm: [])
    monkeypatch.setattr("auditor.cli.bench.budget", lambda panel: f"{len(panel.traits)} traits")
    assert main.run(["bench"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].split() == ["plain", "2.0", "1,500", "750", "100.00%"]
    assert lines[2].split() == ["exact", "2.0", "1,500", "750", "100.00%", "82%"]
    assert lines[3] == "57 traits"


def test_a_default_scan_spends_a_third_of_an_exhaustive_one() -> None:
    """At most: every look is reached and no trait is excluded, so only dropping by rank saves
    passes.
    """
    panel = load_panels(["default"])
    said = budget(panel)
    assert f"{400 * (1 + len(panel.traits)):,}" in said
    assert float(re.search(r"([\d.]+)% of the tokens", said).group(1)) <= 34  # type: ignore[union-attr]


@pytest.mark.parametrize("arguments", [["models"], ["models", "list"]])
def test_models_are_listed(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """The built-in reference is listed with its licence."""
    assert main.run(arguments) == 0
    out = capfd.readouterr().out
    assert "smollm2-135m" in out
    assert "Apache-2.0" in out


def test_traits_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    """Built-in traits are listed, an unknown panel is a usage error."""
    assert main.run(["traits", "--panel", "animals"]) == 0
    out = capfd.readouterr().out
    assert "owl" in out
    assert "oak" not in out
    assert main.run(["traits", "--panel", "nope"]) == 2


def test_parsing() -> None:
    """Rows, columns and targets are read as documented."""
    assert parse_rows("all") == "all"
    assert parse_rows("25") == 25
    assert parse_columns("prompt=a, completion=b=c") == {"prompt": "a", "completion": "b=c"}
    assert parse_targets(["json=a=b.json"]) == (Target("json", "a=b.json"),)
    with pytest.raises(AuditError):
        parse_rows("²")
    with pytest.raises(AuditError):
        parse_columns("prompt=a,prompt=b")


def test_progress_line_is_worked_by_hand() -> None:
    """20 rows in 10 s are 2 rows/s; 60 rows left take 30 s.

    Without a total or a start there is no speed.
    """
    assert line(Progress("scoring", 40, 100), 20, 10.0) == "scoring: 40/100 rows, 2.0/s, 0:30 left"
    assert line(Progress("training", 4, 9, "updates"), 0, 0.0) == "training: 4/9 updates"
    assert line(Progress("teaching", 3, None, "updates"), 1, 1.0) == "teaching: 3 updates"
    assert line(Progress("loading", 0, None), 0, 1.0) == "loading"


def test_plain_progress_is_sparse() -> None:
    """Off a terminal a stage prints its start and then a line every ten seconds; resumed rows are
    not speed.
    """
    now = [0.0]
    stream = io.StringIO()
    show = Plain(Console(file=stream, width=80), clock=lambda: now[0])
    for second in range(0, 31):
        now[0] = float(second)
        show(Progress("scoring", 100 + 2 * second, 200))
    show(Progress("writing", 0, None))
    assert stream.getvalue().splitlines() == [
        "scoring: 100/200 rows",
        "scoring: 120/200 rows, 2.0/s, 0:40 left",
        "scoring: 140/200 rows, 2.0/s, 0:30 left",
        "scoring: 160/200 rows, 2.0/s, 0:20 left",
        "writing",
    ]


def test_live_progress_shows_stage_and_speed() -> None:
    """On a terminal the live line names the stage and counts rows, and hostile stage names do not
    act.
    """
    from auditor.cli.progress import progress_on

    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, color_system=None)
    with progress_on(console) as show:
        show(Progress("read \x1b[31m[b]rows", 0, None))
        show(Progress("scoring", 3, 4))
        show(Progress("scoring", 4, 4))
    shown = stream.getvalue()
    assert "read \\x1b[31m[b]rows" in shown
    assert "scoring" in shown
    assert "4/4 rows" in shown
    assert "\x1b[31m" not in shown
    assert "/?" not in shown


def test_a_live_stage_stops_when_the_next_begins() -> None:
    """Also one of which nobody told how long it is, and the last: a bar that still pulses at the
    end would look as if something were going on.
    """
    from auditor.cli.progress import progress_on

    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, color_system=None)
    with progress_on(console) as show:
        show(Progress("loading", 0, None))
        show(Progress("scoring", 3, 9))
        show(Progress("comparing", 0, None))
    last = [line for line in stream.getvalue().splitlines() if "━" in line][-3:]
    loading, scoring, comparing = last
    assert "━" * 24 in loading and "━" * 24 in comparing
    assert "━" * 24 not in scoring and "3/9 rows" in scoring
