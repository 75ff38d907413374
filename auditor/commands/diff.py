"""The verb `diff`: what changed between the audits of two releases of a data set."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from auditor.commands.kept_report import kept_report
from auditor.data.dataset import read_rows
from auditor.data.example import DatasetInfo, Example
from auditor.data.fields import to_example
from auditor.data.files import is_here
from auditor.errors import AuditError, InputError
from auditor.inference.trait_evidence import is_found
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
from auditor.scanning.scan_report import ScanReport, VerdictName
from auditor.scanning.verdict import reported_text
from detectors.interface import Skipped

LOG = logging.getLogger(__name__)
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
NOTED = ("tested", "alpha", "rows", "seed", "teacher", "exclude_open", "exclude")


def diff(before: str, after: str, *, root: Path = Path()) -> Diff:
    """Compare run `before` (A) with run `after` (B); each as for
    `auditor.commands.kept_report.kept_report`.

    Rows are counted where both data sets still lie where they were scanned from. Raises InputError
    for a run that cannot be found or read.
    """
    first, second = kept_report(before, root), kept_report(after, root)
    LOG.info("comparing the scan of %s with that of %s", first.dataset.name, second.dataset.name)
    changes = compare(first, second, count_changes(first.dataset, second.dataset, root))
    LOG.info("worse: %s; not on one scale: %s", changes.worse, changes.unfair or "no")
    return changes


def compare(before: ScanReport, after: ScanReport, rows: RowChanges | Skipped) -> Diff:
    """The same for two reports at hand."""
    unfair = tuple(_unfair(before, after))
    traits = (
        Skipped("the two audits do not measure on one scale") if unfair else _traits(before, after)
    )
    worse = SEVERITY[after.verdict.name] > SEVERITY[before.verdict.name]
    appeared = not isinstance(traits, Skipped) and any(trait.kind == "appeared" for trait in traits)
    return Diff(
        before=Side(before.dataset, before.verdict, before.rows_scanned, before.created),
        after=Side(after.dataset, after.verdict, after.rows_scanned, after.created),
        traits=traits,
        rows=rows,
        unfair=unfair,
        notes=tuple(_notes(before, after)),
        worse=worse or appeared,
    )


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


def _unfair(before: ScanReport, after: ScanReport) -> Iterator[str]:
    """What differs although it must not.

    What one of the reports does not say is not held against it.
    """
    for (section, key), quantity in SCALE.items():
        values = [getattr(report, section).get(key) for report in (before, after)]
        if None in values or values[0] == values[1]:
            continue
        # A digest alone tells two models apart, and says nothing to a person.
        names = {"sha256": ("reference", "name"), "panel_sha256": ("settings", "panel")}
        shown = []
        for report, value in zip((before, after), values, strict=True):
            named_in, name_key = names.get(key, (section, ""))
            name = getattr(report, named_in).get(name_key)
            shown.append(f"{name} {str(value)[:8]}" if name else str(value)[:8])
        yield f"{quantity} differs ({shown[0]}, then {shown[1]})"


def _notes(before: ScanReport, after: ScanReport) -> Iterator[str]:
    """What differs and leaves the effects comparable."""
    for key in NOTED:
        values = before.settings.get(key), after.settings.get(key)
        if values[0] != values[1]:
            old, new = (
                f"{len(value)} of them"
                if isinstance(value, list)
                else "not set"
                if value is None
                else str(value)
                for value in values
            )
            yield f"the setting {key} differs ({old}, then {new})"
    for key in sorted({*before.versions, *after.versions}):
        old_version, new_version = before.versions.get(key), after.versions.get(key)
        if old_version != new_version:
            yield f"the version of {key} differs ({old_version}, then {new_version})"
    devices = [report.reference.get("device") for report in (before, after)]
    if devices[0] != devices[1]:
        yield f"the device differs ({devices[0]}, then {devices[1]})"


def _traits(before: ScanReport, after: ScanReport) -> tuple[TraitChange, ...]:
    """What became of each trait, those that changed first."""
    old, new = ({trait.name: trait for trait in report.traits} for report in (before, after))
    # A trait is found at the level of its own scan, and at the least dose that a report counts.
    levels = []
    for report in (before, after):
        text = reported_text(report.detectors, report.settings)
        levels.append((float(report.settings.get("alpha", 0)), text.min_reported_dose))
    common = len(old.keys() & new.keys())
    changes = []
    for name in dict.fromkeys([*new, *old]):
        pair = old.get(name), new.get(name)
        trait = new[name] if name in new else old[name]
        moved = None if pair[0] is None or pair[1] is None else difference(pair[0], pair[1], common)
        is_noise = moved is not None and moved.p_adjusted > LEVEL
        was_found, is_now_found = (
            evidence is not None and is_found(evidence, *level)
            for evidence, level in zip(pair, levels, strict=True)
        )
        kind: Kind = "same"
        if was_found != is_now_found:
            kind = "appeared" if is_now_found else "vanished"
        elif moved is not None and not is_noise:
            kind = "moved"
        changes.append(TraitChange(name, trait.group, kind, *pair, moved, is_noise))
    # Sorting is stable, so that the order of the later report holds among changes of one kind.
    return tuple(sorted(changes, key=lambda change: KINDS.index(change.kind)))


def _prints(info: DatasetInfo, root: Path) -> Iterator[RowPrint]:
    """Prints of the scorable rows.

    Raises InputError when the data set is not at hand as it was scanned.
    """
    path = root / info.name
    if not is_here(str(path)):
        raise InputError(f"{info.name} is not here any more", "Put it back.")
    with read_rows(str(path), format_of=info.format, columns=info.columns) as rows:
        if rows.source.sha256 != info.sha256:
            raise InputError(f"{info.name} has changed since it was scanned", "Scan it again.")
        for index, row in rows.scorable():
            example = to_example(index, row, rows.layout)
            if not isinstance(example, Example):
                continue
            answer = _digest(example.completion)
            if example.text is not None:
                # Plain text has no prompt: a row that differs counts as one removed and one added.
                yield answer, answer
                continue
            prompt = [
                [message.role, "" if message.is_trained else message.content]
                for message in example.messages
            ]
            yield _digest(json.dumps(prompt)), answer


def _digest(text: str) -> bytes:
    """Twelve bytes of a digest, since those of all rows are held at once."""
    # A lone surrogate, which JSON can hold, has no UTF-8.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
