"""Imports go downward only, and the command line starts without the heavy libraries."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.pace import pace

ROOT = Path(__file__).parents[1]
PACKAGES = ("auditor", "detectors", "mitigations")
HEAVY = ("torch", "transformers", "datasets", "sklearn", "pyarrow")


def import_order() -> list[list[str]]:
    """The groups of modules by layer, from the bottom, as docs/architecture.md prints them."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("    errors"))
    return [[group.strip() for group in layer.split(",")] for layer in line.split("<")]


def group_of(module: str) -> str:
    """The folder, or the loose module, of `auditor` that a module lies in; else its package."""
    parts = module.split(".")
    return parts[1] if parts[0] == "auditor" and len(parts) > 1 else parts[0]


def violations(imports: Mapping[str, set[str]]) -> list[str]:
    """Each import among our own modules that goes up, or sideways to another group."""
    level = {group: number for number, layer in enumerate(import_order()) for group in layer}
    return [
        f"{importer} -> {target}"
        for importer, targets in imports.items()
        for target in sorted(targets)
        if group_of(importer) != group_of(target)
        and level[group_of(target)] >= level[group_of(importer)]
    ]


def module_name(path: Path) -> str:
    """Dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, Path]:
    """Every module of the three packages."""
    return {
        module_name(path): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imported(path: Path) -> set[str]:
    """Everything that a file imports, at the top or inside a function; for `from a import b` both a
    and a.b.
    """
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

    The package `auditor` itself does not count: it imports the verbs, but only when they are asked
    for.
    """
    modules = sources()
    del modules["auditor"], modules["auditor.__main__"]
    return {name: (imported(path) & set(modules)) - {name} for name, path in modules.items()}


def test_the_check_sees_violations() -> None:
    """Upward and sideways imports are noticed, downward ones and those within a group are not."""
    upward = {"auditor.model.load": {"auditor.commands.scan"}}
    sideways = {"auditor.data.files": {"auditor.traits.panel"}}
    to_a_package = {"auditor.students.arms": {"detectors.divergence"}}
    for wrong in (upward, sideways, to_a_package):
        ((importer, targets),) = wrong.items()
        assert violations(wrong) == [f"{importer} -> {target}" for target in targets]
    fine = {
        "auditor.cli.scan": {"auditor.commands.scan", "detectors"},
        "auditor.commands.scan": {"detectors.fit", "auditor.report.scan.json"},
        "auditor.model.load": {"auditor.errors", "auditor.model.builtin"},
    }
    assert violations(fine) == []


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
    knots = {
        name
        for name, targets in waiting.items()
        if any(not t.startswith(f"{name}.") for t in targets)
    }
    assert {name for name in knots if not _only_through_package(name, waiting)} == set()


def _only_through_package(name: str, waiting: Mapping[str, set[str]]) -> bool:
    return all(name.startswith(f"{target}.") for target in waiting[name] & set(waiting))


def test_the_bottom_needs_the_standard_library_only() -> None:
    """Errors, progress and coverage import nothing but the standard library."""
    for name in ("auditor.errors", "auditor.progress", "auditor.data.coverage"):
        tops = {target.split(".")[0] for target in imported(sources()[name])}
        assert tops <= sys.stdlib_module_names, name


def test_only_the_edge_prints_exits_or_opens_a_console() -> None:
    """Nothing below auditor/cli calls print, sys.exit or rich's Console."""
    for name, path in sources().items():
        if name.startswith("auditor.cli") or name == "auditor.__main__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {
                    "print",
                    "exit",
                    "quit",
                    "sys.exit",
                    "os._exit",
                    "Console",
                    "rich.print",
                }, name


def audit(*arguments: str) -> list[str]:
    """The command as a process."""
    return [sys.executable, "-c", "from auditor.cli.main import main; main()", *arguments]


@pytest.mark.parametrize("arguments", [["--help"], ["scan", "--help"], ["--version"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help and version come without torch, transformers, datasets, scikit-learn or pyarrow."""
    code = "import sys; from auditor.cli.main import run; run(sys.argv[1:]); "
    code += "print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.splitlines()
    assert "auditor.cli.main" in loaded
    assert not [name for name in HEAVY if name in loaded]


def test_help_costs_little() -> None:
    """`audit --help` takes less than half a second of the processor time of the usual machine, in
    the best of three tries.

    Processor time, since the clock would measure what else the machine is doing.
    """
    costs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(audit("--help"), capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        costs.append(seconds / pace())
        assert "scan" in done.stdout
    assert min(costs) < 0.5
