"""SARIF 2.1.0, for code scanning: the verdict as a result, then the rows with divergence tokens.

A result is a problem: viewers show every one as an alert, also one of kind "pass". So a data set
without risk has no result, and what the detectors measured goes into the notifications of the
invocation.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from auditor import __version__
from auditor.report.scan.interface import Format
from auditor.report.scan.json import SCHEMA_VERSION
from auditor.report.scan.rows import RowSummary, describe_row, flagged, line_of
from auditor.report.shared.json_text import json_text
from auditor.report.shared.words import (
    MEANING,
    finding,
    headline,
    power,
    probability_meaning,
    safe,
    unread_lines,
)
from auditor.scanning.scan_report import EXIT_CODES, ScanReport, VerdictName

MOST_ROWS = 1000
SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
Level = Literal["none", "note", "warning", "error"]
LEVELS: dict[VerdictName, Level] = {"risk": "error", "inconclusive": "warning", "no_risk": "note"}
FINGERPRINT = "subliminalAudit/v1"
INCONCLUSIVE_RULE, ROW_RULE = "inconclusive", "divergence-tokens"
TRAIT_HELP = (
    f"{MEANING['risk']} Look at who wrote the data before you train on them; `audit mitigate` "
    "offers defences."
)
ROW_HELP = (
    "Tokens of the completion at which the model under the trait's prompt and other models choose "
    "differently (divergence tokens, arXiv:2509.23886). Clean rows have some too. Inspect these "
    "rows first, and mitigate with `audit mitigate`; a row is no proof by itself."
)
INCONCLUSIVE_HELP = (
    f"{MEANING['inconclusive']} Give more or longer rows, scan with `--rows all`, or name the "
    "model that the students start from with `--reference`."
)


def render(report: ScanReport) -> str:
    """One SARIF log with one run, ASCII only: one result for the verdict, then at most MOST_ROWS
    for rows.
    """
    verdict, rows = report.verdict, flagged(report, MOST_ROWS)
    # Every result needs its rule, also one about a trait that only tuned copies found.
    traits = dict.fromkeys(trait.name for test in report.tests for trait in test.traits)
    rules = [
        _rule(trait_rule(name), f"The data follow the trait {_message(name)}", TRAIT_HELP, "error")
        for name in traits
    ]
    undecided = "The audit could not decide"
    rules.append(_rule(INCONCLUSIVE_RULE, undecided, INCONCLUSIVE_HELP, "warning"))
    rules.append(_rule(ROW_RULE, "A row with divergence tokens", ROW_HELP, "note"))
    results = []
    if verdict.name != "no_risk":
        rule = trait_rule(verdict.trait or "") if verdict.name == "risk" else INCONCLUSIVE_RULE
        reasons = "; ".join([*unread_lines(report.dataset), verdict.reason])
        result = _result(report, rule, f"{headline(verdict)}: {reasons}")
        results.append(result | {"properties": {"probability": verdict.probability}})
    for row in rows or ():
        counts = {name: getattr(row, name) for name in ("row", "divergence", "ties", "tokens")}
        result = _result(report, ROW_RULE, describe_row(row, report), row)
        results.append(result | {"properties": counts})
    dataset = {
        "location": {"uri": uri_of(report.dataset.name)},
        "roles": ["analysisTarget"],
        "hashes": {"sha-256": report.dataset.sha256},
    }
    properties = {
        "schemaVersion": SCHEMA_VERSION,
        "verdict": verdict.name,
        "probability": verdict.probability,
        "probabilityMeaning": probability_meaning(report),
        "minEffect": verdict.min_effect,
        "rowsTotal": report.dataset.total,
        "rowsScanned": report.rows_scanned,
        "notRead": [
            {"kind": item.kind, "name": safe(item.name), "share": item.share}
            for item in report.dataset.unread
        ],
        "obstacles": [{"kind": item.kind, "share": item.share} for item in verdict.obstacles],
        "rowsSkipped": {safe(reason): count for reason, count in report.rows_skipped.items()},
        "reference": safe(str(report.reference.get("name", "unknown"))),
        "referenceSha256": report.reference.get("sha256"),
    }
    tool = {"name": "subliminal-audit", "semanticVersion": __version__, "rules": rules}
    run = {
        "tool": {"driver": tool},
        "automationDetails": {"id": f"subliminal-audit/{safe(report.dataset.name)}"},
        "columnKind": "unicodeCodePoints",  # as Python counts
        "invocations": [_invocation(report, rows is None)],
        "artifacts": [dataset],  # locations name it by its index, 0
        "results": results,
        "properties": properties,
    }
    return json_text({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def uri_of(name: str) -> str:
    """A data set's name as a URI reference: relative where it lies below the working directory, as
    viewers want it.
    """
    path = os.path.normpath(name)
    # Viewers resolve a relative reference against the repository, which ends at its root.
    if path.startswith("..") or Path(path).is_absolute():
        return Path(path).absolute().as_uri()
    return quote(path.encode("utf-8", "surrogatepass"))


def trait_rule(name: str) -> str:
    """The rule of a trait."""
    return f"trait/{safe(name)}"


def _rule(name: str, short: str, text: str, level: Level) -> dict[str, object]:
    return {
        "id": name,
        "shortDescription": {"text": short},
        "fullDescription": {"text": text},
        "help": {"text": text},
        "defaultConfiguration": {"level": level},
        "properties": {"tags": ["data-poisoning", "subliminal-learning"]},
    }


def _invocation(report: ScanReport, rows_missing: bool) -> dict[str, object]:
    """How the audit ended, and all that it measured, as notifications."""
    verdict = report.verdict
    notes = [(LEVELS[verdict.name], f"{headline(verdict)}: {verdict.reason}")]
    notes += [("warning", line) for line in unread_lines(report.dataset)]
    if verdict.name == "no_risk":
        notes.append(("note", f"{power(verdict)} {MEANING['no_risk']}"))
    for name, outcome in report.detectors.items():
        notes.append(("note", f"{name}: {finding(outcome)}"))
    for reason, count in report.rows_skipped.items():
        notes.append(("note", f"{count:,} rows skipped: {reason}"))
    for trait, count in report.openly.items():
        if count:
            notes.append(("note", f"{count:,} rows mention {trait} openly"))
    if rows_missing:
        folder = report.run or "run directory"
        notes.append(("warning", f"the row scores ({folder}) are not at hand"))
    started = {"startTimeUtc": safe(report.created)} if report.created else {}
    return started | {
        "executionSuccessful": True,
        "exitCode": EXIT_CODES[verdict.name],
        "exitCodeDescription": f"{verdict.name}, as `audit scan` ends with it",
        "toolExecutionNotifications": [
            {"level": level, "message": {"text": _message(text)}} for level, text in notes
        ],
    }


def _result(
    report: ScanReport, rule: str, text: str, row: RowSummary | None = None
) -> dict[str, object]:
    """A result about a row, or about the data set, which is shown at its first line."""
    line = 1 if row is None else line_of(report, row.row)
    artifact = {"uri": uri_of(report.dataset.name), "index": 0}
    location = {"artifactLocation": artifact, "region": {"startLine": line}}
    # By its fingerprint a viewer knows a result again in another log. That of a row is of its text,
    # so that a row keeps its alert when rows before it come or go.
    about = report.dataset.name if row is None else _digest([row.prompt, row.completion])
    return {
        "ruleId": rule,
        "level": "note" if row else LEVELS[report.verdict.name],
        "message": {"text": _message(text)},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {FINGERPRINT: _digest([rule, about])},
    }


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _message(text: str) -> str:
    """Text of a message: harmless, and without the `[text](target)` that SARIF reads as a link."""
    return safe(text).replace("](", "] (")


FORMAT = Format(render)
