"""Whether the report of an earlier scan can be judged: by itself, and under the settings in force.

A report is a file that somebody may have edited, or made with other settings. What is checked here
cannot tell a wholly invented one; only a scan, or a signature, can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Set

from auditor.data.files import digest_of
from auditor.data.formats import Layout, side_of
from auditor.model.chat_template import OWN_SYSTEM, OWN_TEMPLATE
from auditor.scanning.obstacles import coverage_obstacles
from auditor.scanning.scan_report import ScanReport, Verdict
from auditor.scanning.settings import ScanSettings
from auditor.scanning.verdict import decide, lost_share, reported_text
from auditor.traits.panel import load_panels
from detectors.interface import HAZARDS, TraitTest


def verdict_of(report: ScanReport) -> Verdict:
    """The verdict that follows from the evidence of a report."""
    lost = lost_share(report.rows_skipped, report.rows_looked_at)
    return decide(
        report.tests,
        reported_text(report.detectors, report.settings),
        [*coverage_obstacles(report.dataset.unread, lost)],
        float(report.settings["alpha"]),
    )


def contradictions(report: ScanReport) -> Iterator[str]:
    """What in the report cannot be so: counts, estimates, a verdict that does not follow."""
    read, lost = report.rows_looked_at, sum(report.rows_skipped.values())
    counts = [report.dataset.total, read, report.rows_scanned, *report.rows_skipped.values()]
    counts += [test.rows for test in report.tests]
    counts += [n for test in report.tests for t in test.traits for n in (t.rows, t.tokens)]
    if any(type(count) is not int or count < 0 for count in counts):
        yield "a count is negative or no whole number"
    if report.rows_scanned == 0:
        yield "no row was scored"
    if report.rows_scanned + lost > read or read > report.dataset.total:
        yield (
            f"{report.rows_scanned:,} rows scored and {lost:,} skipped of {read:,} read and "
            f"{report.dataset.total:,} in all do not add up"
        )
    if any(not 0 <= (item.share or 0.0) <= 1 for item in report.dataset.unread):
        yield "a share is below 0 or above 1"
    for test in report.tests:
        # Students learn rows that no prompt was scored on.
        if test.rows > (read if test.name == "students" else report.rows_scanned):
            yield f"a test of {test.rows:,} rows needs more than were scored"
        yield from _impossible_estimates(test)
    verdict, written = verdict_of(report), report.verdict
    same = (verdict.name, verdict.trait) == (written.name, written.trait)
    bounds = verdict.min_effect, written.min_effect
    # What is missing stands outside [0, 1], so that it is equal to nothing but itself.
    chances = [-1.0 if p is None else p for p in (verdict.probability, written.probability)]
    same = same and math.isclose(*chances, abs_tol=1e-9)
    # A bound that is missing is infinite: nothing is excluded.
    now, then = (math.inf if bound is None else bound for bound in bounds)
    if not (same and math.isclose(now, then, rel_tol=1e-6)):
        yield (
            f"its verdict, {written.name}, does not follow from its evidence, which gives "
            f"{verdict.name}"
        )


def mismatches(report: ScanReport, settings: ScanSettings) -> Iterator[tuple[str, object, object]]:
    """(what, of the report, of the settings) for each setting under which the report was not made,
    where a scan under these settings could give another answer.
    """
    made, reference, info = report.settings, report.reference, report.dataset
    panel = load_panels(settings.panels)
    tested = panel.select(list(settings.traits)) if settings.traits else panel
    names, detectors = [trait.name for trait in tested.traits], made.get("detectors") or []
    # A test by prompts that has no bound for a trait says nothing of it.
    told = [
        name
        for name in made.get("tested") or ()
        if all(name in t.bounds for t in report.tests if t.name == "prompts" and not t.skipped)
    ]
    columns = settings.columns or {}
    seed_is_set = settings.seed is not None
    compared: list[tuple[str, object, object, bool]] = [
        (
            "reference",
            reference.get("name"),
            settings.reference,
            settings.reference in (reference.get("name"), reference.get("sha256")),
        ),
        ("panels", made.get("panel"), panel.name, made.get("panel_sha256") == panel.sha256),
        ("traits", ", ".join(told) or "none", f"all {len(names)}", told == names),
        *(
            (key, made.get(key), now, made.get(key) == now)
            for key, now in (
                ("rows", settings.rows),
                ("alpha", settings.alpha),
                ("exclude", settings.exclude),
                ("exclude_open", settings.exclude_open),
            )
        ),
        (
            "detectors",
            ", ".join(detectors),
            ", ".join(settings.detectors_run),
            set(settings.detectors_run) <= {*detectors},
        ),
        (
            "hazard",
            made.get("hazard", HAZARDS[0]),
            settings.hazard,
            HAZARDS.index(made.get("hazard", HAZARDS[0])) >= HAZARDS.index(settings.hazard),
        ),
        (
            "like",
            made.get("like", []),
            [digest_of(earlier) for earlier in settings.like],
            False,  # compared as they stand
        ),
        ("seed", made.get("seed"), settings.seed, not seed_is_set),
        (
            "chat_template",
            reference.get("chat_template", OWN_TEMPLATE),
            settings.chat_template,
            settings.chat_template is None,
        ),
        (
            "system",
            reference.get("system", OWN_SYSTEM),
            settings.system,
            settings.system is None,
        ),
        ("dtype", reference.get("dtype"), settings.dtype, settings.dtype is None),
        ("side", side_of(info.columns), settings.side, settings.side is None),
        ("format", info.format, settings.format_of, settings.format_of is None),
        # What a scan was told settles how rows are to be taken, and a gate is to be told the same.
        *(
            (f"{name} named", made.get(key), now, now is not None or not made.get(key))
            for name, key, now in (
                ("side", "side", settings.side),
                ("format", "format_of", settings.format_of),
            )
        ),
        (
            "columns named",
            _words(made.get("columns")),
            _words(columns),
            _pairs(made.get("columns")) <= columns.items(),
        ),
        (
            "columns",
            _words(info.columns),
            _words(columns),
            columns.items() <= info.columns.items(),
        ),
    ]
    for what, then, now, same in compared:
        if not same and then != now:
            yield what, then, now


def layout_mismatch(report: ScanReport, layout: Layout) -> tuple[str, object, object] | None:
    """As `mismatches`, for how the rows would be read now."""
    info = report.dataset
    if info.format != layout.format:
        return "format", info.format, layout.format
    if info.columns != layout.columns:
        return "columns", _words(info.columns), _words(layout.columns)
    return None


def _impossible_estimates(test: TraitTest) -> Iterator[str]:
    """Estimates of a test that cannot be: each must lie within its own interval and bound."""
    for trait in test.traits:
        low, high = trait.interval
        bound = test.bounds.get(trait.name)
        if not low <= trait.effect <= high or (bound is not None and bound < trait.effect):
            yield f"the dose of {trait.name} lies outside its interval"
        # A correction for several traits makes no p-value smaller.
        if not 0 <= trait.p_value <= trait.p_adjusted + 1e-12 <= 1 + 1e-9:
            yield f"the p-values of {trait.name} cannot be"


def _words(columns: object) -> str:
    """Columns by role, as the command line has them."""
    return ",".join(f"{role}={column}" for role, column in _pairs(columns)) or "none"


def _pairs(columns: object) -> Set[tuple[str, str]]:
    return columns.items() if isinstance(columns, dict) else set()
