"""The verb `gate`: does a data set pass the policy of a release?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from auditor.data.files import digest_of
from auditor.data.manifest import manifest_of
from auditor.errors import InputError
from auditor.release.baseline import (
    Baseline,
    apply,
    check_reference,
    read_baseline,
    render_baseline,
    row_set,
)
from auditor.release.decision import Decision, Rule
from auditor.release.judge import findings, judge
from auditor.release.policy import Policy
from auditor.release.verifications import VerificationResult, about, read_verifications
from auditor.report.scan.json import from_dict
from auditor.runs.run_directory import write_file
from auditor.scanning.scan_report import ScanReport


def gate(
    report: ScanReport,
    policy: Policy,
    *,
    verifications: Sequence[Path] = (),
    root: Path = Path(),
    today: date | None = None,
) -> Decision:
    """Judge the report of a scan by `policy`; see `auditor.release.judge`.

    The data set is read again where a rule needs it: for the policy's baseline, and for checked
    mitigations. verifications: reports of `audit verify`, beside those of the runs in `root`.
    today: what expiry dates are held against.

    Raises: InputError when the baseline or a verification cannot be read, the baseline was made
    with another reference, chat template or number type, or the data set is not the one scanned any
    more.
    """
    accepted: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    if policy.baseline is not None:
        path = Path(policy.baseline)
        known = read_baseline(path)
        check_reference(known, report.reference, path)
        accepted, rules = _accepted(known, report, today or date.today())
    checked, mitigated = (
        _checked(report, verifications, root) if policy.mitigation is not None else ((), False)
    )
    return judge(
        report, policy, accepted=accepted, baseline=rules, checked=checked, mitigated=mitigated
    )


def read_report(path: Path, data: str | None = None) -> ScanReport:
    """The report that a scan wrote to `path`.

    data: where the data set lies; None is where the report says. Raises InputError when the file is
    no report, when it is about other bytes than `data` has, or `data` is not there; RunError for
    another schema version.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        verdict, name = value["verdict"], value["dataset"]["name"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        hint = "Write one with audit scan --output json=PATH."
        raise InputError(f"{path} is no report of audit scan.", hint) from error
    if verdict not in ("risk", "no_risk", "inconclusive"):
        raise InputError(f"{path} has no verdict.", "Write one with audit scan --output json=PATH.")
    report, place = from_dict(value), data or name
    if (data is not None or Path(name).exists()) and digest_of(place) != report.dataset.sha256:
        raise InputError(
            f"{path} is about another data set than {place}.", "Scan the data set again."
        )
    return replace(report, dataset=replace(report.dataset, name=place))


def write_baseline(report: ScanReport, path: Path, *, today: date | None = None) -> list[str]:
    """Write a baseline that accepts what `report` found, and return the traits.

    Raises InputError as `gate` does.
    """
    if "template_sha256" not in report.reference:
        raise InputError(
            "The report does not say which chat template it was made with.",
            "Scan the data set again.",
        )
    found, info = findings(report), report.dataset
    rows = row_set(info.name, format_of=info.format, columns=info.columns)
    text = render_baseline(found, info.name, report.reference, rows, today or date.today())
    write_file(path, text.encode())
    return found


def _accepted(
    known: Baseline, report: ScanReport, today: date
) -> tuple[frozenset[str], tuple[Rule, ...]]:
    if not known.accepted:
        return frozenset(), ()
    info = report.dataset
    return apply(
        known,
        findings(report),
        row_set(info.name, format_of=info.format, columns=info.columns),
        today,
    )


def _checked(
    report: ScanReport, files: Sequence[Path], root: Path
) -> tuple[tuple[VerificationResult, ...], bool | None]:
    """The verifications of the data set, and whether it was mitigated; (), None when it is not
    here.
    """
    from auditor.students.arms import digest, read_arm

    known, name = read_verifications(root, files), report.dataset.name
    if not Path(name).exists():
        return (), None
    arm = digest(read_arm(name))
    mitigated = manifest_of(Path(name), report.dataset.sha256) is not None
    return tuple(about(known, arm, report.reference)), mitigated
