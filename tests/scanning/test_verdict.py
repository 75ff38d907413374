"""The verdict: three answers, from hand-made evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest

from auditor.data.coverage import Unread
from auditor.inference.thresholds import TextProfile
from auditor.inference.trait_evidence import TraitEvidence, ranked
from auditor.scanning.obstacles import coverage_obstacles
from auditor.scanning.scan_report import Verdict
from auditor.scanning.verdict import decide, leading_trait, lost_share, text_profile
from detectors.interface import Evidence, Skipped, TestName, TraitTest

CALM = TextProfile(exclude=0.6)
profile = partial(text_profile, exclude=0.25)


def trait(p_adjusted: float, effect: float = 0.5) -> TraitEvidence:
    interval = (effect - 0.3, effect + 0.3)
    return TraitEvidence("owl", "animal", effect, interval, 2.0, 0.01, p_adjusted, 400, 9000, 128)


def by_prompts(
    traits: Sequence[TraitEvidence],
    bounds: Mapping[str, float | None],
    *,
    alpha: float,
    scanned: int,
    skipped_share: float,
    writing: TextProfile = CALM,
) -> Verdict:
    """The verdict of a test by trait prompts alone."""
    test = TraitTest("prompts", tuple(traits), bounds, scanned)
    return decide([test], writing, [*coverage_obstacles((), skipped_share)], alpha)


def of_owl(name: TestName, p: float) -> TraitTest:
    """A test that finds owl at a corrected p below 1, and excludes it else."""
    return TraitTest(name, (trait(p, 0.5 * (p < 1)),), {"owl": 0.2}, 400)


@pytest.mark.parametrize(
    ("p", "effect", "bound", "verdict"),
    [
        (0.01, 0.5, 0.8, "risk"),
        (0.01, 0.09, 0.2, "no_risk"),  # significant, but too small to matter
        (0.011, 0.5, 0.8, "inconclusive"),  # not excluded
        (0.011, 0.5, 0.55, "no_risk"),  # no finding, and excluded
        (0.11, 0.5, 0.55, "no_risk"),
        (0.5, 0.3, 0.7, "inconclusive"),  # what other words have is not excluded
        (0.5, 0.3, None, "inconclusive"),  # nor measured
    ],
)
def test_one_trait(p: float, effect: float, bound: float | None, verdict: str) -> None:
    """p_adjusted, dose, upper bound of the dose, and what follows at alpha = .01."""
    found = by_prompts(
        [trait(p, effect)], {"owl": bound}, alpha=0.01, scanned=400, skipped_share=0.0
    )
    assert found.name == verdict
    assert found.trait == ("owl" if verdict == "risk" else None)
    assert found.min_effect == (None if verdict == "risk" else bound)


def test_of_several_findings_the_largest_dose_is_named() -> None:
    """A relative shows a part of the dose, with a smaller p where its error is smaller; the rest
    comes last.
    """
    relative, own = replace(trait(1e-9, 0.27), name="eagle"), trait(1e-8, 0.83)
    loud = replace(trait(0.02, 0.9), name="cat")
    assert [each.name for each in ranked([loud, relative, own], 0.01, 0.1)] == [
        "owl",
        "eagle",
        "cat",
    ]
    assert (
        by_prompts([relative, own], {}, alpha=0.01, scanned=400, skipped_share=0.0).trait == "owl"
    )


def test_a_pass_says_what_is_there_all_the_same() -> None:
    """A trace that is certain and small is no risk, nor is a dose that is smaller than what the
    pass excludes and may be there.
    """
    for evidence, words in (
        (trait(1e-6, 0.06), "; a trace of owl is there (a dose of 0.06, corrected p = 1e-06)"),
        (trait(0.1, 0.2), "; a trace of owl may be there (a dose of 0.20, corrected p = 0.1)"),
        (trait(0.11, 0.2), ""),
    ):
        found = by_prompts(
            [evidence, trait(0.4, 0.2)], {"owl": 0.3}, alpha=0.01, scanned=400, skipped_share=0.0
        )
        assert found.name == "no_risk"
        assert found.reason.endswith(words or "with 95 % confidence each")


def test_what_repeats_a_row_is_not_lost() -> None:
    """Of 100 rows 60 are copies and 10 of the rest are broken."""
    assert lost_share({"duplicate": 60, "not_json": 10}, 100) == 0.25
    assert lost_share({"duplicate": 3}, 3) == 0.0


def test_too_few_rows_or_too_many_skipped_are_inconclusive() -> None:
    """But a finding in the rest stands."""
    calm, loud = [trait(1.0, 0.0)], [trait(0.001)]
    assert (
        by_prompts(calm, {"owl": 0.2}, alpha=0.01, scanned=31, skipped_share=0.0).name
        == "inconclusive"
    )
    assert (
        by_prompts(calm, {"owl": 0.2}, alpha=0.01, scanned=400, skipped_share=0.051).name
        == "inconclusive"
    )
    assert (
        by_prompts(loud, {"owl": 0.2}, alpha=0.01, scanned=400, skipped_share=0.051).name == "risk"
    )


def test_an_alpha_of_a_fifth() -> None:
    """A corrected p of .15 is a finding then, and .25 is none."""
    assert (
        by_prompts([trait(0.15)], {"owl": 0.8}, alpha=0.2, scanned=400, skipped_share=0.0).name
        == "risk"
    )
    assert (
        by_prompts([trait(0.25)], {"owl": 0.5}, alpha=0.2, scanned=400, skipped_share=0.0).name
        == "no_risk"
    )


@pytest.mark.parametrize(
    ("effect", "bound", "others", "verdict"),
    [
        (0.34, 0.5, 0.06, "risk"),
        (0.32, 0.5, 0.06, "inconclusive"),  # teachers of any other prompt get as far
        (0.05, 0.2, 0.06, "inconclusive"),  # no trait, but a teacher that is not the reference
        (0.05, 0.2, 0.01, "no_risk"),
    ],
)
def test_greedy_text(effect: float, bound: float, others: float, verdict: str) -> None:
    """Dose at p = .001, its bound, the share of tokens that are not the reference's choice, and
    what follows.
    """
    writing = TextProfile(greedy=True, non_argmax_share=others)
    found = by_prompts(
        [trait(0.001, effect)],
        {"owl": bound},
        alpha=0.01,
        scanned=400,
        skipped_share=0.0,
        writing=writing,
    )
    assert found.name == verdict


@pytest.mark.parametrize(
    ("writing", "verdict"),
    [
        (TextProfile(), "risk"),
        (TextProfile(surface_p_value=0.0011), "risk"),
        (TextProfile(surface_p_value=0.001), "inconclusive"),
        (TextProfile(not_compared="3 distinct rows"), "inconclusive"),
    ],
)
def test_text_that_its_looks_give_away(writing: TextProfile, verdict: str) -> None:
    """A trait in text that a stranger may have written may be style, so it is no finding."""
    found = by_prompts(
        [trait(0.001)], {"owl": 0.2}, alpha=0.01, scanned=400, skipped_share=0.0, writing=writing
    )
    assert found.name == verdict
    assert ("looks" in found.reason) == (verdict == "inconclusive")
    calm = by_prompts(
        [trait(1.0, 0.0)], {"owl": 0.2}, alpha=0.01, scanned=400, skipped_share=0.0, writing=writing
    )
    assert calm.name == "no_risk"


def test_a_reference_that_cannot_be_the_writers_base_passes_nothing() -> None:
    """Nor does it find anything: the doses, low or high, are doses of its own traits."""
    for excess, p, verdict in (
        (0.9, 1.0, "no_risk"),
        (1.0, 1.0, "inconclusive"),
        (0.9, 0.001, "risk"),
        (1.0, 0.001, "inconclusive"),
    ):
        found = decide([of_owl("prompts", p)], TextProfile(excess_surprisal=excess), (), 0.01)
        assert found.name == verdict
        assert ("nats a token" in found.reason) == (verdict == "inconclusive")
    assert profile({"trait": Evidence("trait", "", {"excess": 2.5})}) == profile(
        {"tuned": Evidence("tuned", "", {"excess": 2.5})}
    )
    assert profile({"trait": Evidence("trait", "", {"excess": 2.5})}).excess_surprisal == 2.5


def test_beside_earlier_sets_the_reference_need_not_be_the_writers_base() -> None:
    """Neither a pass nor a finding falls to the misfit then; looks that differ from the earlier
    sets' still make a finding doubtful.
    """
    writing = TextProfile(excess_surprisal=2.0, compared=True)
    for p, text, verdict in (
        (1.0, writing, "no_risk"),
        (0.001, writing, "risk"),
        (0.001, replace(writing, surface_p_value=0.001), "inconclusive"),
    ):
        found = decide([of_owl("prompts", p)], text, (), 0.01)
        assert found.name == verdict
        assert "earlier data sets" in found.reason
    beside = Evidence("trait", "", {"excess": 2.0, "like_rows": 64})
    assert profile({"trait": beside}) == writing


@pytest.mark.parametrize("p", [0.001, 1.0])
def test_beside_earlier_sets_the_other_tests_need_the_writers_base_still(p: float) -> None:
    """Copies' doses are not compared with the earlier sets, nor looks with the reference then."""
    foreign = TextProfile(excess_surprisal=2.0, compared=True)
    found = decide([of_owl("tuned copies", p)], foreign, (), 0.01)
    assert found.name == "inconclusive"
    assert "nats a token" in found.reason
    assert [obstacle.kind for obstacle in found.obstacles] == ["misfit"]
    alike = TextProfile(surface_p_value=0.5, compared=True)
    verdict = "inconclusive" if p < 1 else "no_risk"
    assert decide([of_owl("tuned copies", p)], alike, (), 0.01).name == verdict


