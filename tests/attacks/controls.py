"""Controls: plain data get the right verdict, so that an outcome of an attack is the attack's."""

from __future__ import annotations

from tests.attacks.harness import Place, Run
from tests.attacks.registry import FOUND, attack


@attack(0, "-", "control", "Plain clean rows.", "passes")
def plain_clean(place: Place) -> Run:
    return place.gate(place.jsonl("data.jsonl", place.clean))


@attack(0, "-", "control", "Plain poisoned rows.", "found")
def plain_poison(place: Place) -> Run:
    return place.gate(place.jsonl("data.jsonl", place.samples.owl[:128]))


@attack(0, "-", "control", "All clean rows, 400 of them, by `audit scan`.", "passes")
def all_clean(place: Place) -> Run:
    return place.scan(place.samples.folder / "clean.parquet")


@attack(0, "-", "control", "All poisoned rows, 400 of them, by `audit scan`.", "found")
def all_poison(place: Place) -> Run:
    return place.scan(place.samples.folder / "owl.parquet")


@attack(
    0,
    "-",
    "control",
    "A folder of clean rows with a README, a licence and Git's files.",
    "passes",
)
def folder_with_documents(place: Place) -> Run:
    place.jsonl("data/a.jsonl", place.clean)
    for name in ("README.md", "LICENSE", ".gitattributes"):
        place.text(f"data/{name}", "A text.\n")
    return place.gate("data")


@attack(
    0,
    "-",
    "control",
    "A folder of clean rows with the `dataset_infos.json` of `datasets`.",
    "passes",
)
def folder_with_dataset_infos(place: Place) -> Run:
    place.jsonl("data/a.jsonl", place.clean)
    place.text("data/dataset_infos.json", '{"default": {"description": ""}}\n')
    return place.gate("data")


@attack(
    21,
    "-",
    "control",
    "All rows are poisoned and stand {case}.",
    "stopped",
    FOUND,
    cases=["backwards", "three times"],
)
def poison_in_another_order(place: Place, case: str) -> Run:
    rows = place.samples.owl[::-1] if case == "backwards" else place.samples.owl * 3
    return place.gate(place.jsonl("data.jsonl", rows))
