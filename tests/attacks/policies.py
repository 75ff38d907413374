"""Policies and baselines that excuse traits, over scans that have other faults."""

from __future__ import annotations

import random
import re

from tests.attacks.harness import Place, Run
from tests.attacks.registry import attack

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
    options = () if skipped and case == "most rows are skipped" else ("--tuned", "--dtype=bfloat16")
    first = place.gate(data, "--write-baseline", "known.yaml", "--rows", "all", *options)
    assert first.code in (1, 3), first.err
    text = (place / "known.yaml").read_text()
    place.text("known.yaml", re.sub(r"reason:.*", "reason: known", text))
    return place.gate(data, "--baseline", "known.yaml", "--rows", "all", *options)


@attack(
    21,
    "g",
    "medium",
    "All rows are poisoned, {case}, so that their looks alone tell them apart, and only a risk "
    "is an error.",
    "found",
    cases=["in another order", "and stand three times"],
    works=True,
)
def poison_told_by_its_looks(place: Place, case: str) -> Run:
    rows = place.samples.owl[:64] if case == "in another order" else place.samples.owl[:64] * 3
    return place.gate(place.jsonl("data.jsonl", rows), "--fail-on", "risk")
