"""What the last scan in a directory worked on and found, for the commands that go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import RunError
from auditor.model.chat_template import OWN_SYSTEM, OWN_TEMPLATE
from auditor.runs.run_directory import last_run, read_json


@dataclass(frozen=True, slots=True)
class LastScan:
    """run: its directory. dataset, format, columns: as the user named them and as they were read.
    sha256: of the data set then.

    reference, chat_template, system: as the user named them. panels: of the built-in ones; empty
    when a file was among them. trait: the one found, else the one with the strongest evidence; None
    when the scan had not got so far. is_reference_named: whether the user named the reference.
    settings: of the scan, as its run directory has them.
    """

    run: Path
    dataset: str
    sha256: str
    format: str
    columns: dict[str, str]
    reference: str
    panels: tuple[str, ...]
    trait: str | None
    is_reference_named: bool
    settings: dict[str, Any]
    chat_template: str = OWN_TEMPLATE
    system: str = OWN_SYSTEM


def last_scan(root: Path) -> LastScan:
    """The last scan noted in `root`.

    Raises RunError when there is none, or when its notes cannot be read.
    """
    path = last_run(root)
    try:
        identity = (read_json(path / "settings.json") or {})["identity"]
        report = read_json(path / "report.json") or {}
        dataset, panels = identity["dataset"], tuple(identity["settings"]["panel"].split("+"))
        return LastScan(
            run=path,
            dataset=dataset["name"],
            sha256=dataset["sha256"],
            format=dataset["format"],
            columns=dataset["columns"],
            reference=identity["reference"]["name"],
            chat_template=identity["reference"].get("chat_template", OWN_TEMPLATE),
            system=identity["reference"].get("system", OWN_SYSTEM),
            panels=panels,
            trait=_trait(report),
            is_reference_named="reference" in (report.get("origins") or ()),
            settings=identity["settings"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"The notes of the last scan ({path}) cannot be read.", "Run `audit scan` again."
        ) from error


def _trait(report: Mapping[str, Any]) -> str | None:
    if not report:
        return None
    trait = report.get("leading_trait") or report["trait"]
    return str(trait) if trait else next((str(entry["name"]) for entry in report["traits"]), None)
