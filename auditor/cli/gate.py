"""`audit gate`: may this data set be released?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option, echo

from auditor.cli.config import resolved
from auditor.cli.exit import exit_code
from auditor.cli.options import Columns, Device, Fresh, Panels, RowFormat, Tuned
from auditor.cli.output import parse_targets, takes_stdout, write_targets
from auditor.cli.scan import choose_detectors, parse_columns, parse_rows, scan_settings
from auditor.errors import AuditError, InputError
from auditor.release.decision import FailOn
from auditor.scanning.scan_report import ScanReport

if TYPE_CHECKING:
    from auditor.cli.configuration import Config, Resolved
    from auditor.runs.last_scan import LastScan


def gate(
    dataset: Annotated[
        str | None,
        Argument(metavar="DATASET", help="As for scan; default: what was last scanned here."),
    ] = None,
    report: Annotated[
        Path | None,
        Option(metavar="FILE", help="Judge this JSON report of a scan, without scanning."),
    ] = None,
    reference: Annotated[str | None, Option(metavar="MODEL", help="Base of the students.")] = None,
    panel: Panels = None,
    rows: Annotated[str | None, Option(metavar="N|all|auto", help="Rows to score at most.")] = None,
    seed: Annotated[
        int | None, Option(metavar="N", min=0, help="Seed of every random choice.")
    ] = None,
    alpha: Annotated[
        float | None, Option(metavar="RATE", help="Highest rate of false alarms.")
    ] = None,
    dtype: Annotated[str | None, Option(metavar="NAME", help="float32 or bfloat16.")] = None,
    device: Device = None,
    format_of: RowFormat = None,
    columns: Columns = "",
    tuned: Tuned = False,
    fresh: Fresh = False,
    verified: Annotated[
        list[Path] | None, Option(metavar="FILE", help="JSON report of audit verify; repeatable.")
    ] = None,
    baseline: Annotated[str | None, Option(metavar="FILE", help="Accepted findings.")] = None,
    write_baseline: Annotated[
        Path | None,
        Option(metavar="FILE", help="Also write what was found as a baseline to be edited."),
    ] = None,
    fail_on: Annotated[
        FailOn | None, Option(help="Outcomes that are errors; risk: a failed gate only.")
    ] = None,
    exit_zero: Annotated[bool, Option("--exit-zero", help="As --fail-on never.")] = False,
    output: Annotated[
        list[str] | None,
        Option(metavar="FORMAT=PATH", help="Also write the scan's report; repeatable."),
    ] = None,
) -> int:
    """Scan DATASET and judge it by the policy of this directory (audit.yaml, or [tool.audit] of
    pyproject.toml).

    Without a policy the verdict alone decides. A finished scan with the same settings is used
    again.

    Exit codes: 0 passed; 1 failed; 2 usage, configuration or input error; 3 inconclusive. Reports
    are written first.
    """
    targets = parse_targets(output or ())
    asked = {"reference": reference, "panels": panel, "seed": seed, "alpha": alpha, "dtype": dtype}
    asked["rows"] = parse_rows(rows)
    if exit_zero and fail_on not in (None, "never"):
        raise AuditError("--exit-zero and --fail-on contradict each other.", "Give one of them.")
    chosen: FailOn | None = "never" if exit_zero else fail_on
    settings = resolved(**asked, policy_baseline=baseline, policy_fail_on=chosen)
    check_files(settings.config, dataset, write_baseline)

    from auditor.cli.console import show
    from auditor.commands.gate import gate as decide
    from auditor.commands.gate import read_report
    from auditor.commands.gate import write_baseline as write_accepted
    from auditor.report.gate import terminal_page
    from auditor.report.shared.words import safe

    if report is None:
        found = scanned(settings, dataset, device, format_of, columns, fresh, tuned)
    elif (
        any(each is not None for each in (*asked.values(), device, format_of))
        or columns
        or fresh
        or tuned
    ):
        raise AuditError(
            "--report is judged as it is; the options of a scan change nothing.", "Leave them out."
        )
    else:
        found = read_report(report, dataset)
    # Before anything can go wrong with the rules: a report is worth having whatever they say.
    write_targets(found, targets)
    if write_baseline is not None:
        traits = write_accepted(found, write_baseline)
        echo(
            f"{safe(str(write_baseline))}: {len(traits)} findings; write a reason for each.",
            err=True,
        )
    policy = settings.config.policy
    decision = decide(found, policy, verifications=verified or (), root=Path.cwd())
    code = exit_code(decision.outcome, policy.fail_on)
    page = terminal_page(decision, found, f"policy from {policy_origin(settings)}", code)
    show(page, stderr=takes_stdout(targets))
    return code


def check_files(config: Config, dataset: str | None, new_baseline: Path | None) -> None:
    """Find what is wrong with the baselines before a scan. Raises InputError."""
    from auditor.release.baseline import read_baseline

    known = config.policy.baseline
    if known is not None:
        read_baseline(Path(known))
    if dataset == "-" and (known or new_baseline):
        raise InputError(
            "A baseline needs the rows again, and standard input can be read once.", "Give a file."
        )
    if new_baseline is not None and (new_baseline.exists() or not new_baseline.parent.is_dir()):
        raise InputError(f"{new_baseline} exists already or cannot be written.", "Name a new file.")


def scanned(
    settings: Resolved,
    dataset: str | None,
    device: str | None,
    format_of: str | None,
    columns: str,
    fresh: bool,
    tuned: bool,
) -> ScanReport:
    """The report of a new scan, or of a finished one with the same settings."""
    from auditor.cli.console import console
    from auditor.cli.progress import progress_on

    config, roles = settings.config, parse_columns(columns)
    name, reference, panels = dataset, config.reference, config.panels
    if name is None:
        last = last_here()
        name, format_of, roles = last.dataset, format_of or last.format, roles or last.columns
        # What no setting says is as in the last scan.
        reference = reference if "reference" in settings.origins else last.reference
        panels = panels if "panels" in settings.origins else list(last.panels)
    from auditor.commands.scan import scan

    chosen = scan_settings(
        config,
        detectors=choose_detectors("", "", tuned=tuned),
        format_of=format_of,
        columns=roles,
        device=device,
    )
    chosen = replace(chosen, reference=reference, panels=panels)
    with progress_on(console(stderr=True)) as progress:
        return scan(name, chosen, fresh=fresh, root=Path.cwd(), progress=progress)


def last_here() -> LastScan:
    """The last scan in this directory.

    Raises InputError for one of standard input, which cannot be read again.
    """
    from auditor.runs.last_scan import last_scan

    last = last_scan(Path.cwd())
    if last.dataset == "-":
        raise InputError(
            "The last scan here was of standard input.", "Name the data set: audit gate DATASET"
        )
    return last


def policy_origin(settings: Resolved) -> str:
    """Where the policy comes from, in words."""
    origins = [origin for key, origin in settings.origins.items() if key.startswith("policy.")]
    return ", ".join(dict.fromkeys(origins)) or "the defaults"
