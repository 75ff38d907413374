"""The report of a scan that is kept: found by its key or path, and read. No model is loaded."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

from auditor.errors import InputError, RunError
from auditor.report.scan.json import from_dict
from auditor.runs.kept import run_of_key
from auditor.runs.run_directory import last_run
from auditor.runs.signing import read_signed
from auditor.scanning.scan_report import ScanReport

LOG = logging.getLogger(__name__)


def kept_report(run: str | None = None, root: Path = Path()) -> ScanReport:
    """The report of a run: its directory, the beginning of its key under `root`/.audit/runs, or a
    JSON report; None is the last scan in `root`. A run that is found by its key or as the last one
    counts only where this machine has signed it; a path is the user's own word.

    Raises InputError when there is none or more than one, or when it is no report of a scan, and
    RunError where nothing was scanned in `root`.
    """
    path = last_run(root) if run is None else root / run
    is_named = run is not None and path.exists()
    directory = None
    if not path.is_file():
        directory = path if path.is_dir() else run_of_key(root, run or "")
        path = directory / "report.json"
        if not path.is_file():
            raise InputError(
                f"{directory} holds no finished audit.",
                "Let `audit scan` finish: the same command goes on.",
            )
        if not is_named and read_signed(path) is None:
            raise InputError(
                f"{path} was not written on this machine.", "Scan again, or name the file itself."
            )
    LOG.debug("reading %s", path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as a report.", "Name a run, or a file of --output json=."
        ) from error
    if not isinstance(content, dict) or "verdict" not in content:
        raise InputError(
            f"{path} is no report of audit scan.",
            "Name a run of `audit scan`; `audit runs` lists them.",
        )
    try:
        report = from_dict(content)
    except RunError as error:
        raise InputError(f"{path}: {error.message}", error.hint) from error
    return report if directory is None else replace(report, run=os.path.relpath(directory))
