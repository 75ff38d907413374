"""The release policy, rule by rule, on reports made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auditor.cli.exit import exit_code
from auditor.data.coverage import Unread
from auditor.errors import InputError
from auditor.inference.estimates import share_interval
from auditor.inference.trait_evidence import TraitEvidence
from auditor.release.decision import Decision, Rule
from auditor.release.judge import compare, findings, judge, verdict_under
from auditor.release.policy import Policy
from auditor.release.verifications import (
    Verification,
    VerificationResult,
    about,
    defended,
    read_verifications,
)
from auditor.runs.run_directory import write_signed
from auditor.scanning.scan_report import OutcomeName, ScanReport, Verdict
from detectors.interface import Evidence, TraitTest
from tests.support.sample_report import (
    EAGLE,
    INCONCLUSIVE,
    NO_RISK,
    OWL,
    RISK,
    RISKY,
    prompts,
    sample_report,
)


def outcome(report: ScanReport, rule: str, **policy: Any) -> OutcomeName:
    """The outcome of the one rule of this name."""
    (found,) = (each for each in judge(report, Policy(**policy)).rules if each.name == rule)
    return found.outcome


@pytest.mark.parametrize(
    ("verdict", "expected"), [(RISK, "failed"), (NO_RISK, "passed"), (INCONCLUSIVE, "inconclusive")]
)
def test_without_a_policy_the_verdict_decides(verdict: Verdict, expected: str) -> None:
    """And it is the report's own, its reason shown."""
    decision = judge(sample_report(verdict), Policy())
    assert decision.outcome == expected
    assert [rule.name for rule in decision.rules] == ["verdict"]
    assert verdict.reason in decision.rules[0].text


def test_the_worst_rule_is_the_outcome() -> None:
    """One failed rule fails; one that cannot be judged is never a pass."""
    a, b, c = (Rule("x", name, "") for name in ("passed", "inconclusive", "failed"))
    assert [Decision(r).outcome for r in ((a,), (a, b), (b, c), (a, b, c))] == [
        "passed",
        "inconclusive",
        "failed",
        "failed",
    ]


def test_exit_codes() -> None:
    """A failed gate passes for `never` only, an inconclusive one for `risk` as well."""
    table = {
        ("passed", "inconclusive"): 0,
        ("failed", "inconclusive"): 1,
        ("inconclusive", "inconclusive"): 3,
        ("failed", "risk"): 1,
        ("inconclusive", "risk"): 0,
        ("failed", "never"): 0,
        ("inconclusive", "never"): 0,
    }
    assert {key: exit_code(*key) for key in table} == table  # type: ignore[arg-type]


def test_an_interval_decides_only_when_it_lies_on_one_side() -> None:
    """Up to the limit passes, above fails, across is inconclusive."""
    assert [
        compare(*interval, 0.3) for interval in ((0.1, 0.3), (0.1, 0.4), (0.3, 0.4), (0.31, 0.4))
    ] == [
        "passed",
        "inconclusive",
        "inconclusive",
        "failed",
    ]


@pytest.mark.parametrize(
    ("limit", "expected"), [(0.63, "passed"), (0.62, "inconclusive"), (0.2, "failed")]
)
def test_the_highest_dose_of_a_trait(limit: float, expected: str) -> None:
    """Owl's dose is 0.42 [0.21, 0.63]: the interval's end counts, and takes the place of the
    verdict on owl.
    """
    report = sample_report(RISK)
    decision = judge(report, Policy(max_dose={"owl": limit}))
    assert decision.outcome == expected
    assert decision.rules[0].outcome == "passed"  # eagle and risky are excluded at 0.30 and 0.16
    assert "0.42 [0.21, 0.63]" in decision.rules[1].text


