"""What a reader of a scan does next, by its verdict."""

from __future__ import annotations

import shlex

from auditor.model.builtin import BASE
from auditor.report.shared.words import safe
from auditor.scanning.scan_report import ScanReport, VerdictName
from auditor.traits.panel import built_in
from detectors.interface import Evidence

TRAIN_STUDENTS = (
    "audit verify DATASET --trait none",
    "or train students on the data, and see what they like",
)
# (command, what it is for)
NEXT_STEPS: dict[VerdictName, tuple[tuple[str, str], ...]] = {
    "risk": (
        (
            "audit scan DATASET --seed 1",
            "hold the release, and see whether another draw of rows says the same",
        ),
        (
            "audit mitigate --paraphrase --mix 0.5",
            "write a defended data set, and check it by training students",
        ),
        (
            "audit scan DATASET --rows all",
            "score every row, to inspect the scores in tokens.parquet",
        ),
    ),
    "no_risk": (
        ("audit scan DATASET --output json=report.json", "keep the report with the data set"),
        ("audit traits", "see which traits this verdict covers"),
        (
            "audit scan DATASET --tuned",
            "if the teacher's weights may carry a trait: test tuned copies as well",
        ),
        TRAIN_STUDENTS,
    ),
    "inconclusive": (
        ("audit scan DATASET --rows all", "use every row; if that is too few, give more rows"),
        (
            "audit scan DATASET --reference MODEL",
            "name the base model that the students will start from",
        ),
        TRAIN_STUDENTS,
    ),
}


def next_steps(report: ScanReport) -> tuple[tuple[str, str], ...]:
    """What to do next, as (command, what it is for), less what the scan did already.

    Commands on the data set name the reference and the panels of the scan, unless they are the
    defaults; a panel of the user's is left out, since its file's name is not in the report.
    """
    tuned = isinstance(report.detectors.get("tuned"), Evidence)
    done = ("--tuned",) * tuned + ("--rows all",) * (report.settings.get("rows") == "all")
    reference = str(report.reference.get("name", BASE))
    panels = str(report.settings.get("panel", "")).split("+")
    steps = []
    for command, purpose in NEXT_STEPS[report.verdict.name]:
        if command.endswith(done):
            continue
        # The commands must find what this scan found, so that they name the same model and panels.
        options = []
        if "DATASET" in command and "--reference" not in command and reference != BASE:
            options += ["--reference", shlex.quote(reference)]
        if "DATASET" in command and set(panels) < set(built_in()):
            options += [word for panel in panels for word in ("--panel", panel)]
        steps.append((" ".join([command, *map(safe, options)]), purpose))
    return tuple(steps)
