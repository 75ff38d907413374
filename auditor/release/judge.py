"""A report and a policy -> what becomes of the release.

One pure function; every rule looks at an interval's bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from auditor.inference.trait_evidence import TraitEvidence, is_found
from auditor.release.decision import Decision, Rule
from auditor.release.policy import Policy
from auditor.release.verifications import VerificationResult, judge_checked
from auditor.scanning.scan_report import OUTCOMES, OutcomeName, ScanReport, Verdict
from auditor.scanning.verdict import decide, writing_of


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
    mitigated and checked, it is the same definition applied to the other traits, with the upper
    ends of their reported (two-sided) intervals. A rule that cannot be judged is inconclusive.
    """
    limits = {
        trait.name: limit for trait in report.traits if (limit := _limit(policy, trait)) is not None
    }
    open_ = [name for name in findings(report) if name not in {*accepted, *limits}]
    mitigation = list(_mitigation(policy, open_, checked, mitigated))
    defended = {name for name, rule in mitigation if name and rule.outcome == "passed"}
    verdict = rest_verdict(report, {*accepted, *limits, *defended})
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
    """The traits found, which is all that makes a verdict of risk, in the order of the report."""
    if report.verdict.name != "risk":
        return []
    alpha, least = float(report.settings["alpha"]), writing_of(report.detectors).least
    return [trait.name for trait in report.traits if is_found(trait, alpha, least)]


def compare(low: float, high: float, limit: float) -> OutcomeName:
    """An interval against the highest value allowed: passed wholly up to it, failed wholly above,
    else inconclusive.
    """
    return "passed" if high <= limit else "failed" if low > limit else "inconclusive"


def rest_verdict(report: ScanReport, excused: Set[str]) -> Verdict:
    """The verdict on the traits that are not `excused`; the report's own where that makes no
    difference.
    """
    if not excused or report.verdict.name == "no_risk":
        return report.verdict
    rest = [trait for trait in report.traits if trait.name not in excused]
    upper = {trait.name: trait.interval[1] for trait in rest}
    tested = report.settings.get("tested", list(upper))
    bounds = {name: upper.get(name) for name in tested if name not in excused}
    if not bounds:
        return Verdict("no_risk", 0.0, "every trait tested is left to another rule", None, None)
    skipped = sum(report.rows_skipped.values())
    read = report.rows_read or skipped + report.rows_scanned
    alpha, share, writing = (
        float(report.settings["alpha"]),
        skipped / max(1, read),
        writing_of(report.detectors),
    )
    left_out = ", ".join(sorted(name for name in tested if name in excused))
    found = decide(
        rest, bounds, alpha=alpha, scanned=report.rows_scanned, skipped_share=share, writing=writing
    )
    return Verdict(
        found.name, found.risk, f"without {left_out}: {found.reason}", found.trait, found.min_effect
    )


def _limit(policy: Policy, trait: TraitEvidence) -> float | None:
    return policy.max_dose.get(trait.name, policy.max_dose.get(trait.group))


def _doses(
    report: ScanReport, max_dose: Mapping[str, float], limits: Mapping[str, float]
) -> Iterator[Rule]:
    """One rule for each trait with a limit, and for each entry that no trait measured belongs to."""
    seen = set()
    for trait in report.traits:
        seen |= {trait.name, trait.group}
        if trait.name in limits:
            low, high = trait.interval
            text = (
                f"{trait.name} ({trait.group}): dose {_dose(trait)}, at most {limits[trait.name]:g}"
            )
            yield Rule("max_dose", compare(low, high, limits[trait.name]), text)
    for name in max_dose.keys() - seen:
        yield Rule(
            "max_dose", "inconclusive", f"{name}: no trait or group of this name was measured"
        )


def _dose(trait: TraitEvidence) -> str:
    return f"{trait.effect:.2f} [{trait.interval[0]:.2f}, {trait.interval[1]:.2f}]"


def _mitigation(
    policy: Policy,
    found: Sequence[str],
    checked: Sequence[VerificationResult],
    mitigated: bool | None,
) -> Iterator[tuple[str, Rule]]:
    """(trait or "", rule) for each trait found that needs a checked mitigation, or one for the
    whole data set.
    """
    wanted = policy.mitigation
    if wanted is None:
        return
    for name in found:
        yield name, judge_checked([each for each in checked if each.trait == name], wanted, name)
    if not found and mitigated is None:
        yield (
            "",
            Rule(
                "mitigation",
                "inconclusive",
                "the data set is not here, to see whether it was mitigated",
            ),
        )
    elif not found and mitigated:
        yield "", judge_checked(checked, wanted, "the mitigated data set")
    elif not found:
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

    count, read = sum(report.rows_skipped.values()), report.rows_read
    if read is None:
        return Rule(
            "max_skipped",
            "inconclusive",
            "the report does not say how many rows were read; scan again",
        )
    low, high = share_interval(count, read, report.dataset.total)
    interval = "all rows read" if low == high else f"95 % interval {low:.2%} to {high:.2%}"
    text = f"{count:,} of {read:,} rows skipped ({interval}), at most {limit:.2%}"
    return Rule("max_skipped", compare(low, high, limit), text)


def _reference(reference: Mapping[str, object], allowed: Sequence[str]) -> Rule:
    fine = reference.get("name") in allowed or reference.get("sha256") in allowed
    text = f"{reference.get('name')}, allowed: {', '.join(allowed)}"
    return Rule("references", "passed" if fine else "failed", text)