def test_a_group_has_a_limit_unless_the_trait_has_its_own() -> None:
    """`animals` holds for eagle, owl's own entry for owl."""
    rules = judge(sample_report(RISK), Policy(max_dose={"animals": 0.3, "owl": 0.7})).rules
    assert [(rule.name, rule.outcome) for rule in rules] == [
        ("verdict", "passed"),
        ("max_dose", "passed"),
        ("max_dose", "passed"),
    ]
    assert (
        outcome(sample_report(RISK), "max_dose", max_dose={"safety": 0.1}) == "inconclusive"
    )  # up to 0.16


def test_a_limit_on_what_was_not_measured_is_not_passed() -> None:
    """A misspelt trait must not open the gate."""
    assert outcome(sample_report(NO_RISK), "max_dose", max_dose={"owls": 1.0}) == "inconclusive"


def test_excusing_a_trait_leaves_the_others_to_the_verdict() -> None:
    """Another trait found fails; a trait tested without a result, or too wide, is inconclusive."""
    report = sample_report(RISK)
    accepted = frozenset({"owl"})
    assert judge(report, Policy(), accepted=accepted).outcome == "passed"
    other = replace(report, tests=prompts((OWL, replace(EAGLE, p_adjusted=0.001), RISKY)))
    assert verdict_under(other, 0.05, accepted).trait == "eagle"
    wide = replace(report, tests=prompts((OWL, replace(EAGLE, interval=(-0.5, 1.2)), RISKY)))
    assert verdict_under(wide, 0.05, accepted).name == "inconclusive"
    bounds = {**report.tests[0].bounds, "cat": None}
    untold = replace(report, tests=(replace(report.tests[0], bounds=bounds),))
    assert verdict_under(untold, 0.05, accepted).name == "inconclusive"
    few = replace(report, tests=(replace(report.tests[0], rows=31),))
    assert verdict_under(few, 0.05, accepted).name == "inconclusive"
    skipped = replace(report, rows_skipped={"too_long": 21})
    assert verdict_under(skipped, 0.05, accepted).name == "inconclusive"
    alone = replace(report, tests=prompts((OWL,)))
    assert verdict_under(alone, 0.05, accepted).name == "no_risk"


def test_excusing_does_not_touch_other_verdicts() -> None:
    """No risk stays as reported; an inconclusive one is not made clean by excusing a trait that
    says little.
    """
    assert verdict_under(sample_report(NO_RISK), 0.05, frozenset({"owl"})) == NO_RISK
    assert verdict_under(sample_report(INCONCLUSIVE), 0.05, frozenset()) == INCONCLUSIVE


@pytest.mark.parametrize(
    ("verdict", "limit", "expected"),
    [
        (RISK, 0.96, "failed"),
        (RISK, 0.97, "passed"),
        (NO_RISK, 0.04, "passed"),
        (NO_RISK, 0.03, "failed"),
        (INCONCLUSIVE, 0.5, "inconclusive"),
        (INCONCLUSIVE, 0.1, "failed"),
        (replace(NO_RISK, probability=None), 1.0, "inconclusive"),
    ],
)
def test_highest_probability(verdict: Verdict, limit: float, expected: str) -> None:
    """A low number of an inconclusive audit says nothing, and none is no pass."""
    assert outcome(sample_report(verdict), "max_probability", max_probability=limit) == expected


@pytest.mark.parametrize(("limit", "expected"), [(0.35, "passed"), (0.34, "inconclusive")])
def test_least_power(limit: float, expected: str) -> None:
    """Too little power is no failure of the data, and no pass."""
    assert outcome(sample_report(NO_RISK), "min_effect", min_effect=limit) == expected
    assert outcome(sample_report(INCONCLUSIVE), "min_effect", min_effect=5) == "inconclusive"


