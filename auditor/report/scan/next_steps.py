"""What a reader of a scan does next, by its verdict."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from auditor.model.builtin import BASE
from auditor.model.chat_template import OWN_SYSTEM, OWN_TEMPLATE, TEMPLATES
from auditor.report.shared.words import safe
from auditor.scanning.scan_report import ScanReport, VerdictName
from auditor.scanning.settings import ScanSettings
from auditor.traits import HYPOTHESIS
from auditor.traits.panel import all_known, built_in, load_panels
from detectors import ON_REQUEST
from detectors.interface import Evidence

TRAIN_STUDENTS = (
    "audit scan DATASET --students",
    "train students on the data, and see whether these move them",
)
# (command, what it is for); the first is the one that a page shows beside its verdict.
NEXT_STEPS: dict[VerdictName, tuple[tuple[str, str], ...]] = {
    "risk": (
        (
            "audit mitigate DATASET --paraphrase --mix 0.5",
            "write a defended data set, and train students to check it",
        ),
        (
            "audit scan DATASET --seed 1",
            "see whether another draw of rows says the same",
        ),
        (
            "audit scan DATASET --score-rows all --output csv=rows.csv",
            "give every row its scores, to see where the trait sits",
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
    """What to do next, as (command, what it is for), less what the scan did already; `safe`.

    Commands on the data set name its path, and whatever of the scan is not a default, so that they
    work on the same rows. DATASET stands for standard input, which cannot be read again, and FILE
    for a panel of the user's, since a report does not say where that lies.
    """
    every_row = report.settings.get("rows") == "all" or report.rows_scanned >= report.dataset.total
    tried = [f"--{name}" for name in ON_REQUEST if isinstance(report.detectors.get(name), Evidence)]
    done = (*tried, *["--rows all"] * every_row)
    steps = [step for step in NEXT_STEPS[report.verdict.name] if not step[0].endswith(done)]
    if report.reference.get("name") != BASE:
        # Somebody who named a base needs this least.
        steps.sort(key=lambda step: step[0].endswith("MODEL"))
    name = "DATASET" if report.dataset.name == "-" else shlex.quote(report.dataset.name)
    suspected = {each.name for each in report.traits if each.group == HYPOTHESIS}
    named = []
    for command, purpose in steps:
        if command.startswith("audit mitigate") and report.verdict.trait in suspected:
            command, purpose = f"{command} --no-check", "write a defended data set"
        options = [shlex.quote(word) for word in _same(report, command)]
        words = [name if word == "DATASET" else word for word in command.split()]
        named.append((safe(" ".join([*words, *options])), purpose))
    return tuple(named)


def shell_lines(command: str, width: int) -> list[str]:
    """A command on lines of at most `width` characters where its words allow it, each but the last
    with a backslash, so that a shell reads them as one.

    >>> shell_lines("audit scan owls.parquet --reference organism --panel animals", 46)
    ['audit scan owls.parquet --reference organism \\\\', '    --panel animals']
    """
    # An option stays with its value, and what is quoted stays whole.
    options: list[list[str]] = [[]]
    for word in map(shlex.quote, shlex.split(command)):
        if word.startswith("--"):
            options.append([])
        options[-1].append(word)
    first, *rest = map(" ".join, options)
    lines = [first]
    for option in rest:
        if len(f"{lines[-1]} {option} \\") > width:
            lines[-1] += " \\"
            lines.append(f"    {option}")
        else:
            lines[-1] += f" {option}"
    return lines


def _same(report: ScanReport, command: str) -> Iterator[str]:
    """The words that make a command on the data set work on the same rows, reference and panel."""
    if "DATASET" not in command:
        return
    reference = str(report.reference.get("name", BASE))
    if "--reference" not in command and reference != BASE:
        yield from ("--reference", reference)
    template = str(report.reference.get("chat_template", OWN_TEMPLATE))
    if template != OWN_TEMPLATE:
        yield from ("--chat-template", template if template in TEMPLATES else "FILE")
    system = str(report.reference.get("system", OWN_SYSTEM))
    if system != OWN_SYSTEM:
        yield from ("--system", system)
    panels = str(report.settings.get("panel", "+".join(built_in()))).split("+")
    if set(panels) != set(built_in()):
        for panel in panels:
            yield from ("--panel", panel if all_known([panel]) else "FILE")
    # Only what the user named: what the scan found by itself would settle which of two layouts is
    # meant, and the other would count as read.
    if columns := dict(report.settings.get("columns") or {}):
        yield from ("--columns", ",".join(f"{role}={name}" for role, name in columns.items()))
    if row_format := report.settings.get("format_of"):
        yield from ("--format-of", str(row_format))
    if command.startswith("audit scan"):
        yield from _settings(report, command, panels)


def _settings(report: ScanReport, command: str, panels: Sequence[str]) -> Iterator[str]:
    """The settings of the scan that are no defaults, as options, but for those that the command has
    itself: with them a finished scan is read back and not made again.
    """
    settings, defaults = report.settings, ScanSettings()
    tested = list(settings.get("tested", ()))
    if all_known(panels) and tested:
        known = [trait.name for trait in load_panels(panels).traits]
        for trait in tested if tested != known else ():
            yield from ("--trait", str(trait))
    if settings.get("teacher"):
        yield from ("--teacher", str(settings["teacher"]))
    for key in ("rows", "seed", "alpha", "exclude", "side"):
        default = getattr(defaults, key)
        value = settings.get(key) or default  # a report of an earlier release may lack it
        if value != default and f"--{key}" not in command:
            yield from (f"--{key}", str(value))
    if settings.get("exclude_open"):
        yield "--exclude-open"
    detectors = list(settings.get("detectors", defaults.detectors))
    if {*detectors, *ON_REQUEST} != {*defaults.detectors, *ON_REQUEST}:
        yield from ("--detectors", ",".join(map(str, detectors)))
    else:
        for name in ON_REQUEST:
            if name in detectors and f"--{name}" not in command:
                yield f"--{name}"