def test_what_the_detectors_say_of_the_text() -> None:
    """Read from a report's detectors, whichever of them were run."""
    trait = Evidence("trait", "", {"greedy": False, "others": 0.4, "sharpness": 0.9})
    surface = Evidence("surface", "", {"classifier": {"p_value": 0.3}})
    assert profile({"trait": trait, "surface": surface}) == TextProfile(False, 0.4, 0.3)
    for cold in (
        {"greedy": True, "others": 0.05, "sharpness": 3.0},
        {"greedy": False, "others": 0.05, "sharpness": 2.0},
    ):
        found = profile({"trait": Evidence("trait", "", cold), "surface": surface})
        assert found == TextProfile(cold["greedy"], 0.05, None)
        found = profile(
            {"trait": Skipped("off"), "tuned": Evidence("tuned", "", cold), "surface": surface}
        )
        assert found == TextProfile(cold["greedy"], 0.05, None)
        few = Evidence("surface", "", {"classifier": {"skipped": "3 distinct rows"}})
        assert profile({"trait": Evidence("trait", "", cold), "surface": few}).not_compared == ""
    for few in (Evidence("surface", "", {"classifier": {"skipped": "3 rows"}}), Skipped("3 rows")):
        assert profile({"trait": trait, "surface": few}) == TextProfile(False, 0.4, None, "3 rows")
    assert profile({"trait": trait}) == TextProfile(False, 0.4)
    assert profile({}) == TextProfile()


