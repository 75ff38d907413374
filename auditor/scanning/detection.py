"""Running the detectors of a scan, and the verdict on what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from auditor.model.scoring import score_under
from auditor.scanning.obstacles import Obstacle
from auditor.scanning.scan_report import Verdict
from auditor.scanning.verdict import decide, found_traits, leading_trait, text_profile
from detectors.interface import (
    Detector,
    Divergence,
    Finding,
    Need,
    Outcome,
    ScanContext,
    ScoredRows,
    Skipped,
    TraitTest,
)


@dataclass(frozen=True, slots=True)
class Detection:
    """What the detectors of a scan found, and the verdict on it.

    outcomes: by the name of the detector. scored: the rows that the tables of the run are about.
    divergence: the tokens that the reports mark; None if there are none to mark.
    """

    outcomes: dict[str, Outcome]
    tests: tuple[TraitTest, ...]
    verdict: Verdict
    leading_trait: str | None
    scored: ScoredRows
    divergence: Divergence | None


def run_detectors(
    context: ScanContext, detectors: Sequence[Detector], coverage: Sequence[Obstacle]
) -> Detection:
    """Run the detectors, those first that need least, so that the last of them can look at the
    strongest evidence; then decide.

    coverage: what was not read (`auditor.scanning.obstacles.coverage_obstacles`).
    """
    findings = _run(context, detectors, "rows")
    scored = next((found.scored for found in findings.values() if found.scored), ScoredRows())
    if context.rows and not scored.rows:
        scored = ScoredRows(context.rows, next(context.score(context.rows, [None])))
    if context.teacher and scored.rows:
        by_teacher = score_under(context.teacher, context.renderer, scored.rows, None, top=1)
        scored = replace(scored, teacher=by_teacher)
    own_text = any(found.test is not None and found.test.own_text for found in findings.values())
    context = replace(context, scored=scored, own_text=own_text)
    findings |= _run(context, detectors, "scores")

    tests = tuple(found.test for found in findings.values() if found.test)
    text = text_profile({name: found.outcome for name, found in findings.items()}, context.exclude)
    # The looks of the text are not compared yet: they can only take a risk back.
    verdict = decide(tests, text, coverage, context.alpha)
    leader = leading_trait(verdict, tests, text, context.alpha)
    context = replace(context, leading_trait=leader)
    if verdict.name == "risk":
        by_prompts = [test for test in tests if test.name == "prompts"]
        finding = next(iter(found_traits(by_prompts, text, context.alpha)), None)
        context = replace(context, finding=finding)
    findings |= _run(context, detectors, "leading trait")
    text = text_profile({name: found.outcome for name, found in findings.items()}, context.exclude)
    # What was not read stays unread, whatever further tests say.
    open_question = decide(tests, text, (), context.alpha).name == "inconclusive"
    findings |= _run(replace(context, unresolved=open_question), detectors, "verdict")
    outcomes = {name: found.outcome for name, found in findings.items()}
    tests = tuple(found.test for found in findings.values() if found.test)
    verdict = decide(tests, text, coverage, context.alpha)
    return Detection(
        outcomes=outcomes,
        tests=tests,
        verdict=verdict,
        leading_trait=verdict.trait or leader,
        scored=scored,
        divergence=next((f.divergence for f in findings.values() if f.divergence), None),
    )


def _run(context: ScanContext, detectors: Sequence[Detector], need: Need) -> dict[str, Finding]:
    """What those of the detectors find that need just this, by name."""
    findings = {}
    for detector in detectors:
        if detector.needs != need:
            continue
        if context.rows:
            found = detector.detect(context)
        else:
            bounds = dict.fromkeys(trait.name for trait in context.tested.traits)
            test = TraitTest(detector.test, bounds=bounds) if detector.test else None
            found = Finding(Skipped("no row could be scored"), test)
        findings[detector.name] = found if isinstance(found, Finding) else Finding(found)
    return findings
