"""Verifications (`audit verify`) that speak for a mitigated data set."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from auditor.errors import InputError
from auditor.inference.effect import REMOVED, Interval, Ratio
from auditor.release.decision import Defended, Rule
from auditor.runs import HOME
from auditor.runs.signing import read_signed
from auditor.scanning.scan_report import OutcomeName

PASSING: dict[Defended, tuple[str, ...]] = {
    "reduced": ("reduced", "removed"),
    "removed": ("removed",),
}
LIMITS: dict[Defended, float] = {"reduced": 1.0, "removed": REMOVED}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What one verification says of one mitigated data set.

    trait: read out. verdict: as `auditor.inference.paired.verdict`. left: 95 % interval of the
    share of the effect that is left; None where there is none.
    """

    trait: str
    verdict: str
    left: Interval | None


class Arm(BaseModel):
    """One data set of a verification. left: None for the original. verdict: None where no trait was
    read out.
    """

    name: str
    verdict: str | None
    left: Ratio | None


class Verification(BaseModel):
    """What the gate reads of a report of `audit verify` (docs/verify-schema.md).

    reference: the identity of the model that the students started from, with "sha256". arms: the
    original first. datasets: SHA-256 of what each data set trains on, by its name.
    """

    kind: Literal["verify"]
    schema_version: Literal[1]
    trait: str | None
    reference: dict[str, str]
    arms: list[Arm]
    datasets: dict[str, str]


def judge_checked(checked: Sequence[VerificationResult], goal: Defended, subject: str) -> Rule:
    """Whether the verifications show that a defence reached its goal: a failed one decides, then
    one that passed.
    """
    rules: dict[OutcomeName, Rule] = {}
    for result in checked:
        share = ""
        if result.left:
            low, high = result.left
            share = f", {low:.0%} to {high:.0%} of the effect on {result.trait} left"
        outcome = defended(result.verdict, result.left, goal)
        text = f"{subject}: {result.verdict}{share}; {goal} is asked for"
        rules.setdefault(outcome, Rule("mitigation", outcome, text))
    missing = (
        f"{subject}: no verification of this data set on this reference; make one with `audit "
        "verify ORIGINAL MITIGATED`"
    )
    # An experiment that says nothing must not hide another one that passed.
    decisive = rules.get("failed") or rules.get("passed") or rules.get("inconclusive")
    return decisive or Rule("mitigation", "failed", missing)


def defended(verdict: str | None, left: Interval | None, goal: Defended) -> OutcomeName:
    """Whether a defence is shown to reach its goal (passed), shown not to (failed), or neither."""
    if verdict in PASSING[goal]:
        return "passed"
    # The whole interval lies at or above the limit; one that holds the limit says nothing.
    return "failed" if left is not None and left[0] >= LIMITS[goal] else "inconclusive"


def read_verifications(root: Path, files: Sequence[Path]) -> list[Verification]:
    """The reports of `audit verify` that `files` name, and those of the runs in `root` that this
    machine has signed.

    Raises InputError when a file is no such report; runs that are none, or not finished, are passed
    over.
    """
    verifications = []
    for path in files:
        try:
            verifications.append(Verification.model_validate_json(path.read_bytes()))
        except (OSError, ValueError) as error:
            message = f"{path} is no report of audit verify."
            hint = "Write one with audit verify --output json=PATH."
            raise InputError(message, hint) from error
    for path in sorted((root / HOME / "runs").glob("*/report.json")):
        # A run may have come with the data; a file that is named is the user's own word.
        if (content := read_signed(path)) is None:
            continue
        try:
            verifications.append(Verification.model_validate_json(content))
        except ValueError:
            _log.debug("%s is no report of a verification: passed over", path)
    _log.info("read %d verifications, %d of them named", len(verifications), len(files))
    return verifications


def about(
    verifications: Sequence[Verification], digest: str, reference: Mapping[str, object]
) -> Iterator[VerificationResult]:
    """What the verifications say of the mitigated data set with this digest
    (`auditor.students.arms.digest`).

    Only those count that trained students of the same reference weights and read out a trait.
    """
    for verification in verifications:
        trait, sha256 = verification.trait, verification.reference.get("sha256")
        if trait is None or sha256 != reference["sha256"]:
            continue
        for arm in verification.arms[1:]:
            if verification.datasets.get(arm.name) == digest and arm.verdict is not None:
                interval = arm.left.interval if arm.left else None
                yield VerificationResult(trait, arm.verdict, interval)
