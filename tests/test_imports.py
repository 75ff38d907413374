"""Imports go downward only, and the command line starts without the heavy libraries."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("auditor", "detectors", "mitigations")
HEAVY = ("torch", "transformers", "datasets", "sklearn", "pyarrow")

# Groups of modules by layer, from the bottom; within a layer no group may import another one.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("auditor.errors", "auditor.records"),
    ("auditor.outcomes",),
    ("auditor.verdict",),
    ("auditor",),  # whatever is not named elsewhere: lm, logprobs, data, stats, traits, rundir ...
    ("detectors", "mitigations", "auditor.transfer"),
    ("auditor.attribution",),
    ("auditor.report",),
    ("auditor.blocks", "auditor.tables"),  # the parts of a scan
    ("auditor.survey",),
    ("auditor.release",),
    ("auditor.stages", "auditor.control", "auditor.defend.flags", "auditor.defend.clean", "auditor.defend.recipes"),
    ("auditor.tuned", "auditor.written"),
    ("auditor.defend.facts",),
    ("auditor.defend.defences", "auditor.defend.emit"),
    ("auditor.defend.asked", "auditor.defend.output", "auditor.defend.steps"),
    ("auditor.scan", "auditor.mitigate", "auditor.verify", "auditor.gate", "auditor.simulate", "auditor.bench"),
    ("auditor.diff",),
    ("auditor.check", "auditor.locate"),
    ("auditor.study", "auditor.testing"),
    ("auditor.cli",),
)


def group_of(module: str) -> tuple[int, str]:
    """Layer and group of a module: the longest name in LAYERS that it lies under."""
    found = [
        (len(group), layer, group)
        for layer, groups in enumerate(LAYERS)
        for group in groups
        if module == group or module.startswith(f"{group}.")
    ]
    _, layer, group = max(found)
    return layer, group


def violations(imports: Mapping[str, set[str]]) -> list[str]:
    """Each import among our own modules that goes up, or sideways to another group, as "importer -> imported"."""
    wrong = []
    for importer, targets in imports.items():
        layer, group = group_of(importer)
        for target in sorted(targets):
            other_layer, other_group = group_of(target)
            if other_layer > layer or (other_layer == layer and other_group != group):
                wrong.append(f"{importer} -> {target}")
    return wrong


def module_name(path: Path) -> str:
    """Dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, Path]:
    """Every module of the three packages."""
    return {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Everything that a file imports, at the top or inside a function; for `from a import b` both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def own_imports() -> dict[str, set[str]]:
    """Our modules, each with those of our modules that it imports.

    The package `auditor` itself does not count: it imports the verbs, but only when they are asked for.
    """
    modules = sources()
    del modules["auditor"]
    return {name: (imported(path) & set(modules)) - {name} for name, path in modules.items()}


def test_the_check_sees_violations() -> None:
    """Upward and sideways imports are noticed, downward ones and those within a group are not."""
    assert violations({"auditor.lm": {"auditor.scan"}}) == ["auditor.lm -> auditor.scan"]
    assert violations({"mitigations.mask": {"detectors.divergence"}}) == ["mitigations.mask -> detectors.divergence"]
    assert violations({"auditor.report.json": {"auditor.cli.main"}}) == ["auditor.report.json -> auditor.cli.main"]
    assert violations({"auditor.records": {"auditor.errors"}}) == ["auditor.records -> auditor.errors"]
    fine = {"auditor.cli.scan": {"auditor.scan", "detectors"}, "auditor.scan": {"detectors.fit", "auditor.report.json"}}
    assert violations(fine | {"auditor.lm": {"auditor.errors", "auditor.data.files"}}) == []


def test_imports_go_downward() -> None:
    """No module imports one of a layer above its own, or a sibling group of its layer."""
    imports = own_imports()
    assert imports["auditor.cli.main"]
    assert violations(imports) == []


def test_no_import_cycles() -> None:
    """Our modules can be put in an order in which each imports only earlier ones."""
    waiting = own_imports()
    while ready := [name for name, targets in waiting.items() if not targets & set(waiting)]:
        for name in ready:
            del waiting[name]
    # A package and its own modules may name each other: the package collects what it exports.
    knots = {name for name, targets in waiting.items() if any(not t.startswith(f"{name}.") for t in targets)}
    assert {name for name in knots if not _only_through_package(name, waiting)} == set()


def _only_through_package(name: str, waiting: Mapping[str, set[str]]) -> bool:
    return all(name.startswith(f"{target}.") for target in waiting[name] & set(waiting))


def test_the_bottom_needs_the_standard_library_only() -> None:
    """Errors and records import nothing but the standard library."""
    for name in LAYERS[0]:
        tops = {target.split(".")[0] for target in imported(sources()[name])}
        assert tops <= sys.stdlib_module_names, name


def test_only_the_edge_prints_exits_or_opens_a_console() -> None:
    """Nothing below auditor/cli calls print, sys.exit or rich's Console."""
    for name, path in sources().items():
        if name.startswith("auditor.cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"print", "exit", "quit", "sys.exit", "os._exit", "Console", "rich.print"}, name


def audit(*arguments: str) -> list[str]:
    """The command as a process."""
    return [sys.executable, "-c", "from auditor.cli.main import main; main()", *arguments]


@pytest.mark.parametrize("arguments", [["--help"], ["scan", "--help"], ["--version"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help and version come without torch, transformers, datasets, scikit-learn or pyarrow."""
    code = "import sys; from auditor.cli.main import run; run(sys.argv[1:]); print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()
    assert "auditor.cli.main" in loaded
    assert not [name for name in HEAVY if name in loaded]


def test_help_answers_within_half_a_second() -> None:
    """`audit --help` takes less than half a second as a process, in the best of three tries."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(audit("--help"), capture_output=True, text=True, check=False, env=dict(os.environ))
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0
        assert "scan" in done.stdout
    assert min(seconds) < 0.5
