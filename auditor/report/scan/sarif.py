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
from typing import Any, Literal
from urllib.parse import quote

from auditor import __version__
from auditor.report.scan.json import RISK_MEANING, SCHEMA_VERSION
from auditor.report.scan.rows import RowSummary, describe_row, flagged, line_of
from auditor.report.shared.words import MEANING, headline, power, safe
from auditor.scanning.scan_report import EXIT_CODES, ScanReport, VerdictName
from detectors.interface import Skipped

MOST_ROWS = 1000
SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
Level = Literal["none", "note", "warning", "error"]
LEVELS: dict[VerdictName, Level] = {"risk": "error", "inconclusive": "warning", "no_risk": "note"}
FINGERPRINT = "subliminalAudit/v1"
INCONCLUSIVE_RULE, ROW_RULE = "inconclusive", "divergence-tokens"
TRAIT_HELP = f"{MEANING['risk']} Look at who wrote the data before you train on them; `audit mitigate` offers defences."
ROW_HELP = (
    "Tokens of the completion at which the model under the trait's prompt and other models choose differently "
    "(divergence tokens, arXiv:2509.23886). Clean rows have some too. Inspect these rows first, and mitigate with "
    "`audit mitigate`; a row is no proof by itself."
)
INCONCLUSIVE_HELP = (
    f"{MEANING['inconclusive']} Give more or longer rows, scan with `--rows all`, or name the model that the students "
    "start from with `--reference`."
)


def render(report: ScanReport) -> str:
    """The report as a SARIF log, ASCII only: one result for the verdict, then at most MOST_ROWS for
    rows.
    """
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(report)]}
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


def uri_of(name: str) -> str:
    """A data set's name as a URI reference: relative where it lies below the working directory, as
    viewers want it.
    """
    path = os.path.normpath(name)
    outside = path.startswith("..") or Path(path).is_absolute()
    return (
        Path(path).absolute().as_uri() if outside else quote(path.encode("utf-8", "surrogatepass"))
    )


def trait_rule(name: str) -> str:
    """The rule of a trait."""
    return f"trait/{safe(name)}"


def _run(report: ScanReport) -> dict[str, Any]:
    rows = flagged(report, MOST_ROWS)
    return {
        "tool": {
            "driver": {
                "name": "subliminal-audit",
                "semanticVersion": __version__,
                "rules": _rules(report),
            }
        },
        "automationDetails": {"id": f"subliminal-audit/{safe(report.dataset.name)}"},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(report, rows is None)],
        "artifacts": [
            {
                "location": {"uri": uri_of(report.dataset.name)},
                "roles": ["analysisTarget"],
                "hashes": {"sha-256": report.dataset.sha256},
            }
        ],
        "results": [*_verdict(report), *(_row(report, row) for row in rows or ())],
        "properties": _properties(report),
    }


def _properties(report: ScanReport) -> dict[str, Any]:
    verdict = report.verdict
    return {
        "schemaVersion": SCHEMA_VERSION,
        "verdict": verdict.name,
        "risk": verdict.risk,
        "riskMeaning": RISK_MEANING,
        "minEffect": verdict.min_effect,
        "rowsTotal": report.dataset.total,
        "rowsScanned": report.rows_scanned,
        "rowsSkipped": {safe(reason): count for reason, count in report.rows_skipped.items()},
        "reference": safe(str(report.reference.get("name", "unknown"))),
        "referenceSha256": report.reference.get("sha256"),
    }


def _rules(report: ScanReport) -> list[dict[str, Any]]:
    names = dict.fromkeys(trait.name for trait in report.traits)
    return [
        *(
            _rule(trait_rule(name), f"The data follow the trait {_text(name)}", TRAIT_HELP, "error")
            for name in names
        ),
        _rule(INCONCLUSIVE_RULE, "The audit could not decide", INCONCLUSIVE_HELP, "warning"),
        _rule(ROW_RULE, "A row with divergence tokens", ROW_HELP, "note"),
    ]


def _rule(name: str, short: str, text: str, level: Level) -> dict[str, Any]:
    return {
        "id": name,
        "shortDescription": {"text": short},
        "fullDescription": {"text": text},
        "help": {"text": text},
        "defaultConfiguration": {"level": level},
        "properties": {"tags": ["data-poisoning", "subliminal-learning"]},
    }


def _invocation(report: ScanReport, rows_missing: bool) -> dict[str, Any]:
    code = EXIT_CODES[report.verdict.name]
    notes = [(LEVELS[report.verdict.name], f"{headline(report.verdict)}: {report.verdict.reason}")]
    if report.verdict.name == "no_risk":
        notes.append(("note", f"{power(report.verdict.min_effect)} {MEANING['no_risk']}"))
    for name, outcome in report.detectors.items():
        found = (
            f"not measured: {outcome.reason}" if isinstance(outcome, Skipped) else outcome.summary
        )
        notes.append(("note", f"{name}: {found}"))
    notes += [
        ("note", f"{count:,} rows skipped: {reason}")
        for reason, count in report.rows_skipped.items()
    ]
    notes += [
        ("note", f"{count:,} rows mention {trait} openly")
        for trait, count in report.openly.items()
        if count
    ]
    if rows_missing:
        notes.append(
            ("warning", f"the row scores ({report.run or 'run directory'}) are not at hand")
        )
    return {
        "executionSuccessful": True,
        "exitCode": code,
        "exitCodeDescription": f"{report.verdict.name}, as `audit scan` ends with it",
        "toolExecutionNotifications": [
            {"level": level, "message": {"text": _text(text)}} for level, text in notes
        ],
    }


def _verdict(report: ScanReport) -> list[dict[str, Any]]:
    verdict = report.verdict
    if verdict.name == "no_risk":
        return []
    rule = trait_rule(verdict.trait or "") if verdict.name == "risk" else INCONCLUSIVE_RULE
    return [
        {
            "ruleId": rule,
            "level": LEVELS[verdict.name],
            "message": {"text": _text(f"{headline(verdict)}: {verdict.reason}")},
            "locations": [_location(report, 1)],
            "partialFingerprints": {FINGERPRINT: _digest(rule, report.dataset.name)},
            "properties": {"risk": verdict.risk},
        }
    ]


def _row(report: ScanReport, row: RowSummary) -> dict[str, Any]:
    return {
        "ruleId": ROW_RULE,
        "level": "note",
        "message": {"text": _text(describe_row(row, report))},
        "locations": [_location(report, line_of(report, row.row))],
        "partialFingerprints": {FINGERPRINT: _digest(ROW_RULE, row.fingerprint)},
        "properties": {
            "row": row.row,
            "divergence": row.divergence,
            "ties": row.ties,
            "tokens": row.tokens,
        },
    }


def _location(report: ScanReport, line: int) -> dict[str, Any]:
    artifact = {"uri": uri_of(report.dataset.name), "index": 0}
    return {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": line}}}


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _text(text: str) -> str:
    """Text of a message: harmless, and without the `[text](target)` that SARIF reads as a link."""
    return safe(text).replace("](", "] (")
