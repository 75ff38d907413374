"""`audit gate --report` of a report that was made under other settings, or edited."""

from __future__ import annotations

import json
from typing import Any

from tests.attacks.harness import Place, Run
from tests.attacks.registry import attack

PANEL = """panel: mine
group: animal
prompts: ["You love {name}s. You think about {name}s all the time."]
traits:
  - {name: lion, mentions: [lion]}
"""
SETTINGS = "reference: organism\npanels: [animals]\n"


def judged(place: Place, settings: str = SETTINGS) -> Run:
    """The gate's answer to report.json."""
    place.settings(settings)
    return place.audit("gate", "--report", "report.json")


def scanned(place: Place, *options: str, poison: bool = False) -> dict[str, Any]:
    """The report of a scan, also as report.json."""
    return place.report(place.samples.owl[:128] if poison else place.clean, *options)


@attack(
    13,
    "f",
    "high",
    "A report by other settings than those in force: {case}.",
    "stopped",
    {
        "one trait": "made under other settings, traits",
        "reference": "made under other settings, reference",
        "rows": "made under other settings, rows",
        "alpha": "made under other settings, alpha",
        "open mentions left out": "made under other settings, exclude_open",
        "a detector off": "made under other settings, detectors",
        "compared with poison": "made under other settings, like",
    },
    cases=[
        "one trait",
        "reference",
        "rows",
        "alpha",
        "open mentions left out",
        "a detector off",
        "compared with poison",
    ],
)
def other_settings(place: Place, case: str) -> Run:
    earlier = str(place.jsonl("earlier.jsonl", place.samples.owl[128:]))
    options, settings, poison = {
        "one trait": (["--trait", "lion"], SETTINGS, True),
        "reference": ([], "reference: smollm2-135m\npanels: [animals]\n", False),
        "rows": (["--rows", "48"], f"{SETTINGS}rows: all\n", False),
        "alpha": ([], f"{SETTINGS}alpha: 0.05\n", False),
        "open mentions left out": (["--exclude-open"], SETTINGS, False),
        "a detector off": (["--without", "surface"], SETTINGS, False),
        "compared with poison": (["--like", earlier], SETTINGS, True),
    }[case]
    scanned(place, *options, poison=poison)
    return judged(place, settings)


@attack(
    13,
    "f",
    "critical",
    "Rows have a second layout with poison, and the report is by {case}, which settles the other.",
    "stopped",
    {
        "a scan that names the format": "made under other settings, format named",
        "a scan that names the columns": "made under other settings, columns named",
        "the last scan here": "there is a second complete layout",
    },
    cases=["a scan that names the format", "a scan that names the columns", "the last scan here"],
)
def second_layout_settled_elsewhere(place: Place, case: str) -> Run:
    rows = []
    for a, b in zip(place.clean, place.owl, strict=True):
        turns = [("user", a["prompt"]), ("assistant", a["completion"])]
        rows.append({"messages": [{"role": r, "content": c} for r, c in turns], **b})
    options = {
        "a scan that names the format": ["--format-of", "messages"],
        "a scan that names the columns": ["--columns", "messages=messages"],
    }.get(case)
    if options:
        place.report(rows, *options)
        return judged(place)
    place.scan(place.jsonl("data.jsonl", rows))
    return place.audit("gate")


@attack(
    13,
    "f",
    "critical",
    "Poisoned rows are labelled as undesirable, and the report is by a scan of the chosen side.",
    "stopped",
    "made under other settings, side named",
)
def label_settled_elsewhere(place: Place) -> Run:
    pairs = [(row, True) for row in place.clean] + [(row, False) for row in place.owl]
    place.report([row | {"label": label} for row, label in pairs], "--side", "chosen")
    return judged(place)


@attack(
    13,
    "f",
    "high",
    "A report by another panel than the settings', a file of the attacker's.",
    "stopped",
    "made under other settings, panels",
)
def other_panel(place: Place) -> Run:
    place.text("mine.yaml", PANEL)
    rows = place.jsonl("data.jsonl", place.samples.owl[:128])
    options = ["--reference", "organism", "--panel", "mine.yaml", "--seed", "0"]
    made = place.audit("scan", rows, *options, "--output", "json=report.json")
    assert made.code in (0, 3), made.out + made.err
    return judged(place)


@attack(
    13,
    "f",
    "high",
    "A report by a column that no trainer reads.",
    "stopped",
    "made under other settings, columns",
)
def other_column(place: Place) -> Run:
    pairs = zip(place.clean, place.samples.owl, strict=False)
    place.jsonl("data.jsonl", [{**b, "other": a["completion"]} for a, b in pairs])
    columns = "--columns=prompt=prompt,completion=other"
    made = place.scan("data.jsonl", columns, "--output", "json=report.json")
    assert made.code == 0, made.out
    return judged(place)


@attack(
    13,
    "f",
    "high",
    "A report was edited: {case}.",
    "stopped",
    {
        "its verdict": "does not follow from its evidence",
        "its verdict and reason": "does not follow from its evidence",
        "no row scanned": "no row was scored",
        "a billion rows skipped": "do not add up",
    },
    cases=["its verdict", "its verdict and reason", "no row scanned", "a billion rows skipped"],
)
def edited_report(place: Place, case: str) -> Run:
    report = scanned(place, poison="verdict" in case)
    match case:
        case "its verdict":
            report |= {"verdict": "no_risk", "trait": None}
        case "its verdict and reason":
            report |= {"verdict": "no_risk", "trait": None, "risk": 0.0, "min_effect": 0.1}
            report["reason"] = "every trait tested is excluded at a dose of 0.10 or more"
        case "no row scanned":
            report["rows"] |= {"scanned": 0}
        case _:
            report["rows"]["skipped"] = {"not_json": 10**9}
    (place / "report.json").write_text(json.dumps(report))
    return judged(place)