def test_skipped_rows_are_held_against_their_interval() -> None:
    """4 of 404 rows of 10,000: about 0.3 % to 2.5 %.

    Of a data set read whole the share is exact.
    """
    report = sample_report(NO_RISK)
    outcomes = [outcome(report, "max_skipped", max_skipped=limit) for limit in (0.03, 0.01, 0.002)]
    assert outcomes == ["passed", "inconclusive", "failed"]
    whole = replace(report, dataset=replace(report.dataset, total=404))
    assert [outcome(whole, "max_skipped", max_skipped=limit) for limit in (0.0100, 0.0098)] == [
        "passed",
        "failed",
    ]
    assert (
        outcome(replace(report, rows_read=None), "max_skipped", max_skipped=1.0) == "inconclusive"
    )


def test_intervals_of_shares() -> None:
    """None of n: the upper end is 1 - 0.025 ** (1 / n); nothing drawn says nothing; all drawn says
    all.
    """
    low, high = share_interval(0, 100, 10_000)
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 100))
    low, high = share_interval(100, 100, 10_000)
    assert low == pytest.approx(0.025 ** (1 / 100)) and high == 1
    assert share_interval(0, 0, 10) == (0.0, 1.0)
    assert share_interval(1, 4, 4) == (0.25, 0.25)


def test_references() -> None:
    """By name or by digest."""
    report = sample_report(NO_RISK)
    for allowed, expected in (
        (["smollm2-135m"], "passed"),
        (["cd" * 32], "passed"),
        (["organism"], "failed"),
    ):
        assert outcome(report, "references", references=allowed) == expected


def test_what_a_defence_is_shown_to_do() -> None:
    """The end of the interval of what is left: removed is at most a quarter, reduced less
    than all.
    """
    cases = {
        ("removed", (-0.1, 0.2), "removed"): "passed",
        ("reduced", (0.2, 0.6), "removed"): "inconclusive",
        ("reduced", (0.3, 0.6), "removed"): "failed",
        ("reduced", (0.3, 0.6), "reduced"): "passed",
        ("not reduced", (0.8, 1.3), "reduced"): "inconclusive",
        ("not reduced", (1.0, 1.3), "reduced"): "failed",
        ("no transfer shown", None, "reduced"): "inconclusive",
    }
    assert {case: defended(*case) for case in cases} == cases  # type: ignore[arg-type]


def test_a_checked_mitigation() -> None:
    """A found trait is let through by a verification of it, and of nothing else; a failed one
    decides.
    """
    report, policy = sample_report(RISK), Policy(mitigation="removed")
    good, bad = (
        VerificationResult("owl", "removed", (0.0, 0.2)),
        VerificationResult("owl", "not reduced", (1.1, 1.2)),
    )
    vague, other = (
        VerificationResult("owl", "no transfer shown", None),
        VerificationResult("eagle", "removed", (0.0, 0.1)),
    )

    def of(*checked: VerificationResult) -> OutcomeName:
        return judge(report, policy, checked=checked).outcome

    assert [of(), of(good), of(bad), of(other)] == ["failed", "passed", "failed", "failed"]
    assert [of(good, bad), of(vague, good)] == ["failed", "passed"]
    rules = judge(report, policy, checked=[vague]).rules
    assert [rule.outcome for rule in rules if rule.name == "mitigation"] == ["inconclusive"]


@pytest.mark.parametrize(
    ("mitigated", "expected"), [(False, "passed"), (True, "failed"), (None, "inconclusive")]
)
def test_a_mitigated_data_set_needs_its_check_also_when_nothing_is_found(
    mitigated: bool | None, expected: str
) -> None:
    """That the scan finds nothing any more is no proof that students take nothing over."""
    decision = judge(sample_report(NO_RISK), Policy(mitigation="reduced"), mitigated=mitigated)
    assert decision.outcome == expected
    checked = [VerificationResult("owl", "reduced", (0.1, 0.9))]
    assert judge(
        sample_report(NO_RISK), Policy(mitigation="reduced"), mitigated=True, checked=checked
    ).outcome == ("passed")


