"""The verb `gate`: does a data set pass the policy of a release?"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from auditor.data.dataset import read_rows
from auditor.data.files import digest_of, is_here
from auditor.data.manifest import manifest_of
from auditor.errors import InputError
from auditor.release.baseline import (
    apply,
    check_reference,
    read_baseline,
    render_baseline,
    row_set,
)
from auditor.release.decision import Decision, Rule
from auditor.release.evidence import contradictions, layout_mismatch, mismatches, verdict_of
from auditor.release.judge import findings, judge
from auditor.release.policy import Policy
from auditor.release.verifications import VerificationResult, about, read_verifications
from auditor.report.scan.json import from_dict
from auditor.runs.run_directory import write_file
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.settings import ScanSettings

LOG = logging.getLogger(__name__)


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
    info = report.dataset
    accepted: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    if policy.baseline is not None:
        path = Path(policy.baseline)
        baseline = read_baseline(path)
        check_reference(baseline, report.reference, path)
        LOG.info("baseline %s: %d accepted findings", path, len(baseline.accepted))
        # Without entries nothing can be accepted, and a large data set need not be read again.
        if baseline.accepted:
            rows = row_set(info.name, format_of=info.format, columns=info.columns)
            accepted, rules = apply(baseline, findings(report), rows, today or date.today())
    checked: tuple[VerificationResult, ...] = ()
    mitigated: bool | None = False
    if policy.mitigation is not None:
        from auditor.students.arms import digest, read_arm

        verified = read_verifications(root, verifications)
        mitigated = None  # it cannot be said of a data set that is not here
        if is_here(info.name):
            checked = tuple(about(verified, digest(read_arm(info.name)), report.reference))
            mitigated = manifest_of(Path(info.name), info.sha256) is not None
        LOG.info("%d verifications, %d of this data set", len(verified), len(checked))
    decision = judge(
        report, policy, accepted=accepted, baseline=rules, checked=checked, mitigated=mitigated
    )
    LOG.info("%s: %s by %d rules", info.name, decision.outcome, len(decision.rules))
    return decision


def read_report(
    path: Path, data: str | None = None, settings: ScanSettings | None = None
) -> ScanReport:
    """The report that a scan wrote to `path`, with the verdict that follows from its evidence.

    data: where the data set lies, or the SHA-256 of one that is not here; None is where the report
    says. settings: those in force; None compares none.

    Raises InputError when the file is no report, contradicts itself, was made under other settings,
    is about other bytes than `data` has, or about data that are neither here nor named by their
    SHA-256; RunError for another schema version.
    """
    hint = "Write one with audit scan --output json=PATH."
    try:
        content = json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_distinct_keys,
            parse_constant=_finite,
            parse_float=_finite,
        )
        verdict, name = content["verdict"], content["dataset"]["name"]
        if verdict not in ("risk", "no_risk", "inconclusive"):
            raise InputError(f"{path} has no verdict.", hint)
        report = from_dict(content)
        wrong = next(contradictions(report), None)
        if wrong is None:
            report = replace(report, verdict=verdict_of(report))
        differing = (
            [*mismatches(report, settings), *_other_model(report, settings.reference)]
            if settings
            else []
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = "is no report of audit scan" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}.", hint) from error
    if wrong is not None:
        raise InputError(f"{path} contradicts itself: {wrong}.", "Scan the data set again.")
    place = data or str(name)
    if is_here(place):
        if digest_of(place) != report.dataset.sha256:
            raise InputError(
                f"{path} is about another data set than {place}.", "Scan the data set again."
            )
        if settings:
            with read_rows(
                place,
                format_of=settings.format_of,
                columns=settings.columns,
                side=settings.side,
            ) as rows:
                differing += filter(None, [layout_mismatch(report, rows.layout)])
    elif data != report.dataset.sha256:
        raise InputError(
            f"{path} is about another data set than {place}, or that is not here.",
            f"Name data that are elsewhere by their SHA-256: audit gate SHA256 --report {path}",
        )
    else:
        place = str(name)
    for what, then, now in differing:
        raise InputError(
            f"{path} was made under other settings, {what} {then}; in force is {now}.",
            "Scan the data set again, or give the setting with the command.",
        )
    LOG.info("report %s of %s: %s", path, name, verdict)
    return replace(
        report,
        dataset=replace(report.dataset, name=place),
        origins=_origins(report, settings.origins if settings else {}),
    )


def _origins(report: ScanReport, now: Mapping[str, str]) -> dict[str, str] | None:
    """Where the report's settings came from. Who names the reference now knows whose students it is
    about, however it was made.
    """
    if "reference" not in now:
        return report.origins
    return (report.origins or {}) | {"reference": now["reference"]}


def _other_model(report: ScanReport, name: str) -> list[tuple[str, object, object]]:
    """As `mismatches`, for the files of a reference on this machine: its name says nothing of them.

    Raises ModelError where the reference holds no model any more.
    """
    from auditor.model.builtin import BUILT_IN

    then = report.reference.get("sha256")
    if name in BUILT_IN or name == then or not Path(name).expanduser().exists():
        return []
    from auditor.model.load import digest_of_local

    now = digest_of_local(name, str(report.reference.get("base", "")))
    return [] if now == then else [(f"reference {name} with the digest", then, now)]


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
    return list(found)


def _distinct_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON. Raises ValueError for a key that stands twice: readers differ on those."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands twice")
    return content


def _finite(text: str) -> float:
    """A number of JSON. Raises ValueError for NaN and infinities, which no limit holds."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number