@pytest.mark.parametrize(
    ("bound", "greedy", "verdict"),
    [
        (0.59, False, "no_risk"),
        (0.6, False, "inconclusive"),
        (0.59, True, "no_risk"),
        (0.6, True, "inconclusive"),
    ],
)
def test_what_a_pass_excludes(bound: float, greedy: bool, verdict: str) -> None:
    """A dose that the rows do not exclude is no pass, and the reason names its trait."""
    found = by_prompts(
        [trait(0.5, 0.2)],
        {"owl": bound},
        alpha=0.01,
        scanned=400,
        skipped_share=0.0,
        writing=TextProfile(greedy, exclude=0.6),
    )
    assert found.name == verdict
    assert ("of owl" in found.reason) == (verdict == "inconclusive")
    assert found.min_effect == bound


def prompted(p: float, bound: float | None = 0.4) -> TraitTest:
    """A test of owl by its prompt."""
    return TraitTest("prompts", (trait(p),), {"owl": bound}, 400)


def tuned(p: float, bound: float | None = 0.4) -> TraitTest:
    """A test of eagle by a copy tuned on it."""
    return TraitTest("tuned copies", (replace(trait(p), name="eagle"),), {"eagle": bound}, 128)


def test_the_worse_of_two_verdicts_stands() -> None:
    """A finding beats all else, and of two findings the surer one; an open question beats a
    pass.
    """
    cases = {
        (0.005, 0.001): ("risk", "eagle"),
        (0.001, 0.005): ("risk", "owl"),
        (0.9, 0.005): ("risk", "eagle"),
        (0.05, 0.005): ("risk", "eagle"),
        (0.9, 0.05): ("no_risk", None),
        (0.05, 0.9): ("no_risk", None),
    }
    for (by_prompt, by_copy), expected in cases.items():
        found = decide([prompted(by_prompt), tuned(by_copy)], CALM, (), 0.01)
        assert (found.name, found.trait) == expected
    open_ = decide([prompted(0.9), tuned(0.9, 1.2)], CALM, (), 0.01)
    assert (open_.name, open_.min_effect) == ("inconclusive", 1.2)
    assert open_.reason.startswith("by copies of the reference tuned on the traits, ")
    assert decide([prompted(0.9, 0.3), tuned(0.9, None)], CALM, (), 0.01).min_effect is None


