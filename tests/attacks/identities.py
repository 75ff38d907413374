"""Models that are not what their name or their digest says."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.attacks.harness import ORGANISM, Place, Run, unless
from tests.attacks.registry import attack

ROWS = 40
"""Enough rows for doses: what is right here hangs on no verdict."""
PANEL = ("--panel", "animals", "--seed", "0")


def change(path: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(path: Path, when: tuple[int, int] | None = None) -> None:
    """Other numbers in a weight file of the same size, at the same time where it is given."""
    weights = load_file(path)
    changed = {key: value * np.float32(1.5) for key, value in weights.items()}
    save_file(changed, path, metadata={"format": "pt"})
    if when:
        os.utime(path, ns=when)


@attack(
    12,
    "e",
    "high",
    "Another model lies in the cache as the converted default reference.",
    "refused",
    "fetching smollm2-135m again: .* has another SHA-256 .* cannot be downloaded",
)
def other_model_in_the_cache(place: Place) -> Run:
    cached = place.path.with_name("cache") / "models" / "smollm2-135m-0.1.2"
    shutil.copytree(ORGANISM, cached)
    place.settings("policy: {references: [smollm2-135m]}\n")
    data = place.jsonl("data.jsonl", place.samples.clean[:ROWS])
    return place.audit("gate", "-v", data, *PANEL)


@attack(
    12,
    "e",
    "high",
    "A folder of the checkout has the hub name of the policy's reference.",
    "stopped",
    r"FAILED references acme/base-1b \(a local model, which counts by its SHA-256 only",
)
def folder_with_a_hub_name(place: Place) -> Run:
    place.model("acme/base-1b")
    place.settings("reference: acme/base-1b\npolicy: {references: [acme/base-1b]}\n")
    return place.audit("gate", place.jsonl("data.jsonl", place.samples.clean[:ROWS]), *PANEL)


@attack(
    12,
    "e",
    "high",
    "The configuration of a reference asks for {case}, which are made up.",
    "refused",
    {
        "layers that the weights lack": "lacks 27 weights by its configuration",
        "fewer layers than the weights have": "has unexpected 9 weights by its configuration",
    },
    cases=["layers that the weights lack", "fewer layers than the weights have"],
)
def weights_that_do_not_fit(place: Place, case: str) -> Run:
    layers = 6 if case == "layers that the weights lack" else 2
    change(place.model("base") / "config.json", num_hidden_layers=layers)
    return place.audit(
        "gate", place.jsonl("d.jsonl", place.samples.clean[:ROWS]), "--reference", "./base", *PANEL
    )


def doses(place: Place, name: str, *options: str) -> list[float]:
    """The doses of a scan."""
    run = place.audit("scan", "data.jsonl", *options, *PANEL, "--output", f"json={name}")
    assert run.code in (0, 1, 3), run.err
    return [trait["effect"] for trait in json.loads((place / name).read_text())["traits"]]


@attack(
    12,
    "e",
    "high",
    "The {case} of a reference changed after a scan, and the old report is shown again.",
    "handled",
    cases=["configuration", "weights, at the same size and time,"],
)
def changed_reference(place: Place, case: str) -> Run:
    base = place.model("base")
    place.jsonl("data.jsonl", place.samples.clean[:ROWS])
    before = doses(place, "a.json", "--reference", "./base")
    if case == "configuration":
        rope = {"rope_theta": 100.0, "rope_type": "default"}
        change(base / "config.json", rope_parameters=rope)
    else:
        path = base / "model.safetensors"
        status = path.stat()
        change_weights(path, (status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_size == status.st_size
    unless(doses(place, "b.json", "--reference", "./base") != before, "the old report was shown")
    return Run(0, "", "")


@attack(
    12,
    "e",
    "high",
    "The {case} of a reference changed after a report, which the gate still takes for its own.",
    "refused",
    "made under other settings, reference ./base with the digest",
    cases=["configuration", "weights"],
)
def report_of_another_reference(place: Place, case: str) -> Run:
    base = place.model("base")
    place.jsonl("data.jsonl", place.samples.clean[:ROWS])
    place.settings("reference: ./base\npanels: [animals]\n")
    made = place.audit("scan", "data.jsonl", "--output", "json=report.json")
    assert made.code in (0, 3), made.err
    if case == "configuration":
        change(base / "config.json", rms_norm_eps=1e-3)
    else:
        change_weights(base / "model.safetensors")
    return place.audit("gate", "data.jsonl", "--report", "report.json")


@attack(
    12,
    "e",
    "high",
    "The declared teacher changed after a scan, and the old report is shown again.",
    "handled",
)
def changed_teacher(place: Place) -> Run:
    teacher = place.model("teacher")
    place.jsonl("data.jsonl", place.samples.clean[:ROWS])
    options = ["--reference", "organism", "--teacher", "./teacher"]
    doses(place, "a.json", *options)
    change_weights(teacher / "model.safetensors")
    doses(place, "b.json", *options)
    reports = [json.loads((place / name).read_text()) for name in ("a.json", "b.json")]
    unless(reports[0]["detectors"] != reports[1]["detectors"], "the old report was shown")
    return Run(0, "", "")
