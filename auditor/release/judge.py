"""A report and a policy -> what becomes of the release.

One pure function; every rule looks at an interval's bound.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence, Set

from auditor.inference.thresholds import HARMLESS_SKIPS, MAX_UNREAD
from auditor.model.builtin import BUILT_IN
from auditor.release.decision import Decision, Rule
from auditor.release.policy import Policy
from auditor.release.verifications import VerificationResult, judge_checked
from auditor.scanning.obstacles import coverage_obstacles
from auditor.scanning.scan_report import OUTCOMES, OutcomeName, ScanReport, Verdict
from auditor.scanning.verdict import decide, found_traits, lost_share, reported_text
from detectors.interface import TestName

_log = logging.getLogger(__name__)


def judge(
    report: ScanReport,
    policy: Policy,
    *,
    accepted: Set[str] = frozenset(),
    baseline: Sequence[Rule] = (),
    checked: Sequence[VerificationResult] = (),
    mitigated: bool | None = False,
) -> Decision:
    """Apply every rule of `policy` to `report`.

    accepted, baseline: traits whose finding a baseline accepts, and what it says of each of its
        entries. checked: verifications of this very data set, on the report's reference. mitigated:
        whether the data set is the output of mitigations; None when that cannot be told.

    The verdict is the report's own. Where a trait is accepted, has a limit of its own dose or was
    mitigated and checked, it is the same definition applied to the other traits of every test; no
    entry of a policy for a trait excuses an obstacle. A rule that cannot be judged is inconclusive.
    """
    limits = {
        trait.name: limit
        for test in report.tests
        for trait in test.traits
        if (limit := policy.max_dose.get(trait.name, policy.max_dose.get(trait.group))) is not None
    }
    # A limit takes the verdict's place for its trait even where it fails: the failed rule decides
    # then, and the verdict is about all other traits.
    unexcused = [name for name in findings(report) if name not in {*accepted, *limits}]
    mitigation = list(_mitigation(policy, unexcused, checked, mitigated))
    # A mitigation that failed its check excuses nothing: its trait stays in the verdict as well.
    defended = {name for name, rule in mitigation if name and rule.outcome == "passed"}
    excused = {*accepted, *limits, *defended}
    verdict = verdict_under(report, policy.max_unread, excused)
    reason = f"{verdict.name.replace('_', ' ')}: {verdict.reason}"
    decision = Decision(
        (
            Rule("verdict", OUTCOMES[verdict.name], reason),
            *baseline,
            *(rule for _, rule in mitigation),
            *_doses(report, policy.max_dose, limits),
            *_limits(report, policy, verdict),
        )
    )
    for rule in decision.rules:
        _log.debug("rule %s %s: %s", rule.name, rule.outcome, rule.text)
    _log.info("the gate is %s, by %d rules", decision.outcome, len(decision.rules))
    return decision


def findings(report: ScanReport) -> dict[str, tuple[TestName, ...]]:
    """The traits found, which is all that makes a verdict of risk, each with the tests that find
    it; the strongest evidence first.
    """
    if report.verdict.name != "risk":
        return {}
    text, alpha = reported_text(report.detectors, report.settings), float(report.settings["alpha"])
    by_test = {
        test.name: {trait.name for trait in found_traits([test], text, alpha)}
        for test in report.tests
    }
    return {
        trait.name: tuple(test for test, names in by_test.items() if trait.name in names)
        for trait in found_traits(report.tests, text, alpha)
    }


def compare(low: float, high: float, limit: float) -> OutcomeName:
    """An interval against the highest value allowed: passed wholly up to it, failed wholly above,
    else inconclusive.
    """
    return "passed" if high <= limit else "failed" if low > limit else "inconclusive"


def verdict_under(report: ScanReport, max_unread: float, excused: Set[str]) -> Verdict:
    """The verdict with another limit to what may be unread, and without the evidence for the traits
    that are `excused`; the report's own where that makes no difference.
    """
    # Without evidence a pass stays a pass, and the report's own reason is the plainer one.
    if report.verdict.name == "no_risk":
        excused = frozenset()
    if not excused and max_unread == MAX_UNREAD:
        return report.verdict
    lost = lost_share(report.rows_skipped, report.rows_looked_at)
    return decide(
        report.tests,
        reported_text(report.detectors, report.settings),
        [*coverage_obstacles(report.dataset.unread, lost, max_unread)],
        float(report.settings["alpha"]),
        excused,
    )


def _doses(
    report: ScanReport, max_dose: Mapping[str, float], limits: Mapping[str, float]
) -> Iterator[Rule]:
    """One rule for each test of a trait with a limit, and for each entry that no trait measured
    belongs to.
    """
    for test in report.tests:
        method = {"tuned copies": ", by a tuned copy", "students": ", by students"}.get(
            test.name, ""
        )
        for trait in test.traits:
            if trait.name in limits:
                low, high = trait.interval
                limit = limits[trait.name]
                dose = f"dose {trait.effect:.2f} [{low:.2f}, {high:.2f}]"
                text = f"{trait.name} ({trait.group}){method}: {dose}, at most {limit:g}"
                yield Rule("max_dose", compare(low, high, limit), text)
        # A trait whose rows did not suffice has no evidence here, and an unknown dose is no pass.
        measured = {trait.name for trait in test.traits}
        for name in test.bounds:
            if name in limits and name not in measured:
                yield Rule("max_dose", "inconclusive", f"{name}{method}: its dose was not measured")
    names = {name for test in report.tests for t in test.traits for name in (t.name, t.group)}
    # A name that was misspelt, or a panel that was not scanned, must not pass unnoticed.
    for name in max_dose.keys() - names:
        text = f"{name}: no trait or group of this name was measured"
        yield Rule("max_dose", "inconclusive", text)


def _mitigation(
    policy: Policy,
    traits: Sequence[str],
    checked: Sequence[VerificationResult],
    mitigated: bool | None,
) -> Iterator[tuple[str, Rule]]:
    """(trait or "", rule) for each trait found that needs a checked mitigation, or one for the
    whole data set.
    """
    defence = policy.mitigation
    if defence is None:
        return
    for name in traits:
        of_trait = [result for result in checked if result.trait == name]
        yield name, judge_checked(of_trait, defence, name)
    if traits:
        return
    if mitigated:
        yield "", judge_checked(checked, defence, "the mitigated data set")
    elif mitigated is None:
        text = "the data set is not here, to see whether it was mitigated"
        yield "", Rule("mitigation", "inconclusive", text)
    else:
        text = "no trait was found, and the data set is no output of audit mitigate"
        yield "", Rule("mitigation", "passed", text)


def _limits(report: ScanReport, policy: Policy, verdict: Verdict) -> Iterator[Rule]:
    """One rule for each limit of the policy that is about the audit as such and not about a
    trait.
    """
    # The probability has no interval: it has the errors of the estimates in it.
    if (limit := policy.max_probability) is not None:
        outcome: OutcomeName = "inconclusive"
        text = f"probability not measured; at most {limit:g} is asked for"
        if verdict.probability is not None:
            outcome, text = "passed", f"probability {verdict.probability:.4g}, at most {limit:g}"
            if verdict.probability > limit:
                outcome = "failed"
            elif verdict.name == "inconclusive":
                outcome, text = "inconclusive", f"{text}, but the audit is inconclusive"
        yield Rule("max_probability", outcome, text)
    if (limit := policy.min_effect) is not None:
        text, outcome = f"no dose could be excluded; {limit:g} is asked for", "inconclusive"
        if verdict.min_effect is not None:
            text = f"doses from {verdict.min_effect:.2f} are excluded; {limit:g} is asked for"
            # An audit of too little power finds nothing wrong with the data: no failure.
            outcome = "passed" if verdict.min_effect <= limit else "inconclusive"
        yield Rule("min_effect", outcome, text)
    if (limit := policy.max_skipped) is not None:
        if report.rows_read is None:
            text = "the report does not say how many rows were read; scan again"
            yield Rule("max_skipped", "inconclusive", text)
        else:
            from auditor.inference.estimates import share_interval  # SciPy is slow to import

            # As for the verdict, rows that say nothing new are neither lost nor rows to be scored.
            harmless = sum(report.rows_skipped.get(reason, 0) for reason in HARMLESS_SKIPS)
            lost, read = sum(report.rows_skipped.values()) - harmless, report.rows_read - harmless
            low, high = share_interval(lost, read, report.dataset.total - harmless)
            interval = "all rows read" if low == high else f"95 % interval {low:.2%} to {high:.2%}"
            text = f"{lost:,} of {read:,} rows skipped ({interval}), at most {limit:.2%}"
            yield Rule("max_skipped", compare(low, high, limit), text)
    if allowed := policy.references:
        name, digest = report.reference.get("name"), report.reference.get("sha256")
        # A folder of the checkout can have any name, that of a model of the hub, too.
        is_named = name in BUILT_IN or report.reference.get("origin") == "hub"
        is_allowed = digest in allowed or (is_named and name in allowed)
        note = "" if is_named else " (a local model, which counts by its SHA-256 only)"
        text = f"{name}{note}, allowed: {', '.join(allowed)}"
        yield Rule("references", "passed" if is_allowed else "failed", text)