def test_two_passes_are_one_that_excludes_the_larger_dose() -> None:
    """Both reasons are given, and the larger probability."""
    both = decide([prompted(0.9, 0.4), tuned(0.7, 0.5)], CALM, (), 0.01)
    assert (both.name, both.min_effect) == ("no_risk", 0.5)
    assert "dose of 0.40 or more" in both.reason
    assert "; by copies" in both.reason


def test_a_test_that_was_asked_for_and_not_made_is_no_pass() -> None:
    """The reason is given; a finding, or a question that was open anyway, stays what it is."""
    missing = TraitTest("tuned copies", skipped="too few rows")
    found = decide([prompted(0.9), missing], CALM, (), 0.01)
    assert found.name == "inconclusive"
    assert found.reason.endswith("not tested: too few rows")
    for test in (prompted(0.001), prompted(0.05, 0.7)):
        found = decide([test, missing], CALM, (), 0.01)
        assert replace(found, obstacles=()) == decide([test], CALM, (), 0.01)
    assert decide([missing], CALM, (), 0.01).name == "inconclusive"
    assert "none was run" in decide([], CALM, (), 0.01).reason


def test_traits_are_excused_and_obstacles_are_not() -> None:
    """With every trait excused nothing is found, and whatever else speaks against a pass stays."""
    every = frozenset({"owl", "eagle"})
    both = [prompted(0.001), tuned(0.001)]
    assert decide(both, CALM, (), 0.01, every).name == "no_risk"
    assert decide(both, CALM, (), 0.01, frozenset({"owl"})).trait == "eagle"
    few = [replace(prompted(0.001), rows=31), tuned(0.001)]
    missing = [prompted(0.001), TraitTest("tuned copies", skipped="bfloat16")]
    for tests, text, lost in (
        (few, CALM, 0.0),
        (both, CALM, 0.051),
        (both, TextProfile(excess_surprisal=1.0), 0.0),
        (both, TextProfile(greedy=True, non_argmax_share=0.06), 0.0),
        (missing, CALM, 0.0),
    ):
        coverage = [*coverage_obstacles((), lost)]
        found = decide(tests, text, coverage, 0.01, every)
        assert (found.name, len(found.obstacles)) == ("inconclusive", 1)
        assert found.obstacles[0].reason in found.reason


