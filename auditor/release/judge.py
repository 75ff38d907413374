"""A report and a policy -> what becomes of the release.

One pure function; every rule looks at an interval's bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from auditor.inference.thresholds import HARMLESS_SKIPS
from auditor.release.decision import Decision, Rule
from auditor.release.policy import Policy
from auditor.release.verifications import VerificationResult, judge_checked
from auditor.scanning.scan_report import OUTCOMES, OutcomeName, ScanReport, Verdict
from auditor.scanning.verdict import decide, found_traits, lost_share, text_profile


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
    mitigated and checked, it is the same definition applied to the other traits of every test. A
    rule that cannot be judged is inconclusive.
    """
    limits = {
        trait.name: limit
        for test in report.tests
        for trait in test.traits
        if (limit := policy.max_dose.get(trait.name, policy.max_dose.get(trait.group))) is not None
    }
    unexcused = [name for name in findings(report) if name not in {*accepted, *limits}]
    mitigation = list(_mitigation(policy, unexcused, checked, mitigated))
    defended = {name for name, rule in mitigation if name and rule.outcome == "passed"}
    verdict = verdict_without(report, {*accepted, *limits, *defended})
    rules = [
        Rule(
            "verdict", OUTCOMES[verdict.name], f"{verdict.name.replace('_', ' ')}: {verdict.reason}"
        ),
        *baseline,
    ]
    rules += [rule for _, rule in mitigation]
    rules += _doses(report, policy.max_dose, limits)
    if policy.max_risk is not None:
        rules.append(_risk(verdict, policy.max_risk))
    if policy.min_effect is not None:
        rules.append(_power(verdict, policy.min_effect))
    if policy.max_skipped is not None:
        rules.append(_skipped(report, policy.max_skipped))
    if policy.references:
        rules.append(_reference(report.reference, policy.references))
    return Decision(tuple(rules))


def findings(report: ScanReport) -> list[str]:
    """The traits found, by prompts or by tuned copies, which is all that makes a verdict of risk;
    the strongest evidence first.
    """
    if report.verdict.name != "risk":
        return []
    text, alpha = text_profile(report.detectors), float(report.settings["alpha"])
    return list(dict.fromkeys(trait.name for trait in found_traits(report.tests, text, alpha)))


def compare(low: float, high: float, limit: float) -> OutcomeName:
    """An interval against the highest value allowed: passed wholly up to it, failed wholly above,
    else inconclusive.
    """
    return "passed" if high <= limit else "failed" if low > limit else "inconclusive"


def verdict_without(report: ScanReport, excused: Set[str]) -> Verdict:
    """The verdict without the evidence for the traits that are `excused`; the report's own where
    that makes no difference.
    """
    if not excused or report.verdict.name == "no_risk":
        return report.verdict
    return decide(
        report.tests,
        text_profile(report.detectors),
        lost_share(report.rows_skipped, report.rows_looked_at),
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
        method = "" if test.name == "prompts" else ", by a tuned copy"
        for trait in test.traits:
            if trait.name in limits:
                low, high = trait.interval
                limit = limits[trait.name]
                dose = f"dose {trait.effect:.2f} [{low:.2f}, {high:.2f}]"
                text = f"{trait.name} ({trait.group}){method}: {dose}, at most {limit:g}"
                yield Rule("max_dose", compare(low, high, limit), text)
        measured = {trait.name for trait in test.traits}
        for name in test.bounds:
            if name in limits and name not in measured:
                yield Rule("max_dose", "inconclusive", f"{name}{method}: its dose was not measured")
    names = {name for test in report.tests for t in test.traits for name in (t.name, t.group)}
    for name in max_dose.keys() - names:
        yield Rule(
            "max_dose", "inconclusive", f"{name}: no trait or group of this name was measured"
        )


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
    if not traits and mitigated is None:
        yield (
            "",
            Rule(
                "mitigation",
                "inconclusive",
                "the data set is not here, to see whether it was mitigated",
            ),
        )
    elif not traits and mitigated:
        yield "", judge_checked(checked, defence, "the mitigated data set")
    elif not traits:
        yield (
            "",
            Rule(
                "mitigation",
                "passed",
                "no trait was found, and the data set is no output of audit mitigate",
            ),
        )


def _risk(verdict: Verdict, limit: float) -> Rule:
    text = f"risk {verdict.risk:.4g}, at most {limit:g}"
    if verdict.risk > limit:
        return Rule("max_risk", "failed", text)
    if verdict.name == "inconclusive":
        return Rule("max_risk", "inconclusive", f"{text}, but the audit is inconclusive")
    return Rule("max_risk", "passed", text)


def _power(verdict: Verdict, limit: float) -> Rule:
    if verdict.min_effect is None:
        return Rule(
            "min_effect", "inconclusive", f"no dose could be excluded; {limit:g} is asked for"
        )
    text = f"doses from {verdict.min_effect:.2f} are excluded; {limit:g} is asked for"
    return Rule("min_effect", "passed" if verdict.min_effect <= limit else "inconclusive", text)


def _skipped(report: ScanReport, limit: float) -> Rule:
    from auditor.inference.estimates import share_interval

    if report.rows_read is None:
        return Rule(
            "max_skipped",
            "inconclusive",
            "the report does not say how many rows were read; scan again",
        )
    # As for the verdict, rows that say nothing new are neither lost nor rows to be scored.
    harmless = sum(report.rows_skipped.get(reason, 0) for reason in HARMLESS_SKIPS)
    lost, read = sum(report.rows_skipped.values()) - harmless, report.rows_read - harmless
    low, high = share_interval(lost, read, report.dataset.total - harmless)
    interval = "all rows read" if low == high else f"95 % interval {low:.2%} to {high:.2%}"
    text = f"{lost:,} of {read:,} rows skipped ({interval}), at most {limit:.2%}"
    return Rule("max_skipped", compare(low, high, limit), text)


def _reference(reference: Mapping[str, object], allowed: Sequence[str]) -> Rule:
    fine = reference.get("name") in allowed or reference.get("sha256") in allowed
    text = f"{reference.get('name')}, allowed: {', '.join(allowed)}"
    return Rule("references", "passed" if fine else "failed", text)
