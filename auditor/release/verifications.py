"""Verifications (`audit verify`) that speak for a mitigated data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import InputError
from auditor.inference.effect import REMOVED
from auditor.release.decision import Defended, Rule
from auditor.runs import HOME
from auditor.scanning.scan_report import OutcomeName

PASSING: dict[Defended, tuple[str, ...]] = {
    "reduced": ("reduced", "removed"),
    "removed": ("removed",),
}
LIMITS: dict[Defended, float] = {"reduced": 1.0, "removed": REMOVED}


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What one verification says of one mitigated data set.

    trait: read out. verdict: as `auditor.inference.paired.verdict`. left: 95 % interval of the
    share of the effect that is left; None where there is none.
    """

    trait: str
    verdict: str
    left: tuple[float, float] | None


def judge_checked(checked: Sequence[VerificationResult], wanted: Defended, what: str) -> Rule:
    """Whether the verifications show what is wanted of `what`: a failed one decides, then one that
    passed.
    """
    rules = [_judged(each, wanted) for each in checked]
    for outcome in ("failed", "passed", "inconclusive"):
        for rule in rules:
            if rule.outcome == outcome:
                return Rule("mitigation", outcome, f"{what}: {rule.text}")
    hint = "make one with `audit verify ORIGINAL MITIGATED`"
    return Rule(
        "mitigation",
        "failed",
        f"{what}: no verification of this data set on this reference; {hint}",
    )


def defended(
    verdict: str | None, left: tuple[float, float] | None, wanted: Defended
) -> OutcomeName:
    """Whether a defence is shown to do what is wanted (passed), shown not to (failed), or
    neither.
    """
    if verdict in PASSING[wanted]:
        return "passed"
    return "failed" if left is not None and left[0] >= LIMITS[wanted] else "inconclusive"


def _judged(each: VerificationResult, wanted: Defended) -> Rule:
    share = (
        f", {each.left[0]:.0%} to {each.left[1]:.0%} of the effect on {each.trait} left"
        if each.left
        else ""
    )
    text = f"{each.verdict}{share}; {wanted} is asked for"
    return Rule("mitigation", defended(each.verdict, each.left, wanted), text)


def read_verifications(root: Path, files: Sequence[Path]) -> list[dict[str, Any]]:
    """The reports of `audit verify` that `files` name, and those of the runs in `root`.

    Raises InputError when a file is no such report; runs that are none, or not finished, are passed
    over.
    """
    named = [_read(path) for path in files]
    for path, value in zip(files, named, strict=True):
        if value is None:
            raise InputError(
                f"{path} is no report of audit verify.",
                "Write one with audit verify --output json=PATH.",
            )
    runs = [_read(path) for path in sorted((root / HOME / "runs").glob("*/report.json"))]
    return [value for value in [*named, *runs] if value is not None]


def about(
    verifications: Sequence[Mapping[str, Any]], digest: str, reference: Mapping[str, Any]
) -> Iterator[VerificationResult]:
    """What the verifications say of the mitigated data set with this digest
    (`auditor.students.arms.digest`).

    Only those count that trained students of the same reference weights and read out a trait.
    """
    for value in verifications:
        if value["trait"] is None or value["reference"]["sha256"] != reference["sha256"]:
            continue
        for arm in value["arms"][1:]:
            if value["datasets"].get(arm["name"]) == digest:
                left = arm["left"] and arm["left"]["interval"]
                yield VerificationResult(
                    value["trait"], arm["verdict"], tuple(left) if left else None
                )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        whole = value["kind"] == "verify" and value["schema_version"] == 1
        whole = whole and all(key in value for key in ("trait", "reference", "arms", "datasets"))
        return value if whole else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