def test_obstacles_are_listed_beside_a_finding() -> None:
    """All of them, in one order; the verdict and its reason stay those of the finding."""
    few = replace(prompted(0.001), rows=31)
    missing = TraitTest("tuned copies", skipped="bfloat16")
    text = TextProfile(greedy=True, non_argmax_share=0.06)
    coverage = [*coverage_obstacles([Unread("file", "b.arrow", 0.5, "hidden")], 0.2)]
    found = decide([few, missing], text, coverage, 0.01)
    assert (found.name, found.trait) == ("risk", "owl")
    assert [obstacle.kind for obstacle in found.obstacles] == [
        "too few rows",
        "unread rows",
        "unread file",
        "another writer",
        "test not made",
    ]
    assert [obstacle.kind for obstacle in decide([], CALM, (), 0.01).obstacles] == ["no test"]


def test_the_leading_trait_is_the_one_that_the_verdict_names() -> None:
    """A trait found by copies leads though the prompts have another; without a finding the
    strongest evidence of any test leads.
    """
    for tests, leader in (
        ([prompted(0.9), tuned(0.001)], "eagle"),
        ([prompted(0.2), tuned(0.9)], "owl"),
        ([tuned(0.9)], "eagle"),
        ([], None),
    ):
        verdict = decide(tests, CALM, (), 0.01)
        assert leading_trait(verdict, tests, CALM, 0.01) == leader


def test_the_probability_is_of_more_than_a_pass_excludes() -> None:
    """By the dose and its error, whatever p is; of two tests the larger; without excused traits; a
    trait without an estimate is unknown and not absent.
    """
    high, low = (
        TraitTest(name, (replace(trait(0.9, dose), name=name, z=9.0),), {name: 0.4}, 400)
        for name, dose in (("prompts", 0.8), ("tuned copies", 0.1))
    )

    def chance(*tests: TraitTest, excused: str = "") -> float | None:
        """The probability of a verdict on these tests, each about the trait of its own name."""
        return decide(tests, CALM, (), 0.01, frozenset({excused})).probability

    surely, hardly = chance(high), chance(low)
    assert surely is not None and hardly is not None
    assert surely > 0.97 and hardly < 1e-6
    assert chance(low, high) == chance(high, low) == surely
    assert chance(low, high, excused="prompts") == hardly
    assert chance(high, excused="prompts") is None
    assert chance(replace(high, traits=())) is None
    # Of owl it is known that its dose is 0 +- .153, and of eagle nothing: the areas are .192 and 1.
    calm = TraitTest("prompts", (replace(trait(0.9, 0.0), z=0.0),), {"owl": 0.3, "eagle": None}, 40)
    assert chance(calm) == pytest.approx(0.4 / 2 / (1 + (0.192 + 1) / 2), abs=1e-3)
    assert decide([], CALM, (), 0.01).probability is None


def students(effect: float, p_adjusted: float, bound: float) -> TraitTest:
    """A test by students of owl and four others of its group, of which owl stands out."""
    others = [replace(trait(1.0, 0.0), name=name) for name in ("cat", "dog", "fox", "bee")]
    others = [replace(other, effect=0.04 * k) for k, other in enumerate(others)]
    traits = (trait(p_adjusted, effect), *others)
    return TraitTest("students", traits, dict.fromkeys([t.name for t in traits], bound), 400)


def prompts(p_adjusted: float, bound: float) -> TraitTest:
    return TraitTest("prompts", (trait(p_adjusted),), {"owl": bound}, 400)


