"""Modules beside the data that would be imported as Python's own."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import yaml

from tests.attacks.harness import AUDIT, ROOT, Place, Run, unless
from tests.attacks.registry import attack


def plant(place: Place, *names: str) -> Path:
    """Modules in the working directory; the file that appears when one of them is imported."""
    mark = place.path.with_name("RAN")
    for name in names:
        place.text(f"{name}.py", f"open({str(mark)!r}, 'a').write({name!r})\n")
    return mark


@attack(
    1,
    "a",
    "critical",
    "`{case}.py` lies beside the data, while the default reference is fetched.",
    "untouched",
    "The model smollm2-135m cannot be downloaded",
    cases=["pip", "json"],
)
def module_beside_the_download(place: Place, case: str) -> Run:
    mark = plant(place, case)
    run = place.process(AUDIT, "models", "fetch", "smollm2-135m")
    unless(not mark.exists(), f"{case}.py was run")
    return run


@attack(
    1,
    "a",
    "critical",
    "Modules with the names of Python's and of libraries lie beside the data of {case}.",
    "untouched",
    "No such file or folder: missing.jsonl",
    cases=["audit", "python -m auditor"],
)
def modules_beside_the_data(place: Place, case: str) -> Run:
    names = ("yaml", "typer", "json", "pickle", "typing", "torch", "numpy", "multiprocessing")
    mark = plant(place, *names)
    command = [AUDIT] if case == "audit" else [sys.executable, "-m", "auditor"]
    run = place.process(*command, "scan", "missing.jsonl")
    unless(not mark.exists(), "one was run")
    return run


@attack(
    1,
    "a",
    "critical",
    "A distribution of plug-ins lies unpacked beside the data.",
    "untouched",
    "evil",
)
def plugin_beside_the_data(place: Place) -> Run:
    mark = plant(place, "evil")
    folder = place / "evil-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[subliminal_audit.detectors]\nevil = evil:D\n")
    data = place.jsonl("data.jsonl", place.clean[:8])
    command = [sys.executable, "-m", "auditor", "scan", data, "--detectors", "evil"]
    run = place.process(*command, "--reference", "organism", "--panel", "animals")
    unless(not mark.exists(), "the plug-in was loaded")
    return run


@attack(
    1,
    "a",
    "critical",
    "`{case}.py` lies in the checkout that the action installs from.",
    "untouched",
    "Could not open requirements file",
    cases=["pip", "json"],
)
def module_beside_the_action(place: Place, case: str) -> Run:
    mark = plant(place, case)
    (place / "action").mkdir()
    steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    script = next(step["run"] for step in steps if step.get("name") == "Install")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # Nothing is there to be installed, so the real pip ends at once.
    variables = {"GITHUB_ACTION_PATH": str(place / "action"), "PATH": path}
    variables["PIP_TARGET"] = str(place / "target")
    run = place.process("bash", "-eo", "pipefail", "-c", script, **variables)
    unless(not mark.exists(), f"{case}.py was run by the action")
    return Run(2 if run.code else 0, run.out, run.err)


@attack(
    1,
    "a",
    "critical",
    "A `json.py` in the checkout prints another verdict as the action's output.",
    "untouched",
)
def module_beside_the_action_output(place: Place) -> Run:
    place.text("json.py", "print('verdict=no_risk'); raise SystemExit\n")
    step = next(
        step
        for step in yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
        if step.get("name") == "Gate"
    )
    # In place of a scan: it writes the reports that the options name, and ends with a risk.
    python = shlex.quote(sys.executable)
    gate = 'for a in "$@"; do case "$a" in *=*/*) echo \'{"verdict": "risk"}\' >"${a#*=}";; esac; '
    gate += "done; exit 1\n"
    place.text("bin/audit", f"#!/bin/bash\n{gate}")
    place.text(
        "bin/python",
        f'#!/bin/bash\ncase "$*" in *"-m auditor"*) {gate.strip()};; esac\nexec {python} "$@"\n',
    )
    for name in ("audit", "python"):
        (place / f"bin/{name}").chmod(0o755)
    variables = dict.fromkeys(step["env"], "") | {"DATASET": "data.jsonl"}
    variables |= {"PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    outputs = place / "outputs"
    variables |= {"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(place / "summary")}
    run = place.process(
        "bash", "-eo", "pipefail", "-c", step["run"], **variables, RUNNER_TEMP=str(place.path)
    )
    assert outputs.exists(), run.err
    unless("verdict=risk" in outputs.read_text(), outputs.read_text())
    return run
