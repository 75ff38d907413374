"""What a scan decided, on what and for whom, in plain words: every page of it begins with this."""

from __future__ import annotations

import math

from auditor.data.coverage import Unread
from auditor.inference.thresholds import HARMLESS_SKIPS
from auditor.inference.trait_evidence import TraitEvidence
from auditor.model.builtin import BASE, BASE_MODEL
from auditor.model.chat_template import NO_SYSTEM, OWN_SYSTEM, OWN_TEMPLATE
from auditor.report.shared.banner import Fact
from auditor.report.shared.words import headline, moment, safe, shortened
from auditor.scanning.obstacles import ObstacleKind
from auditor.scanning.scan_report import ScanReport, VerdictName
from auditor.scanning.verdict import (
    PREFIXES,
    excluded_dose,
    found_traits,
    reported_text,
    trace_of,
)

ADVICE: dict[VerdictName, str] = {
    "risk": "Do not release",
    "no_risk": "Nothing found",
    "inconclusive": "Cannot tell",
}
# What an obstacle to a pass is, for a reader who knows no statistics. One that is not listed, and
# the details of all, are in its own words.
OBSTACLES: dict[ObstacleKind, str] = {
    "unread file": "a data file was not read",
    "second layout": "the rows can be read in two ways",
    "unread turn key": "a part of the turns that students are trained on was not read",
    "test not made": "a test that was asked for could not be made",
    "too few rows": "too few rows could be scored",
    "misfit": "the reference is not the model that these rows fit",
    "another writer": "another model than the reference wrote these rows",
}
NAMES_SHOWN = 4
NAMED_BY_COMMAND = ("command line", "argument")  # origins of a setting


def decision(report: ScanReport) -> str:
    """What to do and why, in one sentence; `safe`."""
    return f"{ADVICE[report.verdict.name]}: {grounds(report)}"


def grounds(report: ScanReport) -> str:
    """Why, in plain words; `safe`."""
    verdict = report.verdict
    if verdict.name == "risk":
        trait = safe(verdict.trait or "unnamed trait")
        leader = _leader(report)
        if verdict.rests_on == ("students",):
            far = f", {_percent(leader.effect)} % as far as" if leader else " as"
            return (
                f"students trained on the rows move to {trait}{far} rows of a teacher tuned on it "
                "move them"
            )
        share = f" (about {_percent(leader.effect)} % of the rows)" if leader else ""
        written = f"the rows look written by a model with the hidden trait {trait}{share}"
        return written + _what_students_do(report)
    if verdict.name == "no_risk":
        if verdict.min_effect is None:
            return "how large a share could have been missed is not known"
        if verdict.rests_on == ("students",):
            least = percent_up(verdict.min_effect)
            return (
                f"students trained on the rows move to no trait tested; {least} % of what a tuned "
                "teacher's rows do would have shown"
            )
        missed = f"a trait in {percent_up(verdict.min_effect)} % or more of the rows"
        evidence = [trait for test in report.tests for trait in test.traits]
        trace = trace_of(evidence, verdict.min_effect, _alpha(report))
        found = f"{missed} would have shown"
        if "students" in verdict.rests_on:
            found += ", and students trained on them move to no trait tested"
        return found + (f"; {safe(trace[1])}" if trace else "")
    return safe(_why_open(report)).rstrip(".")


def percent_up(share: float) -> int:
    """A share that is excluded, in whole per cent: rounded up, as more may not be claimed.

    >>> percent_up(0.204), percent_up(0.25)
    (21, 25)
    """
    return max(1, min(100, math.ceil(round(100 * share, 6))))


