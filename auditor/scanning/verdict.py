"""The one definition of the verdict, used by the terminal, the exit code, every report format, the
gate and the comparison of two scans alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

from auditor.inference.posterior import dose_probability
from auditor.inference.thresholds import (
    COLD_INVERSE_TEMPERATURE,
    EXCLUDE,
    HARMLESS_SKIPS,
    MAX_EXCESS_SURPRISAL,
    MAX_GREEDY_NON_ARGMAX,
    MIN_EFFECT,
    MIN_ROWS,
    SURFACE_ALPHA,
    SUSPICIOUS,
    TextProfile,
    students_exclude,
)
from auditor.inference.trait_evidence import TraitEvidence, is_found, ranked
from auditor.scanning.obstacles import Obstacle
from auditor.scanning.scan_report import Verdict
from detectors.interface import Evidence, Outcome, Skipped, TestName, TraitTest

ASKED_FOR: dict[TestName, str] = {
    "prompts": "trait prompts",
    "tuned copies": "copies of the reference tuned on the traits",
    "students": "students trained on the data",
}
PREFIXES: dict[TestName, str] = {
    "prompts": "",
    "tuned copies": "by copies of the reference tuned on the traits, ",
    "students": "trained on these data, ",
}
ORDER = ("risk", "inconclusive", "no_risk")  # The worst verdict of several tests stands.


def decide(
    tests: Sequence[TraitTest],
    text: TextProfile,
    coverage: Sequence[Obstacle],
    alpha: float,
    excused: Set[str] = frozenset(),
) -> Verdict:
    """risk, no_risk or inconclusive, from every test of traits that was asked for.

    text: what the text is like, which decides what the evidence of traits is worth. coverage: what
    was not read (`auditor.scanning.obstacles.coverage_obstacles`). alpha: the rate of false alarms.
    excused: traits that another rule of a policy answers for. Their evidence is left out of every
    test; obstacles, which are no trait's, stay and are listed with the verdict.

    Each test has a verdict of its own (`_decide_test`), and the worst of them stands; of two
    findings the one with the smaller p-value, since p-values are corrected for all tests. A pass
    excludes the largest of the doses that the tests exclude. A test that was asked for and not made
    leaves no pass. The probability is the largest of any test's, and decides nothing.

    Students are what a release is about, so that their pass settles what the other tests leave
    open: data of any writer pass that move no answer. It takes no finding back: text written under
    a hidden prompt stays a risk, and the reason says what students made of it.
    """
    made = [test for test in tests if not test.skipped]
    missing = [
        Obstacle(
            "test not made",
            f"{ASKED_FOR[test.name]} were asked for and not tested: {test.skipped}",
        )
        for test in tests
        if test.skipped
    ]
    if not tests:
        reason = "a verdict rests on detector trait, tuned or students, and none was run"
        missing = [Obstacle("no test", reason)]
    by_test = {test.name: _decide_test(test, text, coverage, alpha, excused) for test in made}
    of_students = by_test.get("students")
    any_risk = any(single.name == "risk" for single in by_test.values())
    if of_students and of_students.name == "no_risk" and not any_risk:
        made = [test for test in made if by_test[test.name].name == "no_risk"]
    other_writer = (
        obstacle
        for test in made
        if test.name != "students"
        for obstacle in _another_writer(_text_for(test, text))
    )
    obstacles = (
        *(obstacle for test in made for obstacle in _too_few_rows(test)),
        *coverage,
        *dict.fromkeys(other_writer),
        *missing,
    )
    if not made:
        return Verdict("inconclusive", None, missing[0].reason, None, None, obstacles)
    verdicts = [by_test[test.name] for test in made]
    p_values = [
        min(
            (t.p_adjusted for t in test.traits if t.name not in excused and t.effect >= MIN_EFFECT),
            default=1.0,
        )
        for test in made
    ]
    worst, _ = min(
        zip(verdicts, p_values, strict=True), key=lambda pair: (ORDER.index(pair[0].name), pair[1])
    )
    measured = [single.probability for single in verdicts if single.probability is not None]
    verdict = replace(worst, probability=max(measured, default=None))
    if verdict.name != "risk":
        # What students exclude is in a unit of its own, and counts where nothing else is excluded.
        of_rows = [test for test in made if test.name != "students"] or made
        doses = [by_test[test.name].min_effect for test in of_rows]
        known = [dose for dose in doses if dose is not None]
        upper = max(known) if len(known) == len(doses) else None
        verdict = replace(verdict, min_effect=upper)
    if verdict.name == "risk" and of_students and worst is not of_students:
        verdict = replace(verdict, reason=f"{verdict.reason}; {of_students.reason}")
    if verdict.name == "no_risk":
        verdict = replace(verdict, reason="; ".join(single.reason for single in verdicts))
        if missing:
            verdict = replace(verdict, name="inconclusive", reason=missing[0].reason)
    grounds = [] if verdict.name == "inconclusive" else made
    rests_on = tuple(test.name for test in grounds if by_test[test.name].name == verdict.name)
    verdict = replace(verdict, obstacles=obstacles, rests_on=rests_on)
    if text.compared and "prompts" in rests_on:
        reason = f"{verdict.reason}; compared with earlier data sets, which are taken for clean"
        verdict = replace(verdict, reason=reason)
    absent = sorted(excused & {name for test in tests for name in test.bounds})
    if absent:
        return replace(verdict, reason=f"without {', '.join(absent)}: {verdict.reason}")
    return verdict


def text_profile(outcomes: Mapping[str, Outcome], exclude: float) -> TextProfile:
    """What the detectors `trait`, or `tuned` without it, and `surface` say of the text.

    exclude: the dose that a pass must exclude.
    """
    by_prompts, by_copies = (
        outcome.values if isinstance(outcome := outcomes.get(name), Evidence) else {}
        for name in ("trait", "tuned")
    )
    figures = by_prompts or by_copies
    text = TextProfile(
        greedy=bool(figures.get("greedy")),
        non_argmax_share=float(figures.get("others", 0.0)),
        excess_surprisal=float(figures.get("excess", 0.0)),
        exclude=exclude,
        compared=bool(figures.get("like_rows")),
    )
    if text.greedy or figures.get("sharpness", 1.0) >= COLD_INVERSE_TEMPERATURE:
        return text
    match outcomes.get("surface"):
        case Evidence(values={"by_trait": {"p_value": p_value}}):
            return replace(text, surface_p_value=p_value)
        case Evidence(values={"classifier": {"p_value": p_value}}):
            return replace(text, surface_p_value=p_value)
        case Evidence(values={"classifier": {"skipped": reason}}) | Skipped(reason=reason):
            return replace(text, not_compared=reason)
    return text


def reported_text(outcomes: Mapping[str, Outcome], settings: Mapping[str, object]) -> TextProfile:
    """`text_profile` of a report by its detectors and its settings; one of an earlier release does
    not say what a pass excludes.
    """
    return text_profile(outcomes, float(str(settings.get("exclude", EXCLUDE))))


def lost_share(skipped: Mapping[str, int], rows: int) -> float:
    """The share of `rows` rows read that could not be used, of those that had to be: rows that were
    left out for a reason of HARMLESS_SKIPS are no loss.
    """
    harmless = sum(skipped.get(reason, 0) for reason in HARMLESS_SKIPS)
    return (sum(skipped.values()) - harmless) / max(1, rows - harmless)


def found_traits(
    tests: Sequence[TraitTest], text: TextProfile, alpha: float
) -> tuple[TraitEvidence, ...]:
    """The traits that any test finds, by evidence; a trait that two tests find counts by each."""
    found = [
        trait
        for test in tests
        for trait in test.traits
        if is_found(trait, alpha, least_dose(test, text))
    ]
    return ranked(found, alpha, MIN_EFFECT)


def least_dose(test: TraitTest, text: TextProfile) -> float:
    """The smallest dose of a test that is called a risk: what greedy text does to prompts it does
    not do to students.
    """
    return MIN_EFFECT if test.name == "students" else text.min_reported_dose


def excluded_dose(test: TraitTest, exclude: float) -> float:
    """The dose that a pass of a test must exclude for every trait, where a pass by prompts must
    exclude `exclude`.
    """
    return students_exclude(exclude) if test.name == "students" else exclude


def trace_of(
    traits: Sequence[TraitEvidence], excluded: float | None, alpha: float
) -> tuple[TraitEvidence, str] | None:
    """What a pass mentions: the trait of the smallest corrected p that is at most SUSPICIOUS, at a
    dose below the one that is `excluded`, and in words how sure it is; None where there is none.
    """
    small = [t for t in traits if 0 < t.effect < (excluded or 0) and t.p_adjusted <= SUSPICIOUS]
    if not small:
        return None
    trace = min(small, key=lambda trait: trait.p_adjusted)
    certainty = "is" if trace.p_adjusted <= alpha else "may be"
    return trace, f"a trace of {trace.name} {certainty} there"


def leading_trait(
    verdict: Verdict, tests: Sequence[TraitTest], text: TextProfile, alpha: float
) -> str | None:
    """The trait that the verdict names, or else the one with the strongest evidence of any test."""
    evidence = [trait for test in tests for trait in test.traits]
    order = ranked(evidence, alpha, text.min_reported_dose)
    return verdict.trait or (order[0].name if order else None)


def _decide_test(
    test: TraitTest,
    text: TextProfile,
    coverage: Sequence[Obstacle],
    alpha: float,
    excused: Set[str],
) -> Verdict:
    """The verdict of one test, from corrected p-values, effect sizes and the doses that could be
    excluded.

    risk: some trait `is_found`, with a dose of at least MIN_EFFECT in text that was compared with
        the reference's own, if `surface` was asked for, and is not told from it by its looks, nor
        less likely to it than its own by MAX_EXCESS_SURPRISAL; or of MIN_GREEDY_EFFECT in greedy
        text. That of the largest dose is named. The chance of this on data that the reference wrote
        is at most alpha. A stranger's text, or a template, fits some prompts better than others for
        reasons of style. Students may be moved by style as well: in text of such looks they must
        move to the answer beyond what they move to the others of its group.
    no_risk: no trait has, and the one-sided 95 % bound of the effect of every trait tested lies
        below the dose that a pass excludes (`excluded_dose`). Greedy text passes only if nearly all
        of its tokens are the reference's choice (MAX_GREEDY_NON_ARGMAX): the others were chosen by
        a teacher that is not known. Nor does text pass that is less likely than the reference's own
        by MAX_EXCESS_SURPRISAL: the reference is no base of the writer's then, or the template is
        another. A smaller dose may be there: where a corrected p is at most SUSPICIOUS, the reason
        names it.
    inconclusive: otherwise; also with fewer than MIN_ROWS rows, or with an obstacle in what was not
        read.
    """
    by_students, prefix = test.name == "students", PREFIXES[test.name]
    text, least = _text_for(test, text), least_dose(test, text)
    traits = [trait for trait in test.traits if trait.name not in excused]
    bounds = {name: bound for name, bound in test.bounds.items() if name not in excused}
    # Of a trait without an estimate nothing is known, which is not that it is absent.
    unknown = bounds.keys() - {trait.name for trait in traits}
    estimates = [(trait.effect, trait.se) for trait in traits] + [(0.0, 0.0)] * len(unknown)
    probability = dose_probability(estimates, text.exclude) if traits else None
    best = next(iter(ranked(traits, alpha, least)), None)
    if best is not None and is_found(best, alpha, least):
        dose = f"a dose of {best.effect:.2f}, corrected p = {best.p_adjusted:.2g}"
        verb = "students move to" if by_students else "the completions follow the trait"
        reason = f"{prefix}{verb} {best.name} at {dose}"
        doubt = _doubt(text)
        if not doubt or (by_students and _stands_out(best, test.traits, alpha)):
            return Verdict("risk", probability, reason, best.name, None)
        reason += f", but {doubt}: another writer's style or a template can do that"
        return Verdict("inconclusive", probability, reason, None, None)
    against = [obstacle.reason for obstacle in (*_too_few_rows(test), *coverage)]
    if bounds or not test.bounds:  # Where all traits are excused, nothing is left to be excluded.
        against.append(_not_excluded(bounds, excluded_dose(test, text.exclude)))
    if not by_students:
        against += [obstacle.reason for obstacle in _another_writer(text)]
    upper = max((bound for bound in bounds.values() if bound is not None), default=None)
    reason = next(filter(None, against), "")  # The first is the one that a user can mend first.
    if reason:
        return Verdict("inconclusive", probability, prefix + reason, None, upper)
    if not bounds:
        reason = f"{prefix}every trait tested is left to another rule"
        return Verdict("no_risk", probability, reason, None, None)
    excluded = f"at a dose of {upper:.2f} or more, with 95 % confidence each"
    reason = f"{prefix}every trait tested is excluded {excluded}"
    if by_students:
        reason = f"{prefix}students move to no answer tested {excluded}"
    if test.own_text:
        reason = f"the text is the reference's own: {reason}"
    # A pass must not hide a smaller dose than it excludes.
    if trace := trace_of(traits, upper, alpha):
        evidence, words = trace
        dose = f"a dose of {evidence.effect:.2f}, corrected p = {evidence.p_adjusted:.2g}"
        reason += f"; {words} ({dose})"
    return Verdict("no_risk", probability, reason, None, upper)


def _text_for(test: TraitTest, text: TextProfile) -> TextProfile:
    """The text as a test sees it. Only doses by prompts are compared with those of earlier data
    sets: for the other tests the reference must be the writer's base as ever, and looks that are
    like the earlier sets' do not show it.
    """
    if test.name == "prompts" or not text.compared:
        return text
    looks = "" if text.surface_p_value is None else "earlier data sets took its place"
    return replace(
        text, compared=False, surface_p_value=None, not_compared=text.not_compared or looks
    )


def _stands_out(trait: TraitEvidence, traits: Sequence[TraitEvidence], alpha: float) -> bool:
    """Whether students move to a trait's answer by more than they move to the others of its group,
    corrected for all traits: what no style of a writer does to one answer alone.
    """
    from auditor.inference.paired import negative_control_test  # SciPy is slow to import

    group = [other for other in traits if other.group == trait.group]
    tested = negative_control_test([other.effect for other in group], group.index(trait))
    return tested is not None and tested[1] * len(traits) <= alpha


def _too_few_rows(test: TraitTest) -> Iterator[Obstacle]:
    """That a test has too few rows to say anything."""
    if test.rows < MIN_ROWS:
        reason = f"{test.rows} rows could be scored and at least {MIN_ROWS} are needed"
        yield Obstacle("too few rows", reason)


def _doubt(text: TextProfile) -> str:
    """Why a finding may be a matter of style; empty if it is not."""
    if text.excess_surprisal >= MAX_EXCESS_SURPRISAL and not text.compared:
        return _misfit(text)
    if text.not_compared:
        own = "those of the earlier data sets" if text.compared else "the reference's own"
        return f"their looks could not be compared with {own} ({text.not_compared})"
    if text.surface_p_value is not None and text.surface_p_value <= SURFACE_ALPHA:
        null = "the earlier data sets" if text.compared else "what the reference writes"
        return f"their looks alone tell them from {null} (p = {text.surface_p_value:.2g})"
    return ""


def _not_excluded(bounds: Mapping[str, float | None], exclude: float) -> str:
    """Which trait may be there at a dose of `exclude` or more; empty if none may."""
    missing = [name for name, bound in bounds.items() if bound is None]
    if missing or not bounds:
        trait = (*missing, "any trait")[0]
        return f"the rows carry too little information on {trait}; more or longer rows are needed"
    widest = max(bounds, key=lambda name: bounds[name] or 0.0)
    highest = bounds[widest] or 0.0
    if highest < exclude:
        return ""
    return (
        f"a dose of {highest:.2f} of {widest} may be there, and a pass excludes "
        f"{exclude:.2g}; more or longer rows are needed"
    )


def _another_writer(text: TextProfile) -> Iterator[Obstacle]:
    """Why the reference is not what a pass must take it for. Where doses are compared with those of
    earlier data sets of the writer, it need not be.
    """
    if text.compared:
        return
    if text.greedy and text.non_argmax_share > MAX_GREEDY_NON_ARGMAX:
        yield Obstacle(
            "another writer",
            f"the text is greedy, and {text.non_argmax_share:.0%} of its tokens are not what the "
            "reference would choose: their teacher is not the reference, and its wording may be "
            "unlike the panel's",
        )
    if text.excess_surprisal >= MAX_EXCESS_SURPRISAL:
        reason = f"{_misfit(text)}; name the model that the students start from with --reference"
        yield Obstacle("misfit", reason)


def _misfit(text: TextProfile) -> str:
    """That the reference is no base of the writer's, so that doses of its traits say nothing."""
    excess = f"{text.excess_surprisal:.1f} nats a token"
    return f"the reference finds the text less likely than its own by {excess}"
