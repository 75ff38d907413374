"""The report as JSON, and back.

Documented in docs/report-schema.md, checked against schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from auditor.data.example import DatasetInfo
from auditor.errors import RunError
from auditor.inference.trait_evidence import TraitEvidence
from auditor.report.scan.order import by_evidence
from auditor.scanning.scan_report import ExampleRow, ScanReport, TokenChoice, TokenSpan, Verdict
from detectors.interface import Evidence, Skipped

SCHEMA_VERSION = 1
RISK_MEANING = (
    "1 minus the smallest corrected p-value of any trait with a dose of at least 0.1: strength of evidence, from 0 "
    "(none) to 1. It orders data sets audited with the same settings; it is not the probability that a data set is "
    "poisoned. Definition: docs/methods.md, Verdict."
)


def render(report: ScanReport) -> str:
    """The report as indented JSON text, ASCII only, so that text from a data set cannot act on a
    terminal.

    Raises ValueError when a number is NaN or infinite: what was not measured must be `Skipped`.
    """
    return json.dumps(to_dict(report), indent=2, allow_nan=False) + "\n"


def to_dict(report: ScanReport) -> dict[str, Any]:
    """The report as plain JSON values; keys as in docs/report-schema.md, traits sorted by evidence."""
    verdict = report.verdict
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict.name,
        "trait": verdict.trait,
        "risk": verdict.risk,
        "risk_meaning": RISK_MEANING,
        "reason": verdict.reason,
        "min_effect": verdict.min_effect,
        "rows": {
            "total": report.dataset.total,
            "read": report.rows_read,
            "scanned": report.rows_scanned,
            "skipped": dict(report.rows_skipped),
        },
        "dataset": asdict(report.dataset),
        "reference": dict(report.reference),
        "traits": [
            asdict(trait) | {"interval": list(trait.interval)}
            for trait in by_evidence(report.traits)
        ],
        "divergence": _or_skipped(report.divergence),
        "detectors": {name: _evidence(outcome) for name, outcome in report.detectors.items()},
        "openly": dict(report.openly),
        "examples": [_example(row) for row in report.examples],
        "timing": dict(report.timing),
        "settings": dict(report.settings),
        "versions": dict(report.versions),
        "run": report.run,
    }


def from_dict(value: Mapping[str, Any]) -> ScanReport:
    """The report that `to_dict` wrote.

    Raises RunError for another schema version or a report that lacks something.
    """
    if value.get("schema_version") != SCHEMA_VERSION:
        raise RunError(
            f"The report has schema version {value.get('schema_version')!r}; this release reads {SCHEMA_VERSION}.",
            "Scan the data set again with this release.",
        )
    try:
        return _report(value)
    except (KeyError, TypeError) as error:
        raise RunError(
            f"The report is incomplete ({error}).", "Scan the data set again."
        ) from error


def _report(value: Mapping[str, Any]) -> ScanReport:
    return ScanReport(
        dataset=DatasetInfo(**value["dataset"]),
        verdict=Verdict(
            value["verdict"], value["risk"], value["reason"], value["trait"], value["min_effect"]
        ),
        rows_scanned=value["rows"]["scanned"],
        rows_skipped=value["rows"]["skipped"],
        reference=value["reference"],
        traits=tuple(
            TraitEvidence(**trait | {"interval": tuple(trait["interval"])})
            for trait in value["traits"]
        ),
        divergence=_skip(value["divergence"]) or value["divergence"],
        detectors={
            name: _skip(outcome) or Evidence(name, outcome["summary"], outcome["values"])
            for name, outcome in value["detectors"].items()
        },
        openly=value["openly"],
        examples=tuple(
            ExampleRow(row["index"], row["prompt"], tuple(_span(token) for token in row["tokens"]))
            for row in value["examples"]
        ),
        timing=value["timing"],
        settings=value["settings"],
        versions=value["versions"],
        rows_read=value["rows"].get("read"),
        run=value.get("run", ""),
    )


def _or_skipped(value: dict[str, Any] | Skipped) -> dict[str, Any]:
    return {"skipped": value.reason} if isinstance(value, Skipped) else dict(value)


def _evidence(outcome: Evidence | Skipped) -> dict[str, Any]:
    if isinstance(outcome, Skipped):
        return {"skipped": outcome.reason}
    return {"summary": outcome.summary, "values": outcome.values}


def _example(row: ExampleRow) -> dict[str, Any]:
    return {
        "index": row.index,
        "prompt": row.prompt,
        "tokens": [_token(token) for token in row.tokens],
    }


def _token(token: TokenSpan) -> dict[str, Any]:
    value: dict[str, Any] = {"text": token.text, "flag": token.flag}
    return (
        value | {"choices": [asdict(choice) for choice in token.choices]}
        if token.choices
        else value
    )


def _span(value: Mapping[str, Any]) -> TokenSpan:
    choices = tuple(TokenChoice(**choice) for choice in value.get("choices", ()))
    return TokenSpan(value["text"], value["flag"], choices)


def _skip(value: Mapping[str, Any]) -> Skipped | None:
    return Skipped(value["skipped"]) if "skipped" in value else None
