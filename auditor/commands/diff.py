"""The verb `diff`: what changed between the audits of two releases of a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from auditor.data.dataset import read_rows
from auditor.data.example import DatasetInfo, Example
from auditor.data.fields import to_example
from auditor.errors import AuditError, InputError, RunError
from auditor.inference.trait_evidence import TraitEvidence, is_found
from auditor.release.comparison import (
    Diff,
    Kind,
    RowChanges,
    RowPrint,
    Side,
    TraitChange,
    count_rows,
    difference,
)
from auditor.report.scan.json import from_dict
from auditor.runs import HOME
from auditor.scanning.scan_report import ScanReport, VerdictName
from auditor.scanning.verdict import text_profile
from detectors.interface import Skipped

LEVEL = 0.05  # of the corrected test for a difference
SEVERITY: dict[VerdictName, int] = {"no_risk": 0, "inconclusive": 1, "risk": 2}
KINDS: tuple[Kind, ...] = ("appeared", "vanished", "moved", "same")

# What must be alike for two doses to be on one scale, by where it stands in a report.
SCALE = {
    ("reference", "sha256"): "the reference model",
    ("reference", "tokenizer_sha256"): "the tokenizer",
    ("reference", "template_sha256"): "the chat template",
    ("reference", "dtype"): "the number format of the reference",
    ("settings", "panel_sha256"): "the trait panel",
}
NOTED = ("tested", "alpha", "rows", "seed", "teacher", "exclude_open")


def diff(before: str, after: str, *, root: Path = Path()) -> Diff:
    """Compare run `before` (A) with run `after` (B); each as for `read_run`.

    Rows are counted where both data sets still lie where they were scanned from. Raises InputError
    for a run that cannot be found or read.
    """
    first, second = read_run(before, root), read_run(after, root)
    return compare(first, second, count_changes(first.dataset, second.dataset, root))


def compare(before: ScanReport, after: ScanReport, rows: RowChanges | Skipped) -> Diff:
    """The same for two reports at hand."""
    unfair = tuple(_unfair(before, after))
    traits = (
        Skipped("the two audits do not measure on one scale") if unfair else _traits(before, after)
    )
    worse = SEVERITY[after.verdict.name] > SEVERITY[before.verdict.name]
    appeared = not isinstance(traits, Skipped) and any(trait.kind == "appeared" for trait in traits)
    return Diff(
        before=Side(before.dataset, before.verdict, before.rows_scanned),
        after=Side(after.dataset, after.verdict, after.rows_scanned),
        traits=traits,
        rows=rows,
        unfair=unfair,
        notes=tuple(_notes(before, after)),
        worse=worse or appeared,
    )


def read_run(run: str, root: Path = Path()) -> ScanReport:
    """The report of a run: its directory, the beginning of its key under `root`/.audit/runs, or a
    JSON report.

    Raises InputError when there is none or more than one, or when it is no report of a scan.
    """
    path = _find(run, root)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a report.", "Name a run, or a file of --output json=."
        ) from error
    if not isinstance(value, dict) or "verdict" not in value:
        raise InputError(f"{path} is no report of audit scan.", "Name a run of `audit scan`.")
    try:
        return from_dict(value)
    except RunError as error:
        raise InputError(f"{path}: {error.message}", error.hint) from error


def count_changes(before: DatasetInfo, after: DatasetInfo, root: Path) -> RowChanges | Skipped:
    """Count the rows that differ, where both data sets still are what was scanned; Skipped says why
    not.
    """
    if before.sha256 == after.sha256:
        return RowChanges(before.total, 0, 0, 0)
    try:
        return count_rows(list(_prints(before, root)), list(_prints(after, root)))
    except AuditError as error:
        return Skipped(error.message.rstrip("."))


def _find(run: str, root: Path) -> Path:
    path = root / run
    if path.is_file():
        return path
    if path.is_dir():
        found = [path]
    else:
        found = [
            each
            for each in sorted((root / HOME / "runs").glob("*"))
            if run and each.name.startswith(run)
        ]
    if not found:
        raise InputError(
            f"There is no run {run}.",
            "Name a directory under .audit/runs, its key, or a JSON report.",
        )
    if len(found) > 1:
        keys = ", ".join(each.name for each in found[:5])
        raise InputError(f"{len(found)} runs begin with {run}: {keys}.", "Give more of the key.")
    report = found[0] / "report.json"
    if not report.is_file():
        raise InputError(
            f"{found[0]} holds no finished audit.",
            "Let `audit scan` finish: the same command goes on.",
        )
    return report


def _unfair(before: ScanReport, after: ScanReport) -> Iterator[str]:
    """What differs although it must not.

    What one of the reports does not say is not held against it.
    """
    for (part, key), name in SCALE.items():
        old, new = getattr(before, part).get(key), getattr(after, part).get(key)
        if old is not None and new is not None and old != new:
            yield f"{name} differs ({_named(before, part, key)}, then {_named(after, part, key)})"


def _named(report: ScanReport, part: str, key: str) -> str:
    """The value as a person would name it, and enough of a digest to tell two apart."""
    value = str(getattr(report, part)[key])
    name = {
        "sha256": report.reference.get("name"),
        "panel_sha256": report.settings.get("panel"),
    }.get(key)
    return f"{name} {value[:8]}" if name else value[:8]


def _notes(before: ScanReport, after: ScanReport) -> Iterator[str]:
    for key in NOTED:
        old, new = before.settings.get(key), after.settings.get(key)
        if old != new:
            yield f"the setting {key} differs ({_short(old)}, then {_short(new)})"
    for key in sorted({*before.versions, *after.versions}):
        old, new = before.versions.get(key), after.versions.get(key)
        if old != new:
            yield f"the version of {key} differs ({old}, then {new})"
    if before.reference.get("device") != after.reference.get("device"):
        devices = f"{before.reference.get('device')}, then {after.reference.get('device')}"
        yield f"the device differs ({devices})"


def _short(value: Any) -> str:
    return (
        f"{len(value)} of them"
        if isinstance(value, list)
        else "not set"
        if value is None
        else str(value)
    )


def _traits(before: ScanReport, after: ScanReport) -> tuple[TraitChange, ...]:
    old, new = ({trait.name: trait for trait in report.traits} for report in (before, after))
    levels = [
        (float(report.settings.get("alpha", 0)), text_profile(report.detectors).min_reported_dose)
        for report in (before, after)
    ]
    common = len(old.keys() & new.keys())
    order = [trait.name for trait in (*after.traits, *before.traits)]
    changes = [
        _change(old.get(name), new.get(name), levels, common) for name in dict.fromkeys(order)
    ]
    return tuple(sorted(changes, key=lambda change: KINDS.index(change.kind)))


def _change(
    before: TraitEvidence | None,
    after: TraitEvidence | None,
    levels: list[tuple[float, float]],
    common: int,
) -> TraitChange:
    moved = None if before is None or after is None else difference(before, after, common)
    noise = moved is not None and moved.p_adjusted > LEVEL
    was, is_ = (
        trait is not None and is_found(trait, *at)
        for trait, at in zip((before, after), levels, strict=True)
    )
    kind: Kind = "appeared" if is_ and not was else "vanished" if was and not is_ else "same"
    if kind == "same" and moved is not None and not noise:
        kind = "moved"
    some = after or before
    if some is None:
        raise ValueError("a change needs a trait")
    return TraitChange(some.name, some.group, kind, before, after, moved, noise)


def _prints(info: DatasetInfo, root: Path) -> Iterator[RowPrint]:
    """Prints of the scorable rows.

    Raises InputError when the data set is not at hand as it was scanned.
    """
    path = root / info.name
    if not path.exists():
        raise InputError(f"{info.name} is not here any more", "Put it back.")
    with read_rows(str(path), format_of=info.format, columns=info.columns) as rows:
        if rows.source.sha256 != info.sha256:
            raise InputError(f"{info.name} has changed since it was scanned", "Scan it again.")
        for index, row in rows.scorable():
            example = to_example(index, row, rows.layout)
            if isinstance(example, Example):
                yield _print(example)


def _print(example: Example) -> RowPrint:
    """Plain text has no prompt: a row that differs counts as one removed and one added."""
    answer = _digest(example.completion)
    if example.text is not None:
        return answer, answer
    asked = [
        [each.role, "" if each.role == "assistant" else each.content] for each in example.messages
    ]
    return _digest(json.dumps(asked)), answer


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
