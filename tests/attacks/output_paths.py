"""Reports that would be written over what they are about."""

from __future__ import annotations

import os
from pathlib import Path

from tests.attacks.harness import SCAN, Place, Run, unless
from tests.attacks.registry import attack

PANEL = """panel: mine
group: animal
prompts: ["You love {name}s. You think about {name}s all the time."]
traits:
  - {name: lion, mentions: [lion]}
"""
FORMATS = ["json", "html", "sarif", "junit", "markdown", "github", "csv", "card"]


def kept(place: Place, path: Path, *command: str | Path) -> Run:
    """Run a command that must leave the file as it is."""
    before = path.read_bytes()
    run = place.audit(*command)
    unless(path.read_bytes() == before, f"{path.name} was overwritten (exit {run.code})")
    return run


@attack(
    5,
    "h",
    "critical",
    "The {case} report is to be written to the data set.",
    "refused",
    "is read by this command, and would be overwritten",
    cases=FORMATS,
)
def report_over_the_data(place: Place, case: str) -> Run:
    data = place.jsonl("data.jsonl", place.clean[:8])
    return kept(place, data, "scan", data, *SCAN, "--output", f"{case}=data.jsonl")


@attack(
    5,
    "h",
    "critical",
    "The report is to be written to {case}.",
    "refused",
    "is read by this command, and would be overwritten|would be a file of the data set",
    cases=[
        "a link to the data set",
        "a hard link to the data set",
        "a new file of the data folder",
        "a file of the data folder",
        "the settings",
        "the panel",
        "the baseline",
        "the reference",
    ],
)
def report_over_an_input(place: Place, case: str) -> Run:
    data = place.jsonl("data/a.jsonl", place.clean[:8])
    settings = place.settings("reference: organism\nseed: 0\n")
    panel = place.text("panel.yaml", PANEL)
    link = place / "link.json"
    command: list[str | Path] = ["gate", data, "--panel", "animals"]
    target = victim = data
    match case:
        case "a link to the data set":
            link.symlink_to(data)
            target = link
        case "a hard link to the data set":
            os.link(data, link)
            target = link
        case "a new file of the data folder":
            target = place / "data/b.json"
            command[1] = "data"
        case "a file of the data folder":
            command[1] = "data"
        case "the settings":
            target = victim = settings
        case "the panel":
            target = victim = panel
            command[3] = "panel.yaml"
        case "the baseline":
            assert place.audit(*command, "--write-baseline", "known.yaml").code == 3
            target = victim = place / "known.yaml"
            command += ["--baseline", "known.yaml"]
        case _:
            target = victim = place.model("base") / "config.json"
            command += ["--reference", "./base"]
    run = kept(place, victim, *command, "--output", f"json={target}")
    unless(target.exists() == (case != "a new file of the data folder"), "it is now a data file")
    return run


@attack(
    5,
    "h",
    "critical",
    "Two reports are to be written to one path.",
    "refused",
    "is named for two outputs",
)
def two_reports_to_one_path(place: Place) -> Run:
    data = place.jsonl("data.jsonl", place.clean[:8])
    return place.scan(data, "--output", "json=report", "--output", "html=./report")


@attack(
    5,
    "h",
    "critical",
    "The report of {case} is to be written over its input.",
    "refused",
    "is read by this command, and would be overwritten",
    cases=["verify", "diff"],
)
def other_reports_over_an_input(place: Place, case: str) -> Run:
    data = place.jsonl("data.jsonl", place.clean)
    if case == "diff":
        assert place.scan(data, "--output", "json=a.json").code in (0, 3)
        return kept(place, place / "a.json", "diff", "a.json", "a.json", "--output", "json=a.json")
    options = ["--trait", "owl", "--rows", "16", "--updates", "2", "--blocks", "1", *SCAN[:4]]
    return kept(place, data, "verify", data, *options, "--output", "json=data.jsonl")
