"""`audit gate`: may this data set be released?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option, echo

from auditor.cli import attestation
from auditor.cli.config import resolved
from auditor.cli.exit import exit_code
from auditor.cli.last import tell_last_scan
from auditor.cli.options import (
    Budget,
    ChatTemplate,
    Columns,
    Device,
    Exclude,
    Fresh,
    Panels,
    RowFormat,
    ScanOutput,
    SideOption,
    Students,
    SystemTurn,
    Tuned,
)
from auditor.cli.output import check_data_sets, check_outputs, takes_stdout, write_targets
from auditor.cli.parsing import STDOUT, choose_detectors, parse_columns, parse_rows, parse_targets
from auditor.errors import AuditError, InputError
from auditor.release.decision import FailOn

if TYPE_CHECKING:
    from auditor.release.policy import Policy
    from auditor.scanning.settings import ScanSettings


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
    chat_template: ChatTemplate = None,
    system_turn: SystemTurn = None,
    panel: Panels = None,
    rows: Annotated[str | None, Option(metavar="N|all|auto", help="Rows to score at most.")] = None,
    seed: Annotated[
        int | None,
        Option(
            metavar="N",
            min=0,
            help="Seed of every random choice; default: one that only this machine can know.",
        ),
    ] = None,
    alpha: Annotated[
        float | None, Option(metavar="RATE", help="Highest rate of false alarms.")
    ] = None,
    exclude: Exclude = None,
    budget: Budget = None,
    dtype: Annotated[str | None, Option(metavar="NAME", help="float32 or bfloat16.")] = None,
    device: Device = None,
    format_of: RowFormat = None,
    columns: Columns = "",
    side: SideOption = None,
    tuned: Tuned = False,
    students: Students = False,
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
    output: ScanOutput = None,
    attest: Annotated[
        Path | None,
        Option(metavar="FILE", help="Also write the decision as an in-toto statement."),
    ] = None,
    verify_attestation: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Only check that this statement says: this DATASET passed this policy.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Ed25519 key in PEM: a private one signs --attest, a public one is asked of "
            "--verify-attestation.",
        ),
    ] = None,
) -> int:
    """Scan DATASET and judge it by the policy of this directory (audit.yaml, or [tool.audit] of
    pyproject.toml).

    Without a policy the verdict alone decides. The rows are drawn by a seed that only this machine
    can know, unless --seed or the settings name one. A finished scan with the same seed and
    settings is used again.

    Exit codes: 0 passed; 1 failed; 2 usage, configuration or input error; 3 inconclusive. Reports
    are written first.
    """
    targets = parse_targets(output or ())
    if exit_zero and fail_on not in (None, "never"):
        raise AuditError("--exit-zero and --fail-on contradict each other.", "Give one of them.")
    options = {"reference": reference, "panels": panel, "seed": seed, "alpha": alpha}
    options |= {
        "dtype": dtype,
        "chat_template": chat_template,
        "system": system_turn,
        "rows": parse_rows(rows),
        "exclude": exclude,
    }
    settings = resolved(
        **options,
        budget=budget,
        side=side,
        hazard="required" if students else None,
        policy_baseline=baseline,
        policy_fail_on="never" if exit_zero else fail_on,
    )
    if settings.passed_over is not None:
        raise AuditError(
            f"{settings.passed_over} may hold the policy, and a policy holds for its own folder.",
            f"Run audit gate in {settings.passed_over.parent}, or put an audit.yaml here.",
        )
    config, origins = settings.config, settings.origins
    policy = config.policy
    check_files(policy.baseline, dataset, write_baseline)
    if verify_attestation is not None:
        is_alone = report is None and attest is None and not targets and write_baseline is None
        return attestation.verify(verify_attestation, dataset, policy, key, is_alone=is_alone)
    attestation.check_options(attest, key)
    if report is not None and (device or fresh):
        raise AuditError("--report scans nothing.", "Leave --device and --fresh out.")

    from auditor.cli.console import console, show
    from auditor.cli.progress import progress_on
    from auditor.commands import attest as attesting
    from auditor.commands import gate as verb
    from auditor.report.gate import terminal_page, to_html
    from auditor.report.shared.words import safe

    scan_settings = replace(
        settings.scan_settings(),
        detectors=choose_detectors(tuned=tuned),
        format_of=format_of,
        columns=parse_columns(columns),
        device=device,
        # Who writes the data must not know which rows are looked at.
        seed=config.seed if "seed" in origins else None,
    )
    outputs = [*(target.path for target in targets), write_baseline, attest]
    read = [report, policy.baseline, key, *(verified or ()), *config.panels]
    if report is not None:
        scanned = verb.read_report(report, dataset, scan_settings)
        check_outputs(outputs, read, scanned.dataset.name)
    else:
        check_data_sets(dataset)
        from auditor.commands.scan import scan

        if dataset is None:
            dataset, scan_settings = as_last_scanned(scan_settings, origins)
        check_doses(policy, scan_settings.panels)
        check_outputs(outputs, [*read, scan_settings.reference, *scan_settings.panels], dataset)
        with progress_on(console(stderr=True)) as progress:
            scanned = scan(dataset, scan_settings, fresh=fresh, root=Path.cwd(), progress=progress)
    # Before anything can go wrong with the rules: a report is worth having whatever they say.
    pages = [target for target in targets if target.format == "html"]
    write_targets(scanned, [t for t in targets if t not in pages or t.path != STDOUT])
    if write_baseline is not None:
        traits = verb.write_baseline(scanned, write_baseline)
        echo(
            f"{safe(str(write_baseline))}: {len(traits)} findings; write a reason for each.",
            err=True,
        )
    decision = verb.gate(scanned, policy, verifications=verified or (), root=Path.cwd())
    if attest is not None:
        attesting.attest(scanned, decision, policy, attest, key)
    about = policy_origin(origins), exit_code(decision.outcome, policy.fail_on)
    write_targets(scanned, pages, lambda report: to_html(decision, report, *about))
    show(terminal_page(decision, scanned, *about), stderr=takes_stdout(targets))
    return about[1]


def policy_origin(origins: Mapping[str, str]) -> str:
    """Where the policy comes from, in words."""
    sources = [origin for key, origin in origins.items() if key.startswith("policy.")]
    return f"policy from {', '.join(dict.fromkeys(sources)) or 'the defaults'}"


def check_files(baseline: str | None, dataset: str | None, new_baseline: Path | None) -> None:
    """Find what is wrong with the baselines before a scan. Raises InputError."""
    from auditor.release.baseline import read_baseline

    if baseline is not None:
        read_baseline(Path(baseline))
    if dataset == "-" and (baseline or new_baseline):
        raise InputError(
            "A baseline needs the rows again, and standard input can be read once.", "Give a file."
        )
    if new_baseline is not None and (new_baseline.exists() or not new_baseline.parent.is_dir()):
        raise InputError(f"{new_baseline} exists already or cannot be written.", "Name a new file.")


def check_doses(policy: Policy, panels: Sequence[str]) -> None:
    """Raise AuditError where the policy limits the dose of a trait or a group that no panel has:
    after the scan the rule could not be judged.
    """
    from auditor.cli.configuration import nearest
    from auditor.traits.panel import load_panels

    traits = load_panels(panels).traits
    known = [*dict.fromkeys(trait.group for trait in traits), *(trait.name for trait in traits)]
    for name in policy.max_dose:
        if name not in known:
            raise AuditError(
                f"policy.max_dose: no trait or group of the panels {', '.join(panels)} is named "
                f"{name}.",
                nearest(name, known),
            )


def as_last_scanned(settings: ScanSettings, named: Iterable[str]) -> tuple[str, ScanSettings]:
    """The data set last scanned in this directory, and `settings` with those of that scan where
    none of the same name is in `named`. Raises InputError where it was standard input.
    """
    from auditor.runs.last_scan import last_scan

    last = last_scan(Path.cwd())
    tell_last_scan("the data set")
    if last.dataset == "-":
        raise InputError(
            "The last scan here was of standard input.", "Name the data set: audit gate DATASET"
        )
    origins = {"reference": "the last scan"} if last.is_reference_named else {}
    return last.dataset, replace(
        settings,
        reference=settings.reference if "reference" in named else last.reference,
        chat_template=(
            settings.chat_template
            if {"reference", "chat_template"} & {*named}
            else last.chat_template
        ),
        system=settings.system if {"reference", "system"} & {*named} else last.system,
        panels=settings.panels if "panels" in named else last.panels,
        origins=origins | dict(settings.origins),
        # Those that were named, and not those that were found: what was found settles nothing.
        format_of=settings.format_of or last.settings.get("format_of"),
        columns=settings.columns or last.settings.get("columns"),
        side=settings.side or last.settings.get("side"),
    )