def test_which_verifications_count() -> None:
    """Those of the same rows on the same weights, with a trait; never the original's own."""
    left = {"value": 0.15, "interval": [0.1, 0.2], "reason": None}
    arms: list[dict[str, Any]] = [{"name": "o", "left": None, "verdict": "transfer shown"}]
    arms += [{"name": name, "left": left, "verdict": "removed"} for name in ("m", "n")]
    value = {
        "kind": "verify",
        "schema_version": 1,
        "trait": "owl",
        "reference": {"sha256": "r"},
        "arms": arms,
        "datasets": {"o": "1", "m": "2", "n": "3"},
    }

    def counted(digest: str, reference: str = "r", **changes: object) -> list[VerificationResult]:
        verification = Verification.model_validate(value | changes)
        return list(about([verification], digest, {"sha256": reference}))

    assert counted("2") == [VerificationResult("owl", "removed", (0.1, 0.2))]
    assert counted("1") == counted("2", "other") == counted("2", trait=None) == []


@pytest.mark.parametrize("change", [{"arms": [{}]}, {"datasets": None}, {"schema_version": 2}])
def test_a_report_that_lacks_something_is_no_verification(
    change: dict[str, object], tmp_path: Path
) -> None:
    """It is refused where it is named, and passed over as a run."""
    value = {"kind": "verify", "schema_version": 1, "trait": "owl", "reference": {"sha256": "r"}}
    path = tmp_path / ".audit" / "runs" / "ab" / "report.json"
    write_signed(path, json.dumps(value | {"arms": [], "datasets": {}} | change).encode())
    assert read_verifications(tmp_path, []) == []
    with pytest.raises(InputError, match="no report of audit verify"):
        read_verifications(tmp_path, [path])


def with_copies(report: ScanReport, *traits: TraitEvidence) -> ScanReport:
    """The report with a test of tuned copies beside the one by prompts."""
    bounds = {trait.name: trait.interval[1] for trait in traits}
    copies = TraitTest("tuned copies", traits, bounds, 128)
    return replace(report, tests=(*report.tests, copies))


CALM_OWL = replace(OWL, p_value=0.4, p_adjusted=1.0, effect=0.1, interval=(-0.1, 0.3))
TREE = TraitEvidence("oak", "tree", 0.9, (0.7, 1.1), 8.0, 1e-9, 1e-7, 128, 4_000)
FOUND_BY_COPY = with_copies(
    replace(
        sample_report(Verdict("risk", 1 - 1e-7, "by copies, oak", "oak", None)),
        tests=prompts((CALM_OWL, EAGLE, RISKY)),
    ),
    TREE,
)


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"max_dose": {"owl": 5}},
        {"max_dose": {"animals": 5, "safety": 5}},
        {"max_dose": {"tree": 0.3}},
        {"mitigation": "reduced"},
    ],
)
def test_a_risk_by_tuned_copies_is_never_lost(policy: dict[str, Any]) -> None:
    """Whatever is excused or limited elsewhere, the gate fails, and says that a trait was found."""
    decision = judge(FOUND_BY_COPY, Policy(**policy), accepted=frozenset({"eagle"}))
    assert decision.outcome == "failed"
    assert not any("no trait was found" in rule.text for rule in decision.rules)


def test_a_finding_by_tuned_copies_can_be_accepted_or_limited() -> None:
    """It is a finding like any other: for a baseline, and for a limit of its dose."""
    assert findings(FOUND_BY_COPY) == {"oak": ("tuned copies",)}
    assert judge(FOUND_BY_COPY, Policy(), accepted=frozenset({"oak"})).outcome == "passed"
    decision = judge(FOUND_BY_COPY, Policy(max_dose={"oak": 1.2}))
    assert decision.outcome == "passed"
    assert any("by a tuned copy: dose 0.90" in rule.text for rule in decision.rules)
    unmeasured = with_copies(sample_report(RISK), TREE)
    bounds = {**unmeasured.tests[1].bounds, "owl": None}
    unmeasured = replace(
        unmeasured,
        tests=(unmeasured.tests[0], replace(unmeasured.tests[1], traits=(), bounds=bounds)),
    )
    assert judge(unmeasured, Policy(max_dose={"owl": 1.0})).outcome == "inconclusive"


