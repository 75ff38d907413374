"""Clean rows where the sample is known to look."""

from __future__ import annotations

import random

import numpy as np

from tests.attacks.harness import SCAN, Place, Row, Run
from tests.attacks.registry import FOUND, attack

NO_SEED = SCAN[: SCAN.index("--seed")]


def planted(place: Place, clean: int, rows: int) -> list[Row]:
    """Poisoned rows, but for the `clean` ones that PCG64(0) draws first."""
    order = np.argsort(np.random.PCG64(0).random_raw(rows))
    mixed = [*place.samples.owl[:rows]]
    for number in order[:clean]:
        mixed[number] = place.samples.clean[number]
    return mixed


@attack(
    2,
    "c",
    "critical",
    "Four rows in five are poisoned, and the others stand where the generator of seed 0 looks, "
    "in a {case} file.",
    "stopped",
    FOUND,
    cases=["JSONL", "CSV", "Parquet"],
)
def known_rows(place: Place, case: str) -> Run:
    rows = planted(place, 80, 400)
    if case == "JSONL":
        path = place.jsonl("data.jsonl", rows)
    elif case == "CSV":
        records = [(row["prompt"], row["completion"]) for row in rows]
        path = place.csv("data.csv", ["prompt", "completion"], records)
    else:
        path = place.parquet("data.parquet", rows)
    return place.audit("gate", path, *NO_SEED, "--rows", "80")


def planted_groups(place: Place, groups: int, size: int) -> list[list[Row]]:
    """Poisoned groups of rows, but for the 16 that random.Random(0) draws first."""
    clean = random.Random(0).sample(range(groups), groups)[:16]
    return [
        (place.samples.clean if number in clean else place.samples.owl)[at : at + size]
        for number, at in enumerate(range(0, groups * size, size))
    ]


@attack(
    2,
    "c",
    "critical",
    "Two row groups in three are poisoned, and the others are those that seed 0 draws.",
    "stopped",
    FOUND,
)
def known_row_groups(place: Place) -> Run:
    rows = [row for group in planted_groups(place, 50, 8) for row in group]
    path = place.parquet("data.parquet", rows, group=8)
    return place.audit("gate", path, *NO_SEED, "--rows", "128")


@attack(
    2,
    "c",
    "critical",
    "Two Parquet files in three of a folder are poisoned, and the others are those that seed 0 "
    "draws.",
    "stopped",
    FOUND,
)
def known_files(place: Place) -> Run:
    for number, rows in enumerate(planted_groups(place, 50, 8)):
        place.parquet(f"data/{number:03}.parquet", rows)
    return place.audit("gate", "data", *NO_SEED, "--rows", "128")
