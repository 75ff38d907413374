"""The report as JSON, and back.

Documented in docs/report-schema.md, checked against schema.json.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from auditor.data.coverage import Unread
from auditor.data.example import DatasetInfo
from auditor.errors import RunError
from auditor.inference.trait_evidence import TraitEvidence, ranked
from auditor.report.scan.interface import Format
from auditor.report.shared.json_text import JsonObject, json_text
from auditor.report.shared.words import probability_meaning
from auditor.scanning.obstacles import Obstacle
from auditor.scanning.scan_report import ExampleRow, ScanReport, TokenChoice, TokenSpan, Verdict
from auditor.scanning.verdict import leading_trait, reported_text
from detectors.interface import Evidence, Outcome, Skipped, TraitTest

SCHEMA_VERSION = 2
_log = logging.getLogger(__name__)


def render(report: ScanReport) -> str:
    """The whole report. Raises ValueError when a number is NaN or infinite."""
    return json_text(to_dict(report))


def to_dict(report: ScanReport) -> JsonObject:
    """The report as plain JSON values; keys as in docs/report-schema.md."""
    verdict = report.verdict
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict.name,
        "trait": verdict.trait,
        "probability": verdict.probability,
        "probability_meaning": probability_meaning(report),
        "reason": verdict.reason,
        "min_effect": verdict.min_effect,
        "obstacles": [asdict(obstacle) for obstacle in verdict.obstacles],
        "rests_on": list(verdict.rests_on),
        "rows": {
            "total": report.dataset.total,
            "read": report.rows_read,
            "scanned": report.rows_scanned,
            "skipped": dict(report.rows_skipped),
        },
        "dataset": asdict(report.dataset),
        "reference": dict(report.reference),
        "traits": [asdict(trait) | {"interval": list(trait.interval)} for trait in report.traits],
        # A test stands here without its evidence, which `traits` and detector `tuned` have.
        "tests": [
            {"name": test.name, "skipped": test.skipped}
            if test.skipped
            else {
                "name": test.name,
                "rows": test.rows,
                "bounds": dict(test.bounds),
                "own_text": test.own_text,
            }
            for test in report.tests
        ],
        "leading_trait": report.leading_trait,
        "divergence": _values(report.divergence),
        "detectors": {name: _values(outcome) for name, outcome in report.detectors.items()},
        "openly": dict(report.openly),
        "examples": [_example(row) for row in report.examples],
        "timing": dict(report.timing),
        "settings": dict(report.settings),
        "versions": dict(report.versions),
        "run": report.run,
        "created": report.created,
        "origins": None if report.origins is None else dict(report.origins),
    }


def from_dict(value: JsonObject) -> ScanReport:
    """The report that `to_dict` wrote.

    Raises RunError for another schema version or a report that lacks something.
    """
    if value.get("schema_version") != SCHEMA_VERSION:
        raise RunError(
            f"The report has schema version {value.get('schema_version')!r}; this release reads "
            f"{SCHEMA_VERSION}.",
            "Scan the data set again with this release.",
        )
    # Whatever lacks is a key or a value of another type, wherever in the report it stands.
    try:
        return _report(value)
    except (KeyError, TypeError) as error:
        raise RunError(
            f"The report is incomplete ({error}).", "Scan the data set again."
        ) from error


def _report(value: JsonObject) -> ScanReport:
    detectors: dict[str, Outcome] = {
        name: _skip(outcome) or Evidence(name, outcome["summary"], outcome["values"])
        for name, outcome in value["detectors"].items()
    }
    verdict = Verdict(
        value["verdict"],
        value["probability"],
        value["reason"],
        value["trait"],
        value["min_effect"],
        tuple(Obstacle(**obstacle) for obstacle in value.get("obstacles", ())),
        tuple(value.get("rests_on", ())),
    )
    unread = tuple(Unread(**item) for item in value["dataset"].get("unread", ()))
    tests = tuple(_read_tests(value, detectors))
    # The leading trait is worked out anew, as a report of an earlier release does not name it.
    origins = value.get("origins")
    alpha, text = float(value["settings"]["alpha"]), reported_text(detectors, value["settings"])
    return ScanReport(
        dataset=DatasetInfo(**value["dataset"] | {"unread": unread}),
        verdict=verdict,
        tests=tests,
        leading_trait=leading_trait(verdict, tests, text, alpha),
        rows_scanned=value["rows"]["scanned"],
        rows_skipped=value["rows"]["skipped"],
        reference=value["reference"],
        divergence=_skip(value["divergence"]) or value["divergence"],
        detectors=detectors,
        openly=value["openly"],
        examples=tuple(_read_example(row) for row in value["examples"]),
        timing=value["timing"],
        settings=value["settings"],
        versions=value["versions"],
        rows_read=value["rows"].get("read"),
        run=value.get("run", ""),
        created=str(value.get("created", "")),
        origins=None if origins is None else dict(**origins),
    )


def _read_tests(value: JsonObject, detectors: Mapping[str, Outcome]) -> Iterator[TraitTest]:
    """The tests of a report. One of an earlier release does not list them; then the upper ends of
    its two-sided intervals, which are larger, take the place of the one-sided bounds.
    """
    settings, tuned = value["settings"], detectors.get("tuned")
    tested = settings.get("tested", [trait["name"] for trait in value["traits"]])
    copies = tuned.values if isinstance(tuned, Evidence) else {}
    # The evidence of each test stands where it stood before reports had a list of tests.
    students = detectors.get("students")
    by_students = students.values["traits"] if isinstance(students, Evidence) else []
    evidence = {
        "prompts": value["traits"],
        "tuned copies": copies.get("traits", []),
        "students": by_students,
    }
    tests = value.get("tests")
    if tests is None:
        _log.info("the report lists no tests: they are made up from its evidence")
        tests = []
        names = settings.get("detectors", ["trait"])
        if "trait" in names:
            tests.append({"name": "prompts", "rows": value["rows"]["scanned"]})
        if "tuned" in names and isinstance(tuned, Skipped):
            tests.append({"name": "tuned copies", "skipped": tuned.reason})
        elif copies:
            tests.append({"name": "tuned copies", "rows": copies["rows"]})
    least, alpha = (
        reported_text(detectors, settings).min_reported_dose,
        float(settings["alpha"]),
    )
    # The order of the traits is made anew, so that every reader of a report has the same one.
    for test in tests:
        traits = [
            TraitEvidence(**trait | {"interval": tuple(trait["interval"])})
            for trait in evidence[test["name"]]
        ]
        upper = {trait.name: trait.interval[1] for trait in traits}
        missing = [name for name in tested if name not in upper]
        if test["name"] == "tuned copies" and len(missing) == copies.get("not_taught"):
            missing = []  # No copy was tuned on these, so that the test is not about them.
        bounds = test.get("bounds", upper | dict.fromkeys(missing))
        yield TraitTest(
            test["name"],
            ranked(traits, alpha, least),
            {} if "skipped" in test else bounds,
            test.get("rows", 0),
            test.get("skipped", ""),
            test.get("own_text", False),
        )


def _values(outcome: Outcome | Mapping[str, object]) -> Mapping[str, object]:
    """What was measured, or the reason why it was not."""
    if isinstance(outcome, Skipped):
        return {"skipped": outcome.reason}
    if isinstance(outcome, Evidence):
        return {"summary": outcome.summary, "values": outcome.values}
    return dict(outcome)


def _example(row: ExampleRow) -> JsonObject:
    tokens = []
    for token in row.tokens:
        value: JsonObject = {"text": token.text, "flag": token.flag}
        # Most tokens are not flagged and have no choices; without the key the file stays small.
        if token.choices:
            value["choices"] = [asdict(choice) for choice in token.choices]
        tokens.append(value)
    return {"index": row.index, "prompt": row.prompt, "tokens": tokens}


def _read_example(row: JsonObject) -> ExampleRow:
    tokens = tuple(
        TokenSpan(
            token["text"],
            token["flag"],
            tuple(TokenChoice(**choice) for choice in token.get("choices", ())),
        )
        for token in row["tokens"]
    )
    return ExampleRow(row["index"], row["prompt"], tokens)


def _skip(value: JsonObject) -> Skipped | None:
    return Skipped(value["skipped"]) if "skipped" in value else None


FORMAT = Format(render)
