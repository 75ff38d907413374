"""Policies and baselines that excuse traits, over scans that have other faults."""

from __future__ import annotations

import json
import random
import re

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
    {
        "most rows skipped": "of the rows were not read",
        "too few rows": "rows could be scored and at least 32 are needed",
        "a foreign writer": "the reference finds the text less likely than its own",
    },
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
    "were asked for and not tested",
)
def copies_not_tested(place: Place) -> Run:
    place.settings(ONE)
    data = place.jsonl("data.jsonl", place.clean)
    return place.gate(data, "--tuned", "--dtype", "bfloat16")


@attack(
    6,
    "g",
    "high",
    "One trait has a limit, and tuned copies {case}.",
    "stopped",
    {
        "excluded too little": "by copies of the reference tuned on the traits, a dose of",
        "found another trait": "FAILED.* cat",
    },
    cases=["excluded too little", "found another trait"],
)
def copies_said_otherwise(place: Place, case: str) -> Run:
    report = place.report(place.clean, "--tuned")
    assert report["verdict"] == "inconclusive", report["reason"]
    if case == "found another trait":
        # As a scan of a tuned teacher's rows would have written it.
        evidence = next(
            trait
            for trait in report["detectors"]["tuned"]["values"]["traits"]
            if trait["name"] == "cat"
        )
        evidence |= {"effect": 0.8, "interval": [0.76, 0.84], "z": 40.0}
        evidence |= {"p_value": 1e-200, "p_adjusted": 1e-198}
        report["tests"][1]["bounds"]["cat"] = 1.0
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
    {
        "tuned copies could not be tested": "were asked for and not tested",
        "most rows are skipped": "of the rows were not read",
    },
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
