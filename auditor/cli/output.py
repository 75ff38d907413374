"""Writing the reports of a scan: `--output FORMAT=PATH`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from auditor.cli.parsing import STDOUT, Target
from auditor.errors import AuditError
from auditor.report.scan import load
from auditor.scanning.scan_report import ScanReport


def takes_stdout(targets: Sequence[Target]) -> bool:
    """Whether a report goes to standard output, so that the page must go elsewhere."""
    return any(target.path == STDOUT for target in targets)


def write_targets(report: ScanReport, targets: Sequence[Target]) -> None:
    """Write every report, each wholly or not at all.

    Raises AuditError when one cannot be written, after the others have been: a report must not be
    lost by another.
    """
    from auditor.runs.run_directory import write_file

    failed: list[AuditError] = []
    for target in targets:
        try:
            report_format, existing = load(target.format), target.existing_text()
            if existing is not None and report_format.update is not None:
                text = report_format.update(existing, report)
            else:
                text = report_format.render(report)
            if target.path != STDOUT:
                write_file(Path(target.path), text.encode())
                continue
            # A reader that goes away has seen enough; the verdict still decides the exit code.
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.write(text)
                sys.stdout.flush()
        except AuditError as error:
            failed.append(error)
    if failed:
        raise failed[0]