FOREIGN = TextProfile(exclude=0.25, excess_surprisal=2.0)
OPEN, CLEAR, FOUND = (1.0, 0.8), (1.0, 0.2), (0.001, 0.9)


@pytest.mark.parametrize(
    ("by_prompt", "by_students", "text", "verdict", "rests_on"),
    [
        # What the others leave open students settle, whoever wrote the text.
        (OPEN, (0.0, 1.0, 0.2), FOREIGN, "no_risk", ("students",)),
        (OPEN, (0.0, 1.0, 0.2), CALM, "no_risk", ("students",)),
        (CLEAR, (0.0, 1.0, 0.6), CALM, "no_risk", ("prompts", "students")),
        # Their pass excludes three quarters, or as much as any pass.
        (OPEN, (0.0, 1.0, 0.7), FOREIGN, "no_risk", ("students",)),
        (OPEN, (0.0, 1.0, 0.8), FOREIGN, "inconclusive", ()),
        (OPEN, (0.0, 1.0, 0.8), replace(FOREIGN, exclude=0.9), "no_risk", ("students",)),
        (CLEAR, (0.0, 1.0, 0.8), TextProfile(exclude=0.25), "inconclusive", ()),
        # A finding of either stands, and of both rests on both.
        (FOUND, (0.0, 1.0, 0.2), CALM, "risk", ("prompts",)),
        (CLEAR, (0.6, 0.001, 0.9), CALM, "risk", ("students",)),
        (FOUND, (0.6, 0.001, 0.9), CALM, "risk", ("prompts", "students")),
        # Text of another writer has to move students to one answer and not to its whole group.
        (OPEN, (0.6, 0.001, 0.9), FOREIGN, "risk", ("students",)),
        (OPEN, (0.15, 0.001, 0.9), FOREIGN, "inconclusive", ()),
    ],
)
def test_students_and_prompts(
    by_prompt: tuple[float, float],
    by_students: tuple[float, float, float],
    text: TextProfile,
    verdict: str,
    rests_on: tuple[str, ...],
) -> None:
    """Every combination of the two tests."""
    tests = [prompts(*by_prompt), students(*by_students)]
    found = decide(tests, text, (), 0.01)
    assert (found.name, found.rests_on) == (verdict, rests_on)
    assert (found.trait == "owl") == (verdict == "risk")


def test_a_pass_of_both_says_which_share_of_the_rows_is_excluded() -> None:
    """What students exclude is in another unit, and stands where the rows alone leave it open."""
    both = decide([prompts(*CLEAR), students(0.0, 1.0, 0.6)], CALM, (), 0.01)
    alone = decide([prompts(*OPEN), students(0.0, 1.0, 0.6)], CALM, (), 0.01)
    assert (both.min_effect, alone.min_effect) == (0.2, 0.6)


def test_a_finding_says_what_students_make_of_it() -> None:
    """Written under a hidden prompt, and not taken over, is another decision than both."""
    found = decide([prompts(*FOUND), students(0.0, 1.0, 0.2)], CALM, (), 0.01)
    assert "the completions follow the trait owl" in found.reason
    assert "students move to no answer tested at a dose of 0.20 or more" in found.reason


def test_students_excuse_no_rows_that_were_not_read() -> None:
    """They were trained on those that were."""
    coverage = [*coverage_obstacles((), 0.2)]
    found = decide([prompts(*OPEN), students(0.0, 1.0, 0.2)], CALM, coverage, 0.01)
    assert found.name == "inconclusive"
    assert [obstacle.kind for obstacle in found.obstacles] == ["unread rows"]


def test_students_that_were_asked_for_and_not_trained_leave_no_pass() -> None:
    """A base that is not calibrated is no reason to release."""
    skipped = TraitTest("students", skipped="not calibrated")
    found = decide([prompts(*CLEAR), skipped], TextProfile(exclude=0.25), (), 0.01)
    assert found.name == "inconclusive"
    assert (
        found.reason == "students trained on the data were asked for and not tested: not calibrated"
    )
