"""A run directory that comes with the data."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from tests.attacks.harness import Place, Run, unless
from tests.attacks.registry import attack

POISON = 160
"""Rows of the poisoned data set here, which is found in the order of seed 0."""


def elsewhere(place: Place) -> dict[str, str]:
    """The cache of the attacker's machine."""
    return {"SUBLIMINAL_AUDIT_CACHE": str(place.samples.folder / "attacker" / "cache")}


def newest(folder: Path) -> Path:
    """The run directory that was worked on last."""
    runs = (folder / ".audit" / "runs").iterdir()
    return max(runs, key=lambda path: path.stat().st_mtime_ns)


def attackers_runs(place: Place) -> tuple[Path, Path]:
    """Finished runs of a gate over poisoned rows, here, and over clean ones, elsewhere; made once,
    on the attacker's machine.
    """
    made, done = place.samples.folder / "attacker", place.samples.folder / "attacker.done"
    with FileLock(f"{made}.lock"):
        if not done.exists():
            for name, rows in (("poisoned", place.samples.owl[:POISON]), ("clean", place.clean)):
                (made / name).mkdir(parents=True)
                shutil.move(place.jsonl("data.jsonl", rows), made / name)
                run = place.gate("data.jsonl", folder=made / name, **elsewhere(place))
                assert run.code == (1 if name == "poisoned" else 0), run.out
            done.touch()
    other = place.path.with_name("other")
    shutil.copytree(made / "poisoned", place.path, dirs_exist_ok=True)
    shutil.copytree(made / "clean", other)
    return newest(place.path), newest(other)


def read(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "report.json").read_text())
    return value


@attack(
    4,
    "d",
    "critical",
    "The checkout has a `.audit`, {case}, with a forged report of the very run.",
    "found",
    cases=["without Git", "tracked by Git"],
)
def forged_report(place: Place, case: str) -> Run:
    poisoned, clean = attackers_runs(place)
    own = {key: value for key, value in read(poisoned).items() if key in ("dataset", "settings")}
    (poisoned / "report.json").write_text(json.dumps(read(clean) | own))
    if case == "tracked by Git":
        for command in (["init", "-q"], ["add", "-A", "-f"]):
            subprocess.run(["git", *command], cwd=place.path, check=True)
    run = place.gate("data.jsonl")
    assert newest(place.path) == poisoned  # it was led there
    return run


@attack(
    4,
    "d",
    "critical",
    "The checkout has a `.audit` with units of work of the very run, copied from a clean one.",
    "found",
)
def forged_units(place: Place) -> Run:
    poisoned, clean = attackers_runs(place)
    (poisoned / "report.json").unlink()
    shutil.rmtree(poisoned / "units")
    shutil.copytree(clean / "units", poisoned / "units")
    run = place.gate("data.jsonl")
    assert newest(place.path) == poisoned  # it was led there
    return run


@attack(
    4,
    "d",
    "critical",
    "The checkout has a `.audit/last` that names clean data, for a gate that names none.",
    "stopped",
    "There is no scan here to go on from",
)
def forged_last(place: Place) -> Run:
    place.jsonl("data.jsonl", place.samples.owl[:POISON])
    data = place.jsonl("other/clean.jsonl", place.clean)
    assert place.gate(data.relative_to(place.path), **elsewhere(place)).code == 0
    return place.audit("gate")


@attack(
    4,
    "d",
    "critical",
    "The checkout has a `.audit` with a forged verification, for a policy that asks for one.",
    "stopped",
    "no verification of this data set",
)
def forged_verification(place: Place) -> Run:
    place.settings("policy: {mitigation: removed}\n")
    place.jsonl("clean.jsonl", place.samples.clean[:POISON])
    place.jsonl("data.jsonl", place.samples.owl[:POISON])
    options = ["--trait", "owl", "--rows", "16", "--updates", "2", "--blocks", "1"]
    options += ["--reference", "organism", "--panel", "animals"]
    made = place.audit("verify", "clean.jsonl", "data.jsonl", *options, **elsewhere(place))
    assert made.code in (0, 3), made.err
    path = newest(place.path) / "report.json"
    report = json.loads(path.read_text())
    report["arms"][1] |= {"verdict": "removed", "left": {"value": 0.0, "interval": [0.0, 0.01]}}
    # Relatives of the owl are found as well, and need a verification each.
    for trait in ("owl", "eagle", "dolphin", "penguin", "wolf", "raven"):
        forged = path.parent.with_name(trait)
        forged.mkdir()
        (forged / "report.json").write_text(json.dumps(report | {"trait": trait}))
    return place.gate("data.jsonl", "--rows", "all")


@attack(
    14,
    "h",
    "high",
    "The checkout has a link `.audit/{case}` to a file of the user's.",
    "untouched",
    cases=["last", "report.json", "settings.json", "tokens.parquet", "units/pilot.npz"],
)
def link_in_the_run(place: Place, case: str) -> Run:
    user = place.path.with_name("authorized_keys")
    run, _ = attackers_runs(place)
    target = place / ".audit/last" if case == "last" else run / case
    (run / "report.json").unlink()
    target.unlink(missing_ok=True)
    user.write_text("a key\n")
    target.symlink_to(user)
    done = place.scan("data.jsonl")
    assert newest(place.path) == run  # it was led there
    unless(user.read_text() == "a key\n", "the user's file was written")
    return done


@attack(
    14,
    "h",
    "high",
    "The checkout has a link `{case}` to a folder of the user's.",
    "untouched",
    "links in .audit are not followed",
    cases=[".audit", ".audit/runs"],
)
def link_to_a_folder(place: Place, case: str) -> Run:
    user = place.path.with_name("home")
    user.mkdir()
    (place / case).parent.mkdir(exist_ok=True)
    (place / case).symlink_to(user)
    run = place.scan(place.jsonl("data.jsonl", place.clean[:8]))
    unless(not list(user.iterdir()), f"written: {[path.name for path in user.iterdir()]}")
    return run


@attack(
    22,
    "d",
    "medium",
    "Units of work in the run are of another shape.",
    "found",
)
def units_of_another_shape(place: Place) -> Run:
    place.jsonl("data.jsonl", place.samples.owl[:POISON])
    assert place.gate("data.jsonl").code == 1
    run = newest(place.path)
    (run / "report.json").unlink()
    for path in (run / "units").glob("*.npz"):
        with np.load(path) as unit:
            cut = {name: unit[name][:1] if unit[name].ndim else unit[name] for name in unit.files}
        np.savez(path, **cut)
    return place.gate("data.jsonl")
