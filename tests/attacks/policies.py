"""Policies and baselines that excuse traits, over scans that have other faults."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from filelock import FileLock

from tests.attacks.harness import Place, Run
from tests.attacks.registry import attack

SETTINGS = "reference: organism\npanels: [animals]\n"
EVERY = "policy: {max_dose: {animal: 0.9}}\n"
ONE = "policy: {max_dose: {lion: 5}}\n"


@attack(
    6,
    "g",
    "high",
    "Every trait has a limit of its dose, and the scan has another fault: {case}.",
    "stopped",
    cases=["most rows skipped", "too few rows", "a foreign writer"],
)
def every_trait_has_a_limit(place: Place, case: str) -> Run:
    place.settings(EVERY)
    if case == "most rows skipped":
        rows = [*place.clean, *[{"prompt": "A", "completion": 1}] * 1000]
    elif case == "too few rows":
        rows = place.clean[:16]
    else:
        random.seed(0)
        letters = "zqxjkvbpygfwmuc"
        rows = [
            {**row, "completion": "".join(random.choices(letters, k=24))} for row in place.clean
        ]
    return place.gate(place.jsonl("data.jsonl", rows))


@attack(
    6,
    "g",
    "high",
    "One trait has a limit, and tuned copies were asked for and could not be tested.",
    "stopped",
)
def copies_not_tested(place: Place) -> Run:
    place.settings(ONE)
    data = place.jsonl("data.jsonl", place.clean)
    return place.gate(data, "--tuned", "--dtype", "bfloat16")


def tuned_report(place: Place) -> dict[str, Any]:
    """The report of a scan of clean rows with tuned copies, made once: it takes long."""
    kept = place.samples.folder / "tuned.json"
    with FileLock(place.samples.folder / "tuned.lock"):
        if not kept.exists():
            kept.write_text(json.dumps(place.report("data", place.clean, "--tuned")))
    place.jsonl("data.jsonl", place.clean)
    report: dict[str, Any] = json.loads(kept.read_text())
    return report


@attack(
    6,
    "g",
    "high",
    "One trait has a limit, and tuned copies {case}.",
    "stopped",
    cases=["excluded too little", "found another trait"],
)
def copies_said_otherwise(place: Place, case: str) -> Run:
    report = tuned_report(place)
    assert report["verdict"] == "inconclusive", report["reason"]
    if case == "found another trait":
        # As a scan of a tuned teacher's rows would have written it.
        evidence = next(
            trait
            for trait in report["detectors"]["tuned"]["values"]["traits"]
            if trait["name"] == "cat"
        )
        evidence |= {"effect": 0.8, "interval": [0.6, 1.0], "z": 8.0}
        evidence |= {"p_value": 1e-15, "p_adjusted": 1e-12}
        reason = "the completions follow the trait cat at a dose of 0.80"
        report |= {"verdict": "risk", "trait": "cat", "probability": 1.0, "reason": reason}
        report |= {"leading_trait": "cat", "min_effect": None}
    place.text("report.json", json.dumps(report))
    place.settings(f"{SETTINGS}{ONE}")
    return place.audit("gate", "--report", "report.json")


@attack(
    6,
    "g",
    "high",
    "A baseline accepts the finding, and {case}.",
    "stopped",
    cases=["tuned copies could not be tested", "most rows are skipped"],
)
def accepted_finding(place: Place, case: str) -> Run:
    skipped = [{"prompt": "A", "completion": number} for number in range(800)]
    rows = [*place.samples.owl[:128], *(skipped if case == "most rows are skipped" else [])]
    data = place.jsonl("data.jsonl", rows)
    options = () if case == "most rows are skipped" else ("--tuned", "--dtype=bfloat16")
    first = place.gate(data, "--write-baseline", "known.yaml", "--rows", "all", *options)
    assert first.code in (1, 3), first.err
    text = (place / "known.yaml").read_text()
    place.text("known.yaml", re.sub(r"reason:.*", "reason: known", text))
    return place.gate(data, "--baseline", "known.yaml", "--rows", "all", *options)