def test_copies_that_leave_a_question_open_are_not_excused_with_another_trait() -> None:
    """Intervals that are too wide, and copies that were asked for and not tested."""
    calm = replace(sample_report(INCONCLUSIVE), tests=prompts((CALM_OWL, EAGLE, RISKY)))
    wide = with_copies(calm, replace(TREE, effect=0.1, interval=(-1.2, 1.4), p_adjusted=1.0))
    skipped = TraitTest("tuned copies", skipped="use --dtype float32")
    missing = replace(calm, tests=(*calm.tests, skipped))
    for report in (wide, missing):
        assert judge(report, Policy(max_dose={"owl": 5})).outcome == "inconclusive"
        every = Policy(max_dose={"animals": 5, "safety": 5})
        assert judge(report, every).outcome == "inconclusive"


def test_no_policy_excuses_what_is_no_traits() -> None:
    """Every trait has a limit, and skipped rows, too few rows and a misfit still stand."""
    policy = Policy(max_dose={"animals": 5, "safety": 5})
    calm = replace(sample_report(INCONCLUSIVE), tests=prompts((CALM_OWL, EAGLE, RISKY)))
    assert judge(calm, policy).outcome == "passed"
    misfit = Evidence("trait", "", {"excess": 2.5})
    greedy = Evidence("trait", "", {"greedy": True, "others": 0.06})
    for report in (
        replace(calm, rows_skipped={"not_json": 21}),
        replace(calm, tests=(replace(calm.tests[0], rows=20),)),
        replace(calm, detectors={"trait": misfit}),
        replace(calm, detectors={"trait": greedy}),
    ):
        assert judge(report, policy).outcome == "inconclusive"


def test_duplicates_are_no_lost_rows_for_the_gate_either() -> None:
    """600 of 1,000 rows are copies: the scan loses none of them, and so does the gate."""
    report = replace(
        sample_report(RISK), rows_skipped={"duplicate": 600}, rows_read=1_000, rows_scanned=400
    )
    verdict = verdict_under(report, 0.05, frozenset({"owl"}))
    assert verdict.name == "no_risk"
    assert "skipped" not in verdict.reason
    assert outcome(report, "max_skipped", max_skipped=0.05) == "passed"


def test_the_policy_says_how_much_may_be_unread() -> None:
    """The verdict is made anew with its limit, looser or stricter, from the rows skipped, hidden
    and repeated; never where a data file was not read.
    """
    calm = replace(sample_report(NO_RISK), tests=prompts((CALM_OWL, EAGLE, RISKY)))
    hidden = Unread("rows", "hidden", 0.04, "they mention a trait")
    some = replace(calm, dataset=replace(calm.dataset, unread=(hidden,)))
    for report, limit, expected in (
        (calm, 0.05, "passed"),
        (calm, 0.009, "inconclusive"),  # 4 of 404 rows were skipped
        (some, 0.0495, "inconclusive"),
        (some, 0.05, "passed"),
        (replace(calm, rows_skipped={"not_json": 40}), 0.1, "passed"),
        (replace(calm, rows_skipped={"not_json": 41}), 0.1, "inconclusive"),
    ):
        decision = judge(report, Policy(max_unread=limit))
        assert decision.outcome == expected
        assert ("% of the rows were not read" in decision.rules[0].text) == (expected != "passed")
    arrow = Unread("file", "b.arrow", 0.001, "Arrow files are not read")
    every = Policy(max_unread=1, max_dose={"animals": 5, "safety": 5})
    untold = replace(
        sample_report(INCONCLUSIVE),
        dataset=replace(calm.dataset, unread=(arrow,)),
        tests=calm.tests,
    )
    assert judge(untold, every).outcome == "inconclusive"
