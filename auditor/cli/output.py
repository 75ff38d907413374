"""What a command reads and writes: what must be there, where it may write, and the reports of a
scan, `--output FORMAT=PATH`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from glob import has_magic
from pathlib import Path

from auditor.cli.parsing import STDOUT, Target
from auditor.errors import AuditError, InputError
from auditor.report.scan import load
from auditor.runs import HOME
from auditor.scanning.scan_report import ScanReport

# Read by every command in the working directory, or kept there by an earlier one.
_ALWAYS_READ = ("audit.yaml", "pyproject.toml", HOME)
# What no trainer takes for rows: such a file may lie in the folder of the data, as its card does.
_PAGES = (".html", ".md", ".sarif", ".svg", ".xml")


def check_data_sets(*sources: str | None) -> None:
    """Raise InputError for a data set that is not there, before torch is imported; None is none."""
    from auditor.data.files import check_source

    for source in sources:
        if source is not None:
            check_source(source)


def check_outputs(
    outputs: Iterable[str | Path | None], inputs: Iterable[str | Path | None], data: str | None
) -> None:
    """Raise InputError where a command would write over what it reads, or twice to one path.

    outputs: paths; "-" and None are none. inputs: files, and folders for all of their files; names
    of anything else, such as a built-in model, are passed over. data: the data set, as an input;
    into its folder nothing new is written that would be a part of it the next time.
    """
    from auditor.data.files import matching

    paths = [Path(path) for path in outputs if path is not None and str(path) != STDOUT]
    # Nothing is lost in a device or a pipe.
    paths = [path for path in paths if not _exists(path) or path.is_file()]
    sources = [Path(path).expanduser() for path in (*inputs, *_ALWAYS_READ) if path is not None]
    sources += matching(data or "")
    for number, path in enumerate(paths):
        if any(_same(path, earlier) for earlier in paths[:number]):
            raise InputError(f"{path} is named for two outputs.", "Give each a path of its own.")
        folder = Path(data or STDOUT)
        is_beside = (
            path.resolve().is_relative_to(folder.resolve())
            if _exists(folder) and folder.is_dir()
            else has_magic(data or "") and fnmatch(path.resolve(), folder.resolve())
        )
        if is_beside and path.resolve().suffix.lower() not in _PAGES:
            raise InputError(
                f"{path} would be a file of the data set {folder}.", "Write it elsewhere."
            )
        # What is not there yet overwrites nothing.
        if _exists(path) and any(
            path.samefile(file) for source in (*sources, folder) for file in _files(source)
        ):
            raise InputError(
                f"{path} is read by this command, and would be overwritten.", "Name another file."
            )


def _exists(path: Path) -> bool:
    """Whether a file is there; False also for a path that no file can have, such as one too long,
    for which Python 3.11 raises.
    """
    try:
        return path.exists()
    except OSError:
        return False


def _same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, by links of both kinds too, or would when it is made."""
    if _exists(path) and _exists(other):
        return path.samefile(other)
    return path.resolve() == other.resolve()


def _files(source: Path) -> Iterable[Path]:
    """A file that is there, or those of a folder that are no pages."""
    if not (_exists(source) and source.is_dir()):
        return [source] if _exists(source) else []
    found = (Path(parent, name) for parent, _, names in os.walk(source) for name in names)
    return (path for path in found if path.suffix.lower() not in _PAGES and _exists(path))


def takes_stdout(targets: Sequence[Target]) -> bool:
    """Whether a report goes to standard output, so that the page must go elsewhere."""
    return any(target.path == STDOUT for target in targets)


def write_targets(
    report: ScanReport,
    targets: Sequence[Target],
    page: Callable[[ScanReport], str] | None = None,
) -> None:
    """Write every report, each wholly or not at all. page: what makes the one as HTML, in place of
    that of a scan.

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
            elif page is not None and target.format == "html":
                text = page(report)
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