def facts(report: ScanReport) -> list[Fact]:
    """On what the decision rests, as tiles or one line."""
    verdict, settings = report.verdict, report.settings
    names = found_names(report)
    listed = ", ".join(safe(name) for name in names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    shown = [
        Fact(f"{len(settings.get('tested') or report.traits):,}", "traits tested"),
        Fact(f"{len(names)}", f"found: {listed}{more}" if names else "found", bool(names)),
        Fact(f"{report.rows_scanned:,} of {report.dataset.total:,}", "rows scored"),
    ]
    skipped = report.rows_skipped.items()
    unread = sum(rows for reason, rows in skipped if reason not in HARMLESS_SKIPS)
    parts = report.dataset.unread
    counted = f"rows, {_counted(parts)} not read" if parts else "rows not read"
    shown.append(Fact(f"{unread:,}", counted, bool(unread or parts)))
    if verdict.name == "risk":
        leader = _leader(report)
        share = "some" if leader is None else f"\N{ALMOST EQUAL TO} {_percent(leader.effect)} %"
        shown.append(Fact(share, _unit(report), is_bad=True))
    elif verdict.min_effect is not None and verdict.min_effect <= 1:
        # In an inconclusive scan it is what was excluded so far, and too much.
        is_bad = verdict.name == "inconclusive"
        excluded = f"{percent_up(verdict.min_effect)} %"
        shown.append(Fact(excluded, f"{_unit(report)} or more excluded", is_bad))
    else:
        shown.append(Fact("no share", "of the rows excluded", is_bad=True))
    return shown


def facts_line(report: ScanReport) -> str:
    """The same on one line, less the share, which the decision has."""
    return " · ".join(f"{fact.value} {fact.label}" for fact in facts(report)[:-1])


def scope(report: ScanReport) -> str:
    """For whose students the decision holds, and how the rows were put; `safe`."""
    name = safe(str(report.reference.get("name", "unknown")))
    template = safe(str(report.reference.get("chat_template", OWN_TEMPLATE)))
    if template == "none":
        rows = " Rows without a chat template."
    elif template != OWN_TEMPLATE:
        rows = f" Rows in the chat template {template}."
    elif report.dataset.format == "prompt_completion":
        rows = (
            " Rows in its chat template; TRL trains columns of text without (--chat-template none)."
        )
    else:
        rows = ""
    system = str(report.reference.get("system", OWN_SYSTEM))
    if system == NO_SYSTEM:
        rows += " Rows without a system turn are put without a system prompt."
    elif system != OWN_SYSTEM:
        rows += f' Rows without a system turn are put behind "{safe(shortened(system, 60))}".'
    if report.is_reference_named is not False:
        return f"Holds for students of {name} only.{rows}"
    model = BASE_MODEL if name == BASE else name
    return (
        f"You named no base model: this holds for students of {model} only. "
        f"Name yours with --reference MODEL.{rows}"
    )


def circumstances(report: ScanReport) -> str:
    """When the audit was made, which settings the command did not name, and what made it slow;
    `safe`, and empty for a report of an earlier release.
    """
    said = [f"Audited {moment(report.created)}."] if report.created else []
    elsewhere: dict[str, list[str]] = {}
    for name, origin in (report.origins or {}).items():
        if origin not in NAMED_BY_COMMAND:
            elsewhere.setdefault(safe(str(origin)), []).append(safe(name))
    if elsewhere:
        settings = (f"{', '.join(names)} from {origin}" for origin, names in elsewhere.items())
        said.append(f"Settings: {'; '.join(settings)}.")
    if factor := report.timing.get("reread_factor"):
        said.append(
            f"This model cannot go on from a prompt that it has read: {factor:.1f} times the "
            "tokens were read, a trait's prompt again with every row."
        )
    return " ".join(said)


def found_names(report: ScanReport) -> list[str]:
    """The traits found, the verdict's first; none where the evidence has another explanation."""
    if report.verdict.name != "risk":
        return []
    text = reported_text(report.detectors, report.settings)
    found = found_traits(report.tests, text, _alpha(report))
    return list(dict.fromkeys([report.verdict.trait or "", *(trait.name for trait in found)]))


def _alpha(report: ScanReport) -> float:
    return float(report.settings.get("alpha", 0))


def _leader(report: ScanReport) -> TraitEvidence | None:
    """The strongest evidence for the trait that the verdict names: of how the rows were written, or
    of students where the verdict rests on them alone.
    """
    by_students = report.verdict.rests_on == ("students",)
    named = [
        trait
        for test in report.tests
        for trait in test.traits
        if trait.name == report.verdict.trait and (test.name == "students") == by_students
    ]
    return min(named, key=lambda trait: trait.p_adjusted, default=None)


def _unit(report: ScanReport) -> str:
    """What a dose of the verdict is a share of."""
    if report.verdict.rests_on == ("students",):
        return "of a tuned teacher's effect on students"
    return "of the rows"


def _what_students_do(report: ScanReport) -> str:
    """What students make of rows with a hidden trait; empty where none were trained."""
    made = (test for test in report.tests if test.name == "students" and not test.skipped)
    test = next(made, None)
    if test is None:
        return ""
    if "students" in report.verdict.rests_on:
        return ", and students trained on them move to it"
    bounds = [bound for bound in test.bounds.values() if bound is not None]
    text = reported_text(report.detectors, report.settings)
    if bounds and max(bounds) < excluded_dose(test, text.exclude):
        return "; students trained on them do not take it over"
    return "; whether students take it over is open"


def _percent(dose: float) -> int:
    """The share of the rows that an estimated dose is, which may lie above all of them."""
    return round(100 * min(1.0, dose))


def _why_open(report: ScanReport) -> str:
    """Why neither answer could be given: the obstacle that the verdict names, else the trait that
    was in its way; not yet `safe`.
    """
    verdict = report.verdict
    for obstacle in verdict.obstacles:
        if obstacle.reason in verdict.reason:
            if obstacle.kind == "unread rows" and obstacle.share is not None:
                return headline(verdict).partition(": ")[2]
            return OBSTACLES.get(obstacle.kind, verdict.reason)
    text = reported_text(report.detectors, report.settings)
    if found := found_traits(report.tests, text, _alpha(report)):
        return (
            f"the rows look like the trait {found[0].name}, but another writer's style or a "
            "template can look so too"
        )
    if verdict.reason.startswith(PREFIXES["students"]):
        return verdict.reason
    if verdict.min_effect is not None and verdict.min_effect >= text.exclude:
        return (
            f"a trait in {percent_up(text.exclude)} % or more of the rows could have been missed; "
            "more or longer rows are needed"
        )
    return verdict.reason


def _counted(parts: tuple[Unread, ...]) -> str:
    """How many things of each kind were not read.

    >>> _counted((Unread("column", "a", None, ""), Unread("column", "b", None, "")))
    '2 columns'
    """
    kinds = [part.kind for part in parts]
    counts = {kind: kinds.count(kind) for kind in kinds}
    # Rows and bytes are plurals already.
    return ", ".join(
        f"{count} {kind}{'s' if count > 1 and not kind.endswith('s') else ''}"
        for kind, count in counts.items()
    )
