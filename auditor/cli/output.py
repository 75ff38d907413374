"""Where reports go: `--output FORMAT=PATH`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import AuditError
from auditor.report.scan import FORMATS, load
from auditor.scanning.scan_report import ScanReport

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Target:
    """One report to write. `path` "-" is standard output."""

    format: str
    path: str


def parse_targets(values: Sequence[str]) -> tuple[Target, ...]:
    """Read `FORMAT=PATH` values. A scan takes minutes, so whatever can be wrong is found here,
    before it.

    Raises AuditError for an unknown format, a path that cannot be a file, or two reports for
    standard output.
    """
    targets = tuple(_target(value) for value in values)
    if sum(target.path == STDOUT for target in targets) > 1:
        raise AuditError(
            "Two reports cannot both go to standard output.", "Give all but one of them a path."
        )
    return targets


def takes_stdout(targets: Sequence[Target]) -> bool:
    """Whether a report goes to standard output, so that the page must go elsewhere."""
    return any(target.path == STDOUT for target in targets)


def write_targets(report: ScanReport, targets: Sequence[Target]) -> None:
    """Write every report, each wholly or not at all.

    Raises AuditError when one cannot be written, after the others have been: a report must not be
    lost by another.
    """
    failed: list[AuditError] = []
    for target in targets:
        try:
            _write(report, target)
        except AuditError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _write(report: ScanReport, target: Target) -> None:
    from auditor.runs.run_directory import write_file

    format_, existing = load(target.format), _existing(target)
    if existing is not None and format_.update is not None:
        text = format_.update(existing, report)
    else:
        text = format_.render(report)
    if target.path == STDOUT:
        _to_stdout(text)
    else:
        write_file(Path(target.path), text.encode())


def _target(value: str) -> Target:
    name, separator, path = value.partition("=")
    if not separator or not path:
        raise AuditError(
            f"--output {value!r} is not FORMAT=PATH.",
            "Write for example --output json=report.json.",
        )
    if name not in FORMATS:
        raise AuditError(f"Unknown report format {name!r}.", f"Known: {', '.join(FORMATS)}.")
    if path != STDOUT and not Path(path).parent.is_dir():
        raise AuditError(
            f"There is no directory {Path(path).parent} for the report.",
            "Create it, or choose another.",
        )
    if Path(path).is_dir() or (path != STDOUT and not os.access(Path(path).parent, os.W_OK)):
        raise AuditError(
            f"{path} cannot be written.", "Name a file in a directory that you may write to."
        )
    target = Target(name, path)
    check = load(name).check
    if check is not None:
        check(_existing(target))
    return target


def _existing(target: Target) -> str | None:
    """What a file holds that the report is to go into, line ends as they are; None where it is
    written anew.
    """
    path = Path(target.path)
    if target.path == STDOUT or load(target.format).update is None or not path.exists():
        return None
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise AuditError(
            f"{path} cannot be read as text.", "Mend it, or name a new file."
        ) from error


def _to_stdout(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; the verdict still decides the exit code.
        return
