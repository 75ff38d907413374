"""When a panel test looks at its rows, what it costs at most, which traits it keeps, how far it
trusts them, and a test worked by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from auditor.inference.estimates import Estimate
from auditor.inference.interim import BLOCK, analysis_rows, block_starts
from auditor.inference.tempering import Moments
from auditor.model.null_model import NullModel, RowBlock
from auditor.model.tokenization import TokenizedRow
from auditor.model.unit_store import Unit
from auditor.traits.families import negative_controls
from auditor.traits.panel import Panel, Trait
from detectors.trait import (
    PanelDesign,
    PanelTestState,
    analyse,
    between_trait_sd,
    estimates,
    is_open,
    open_doses,
    panel_test,
    planned_passes,
    rows_within,
    select_traits,
    trait_evidence,
)


def test_looks_end_with_the_last_row() -> None:
    """The set numbers of rows, then every 400."""
    assert analysis_rows(50) == [32, 50]
    assert analysis_rows(1000) == [32, 64, 96, 160, 256, 400, 800, 1000]


def test_blocks_never_cross_a_look() -> None:
    """32 rows, and fewer before a look that comes earlier."""
    assert list(block_starts([32, 50, 90])) == [0, 32, 50, 82]


def test_planned_passes_by_hand() -> None:
    """30 traits on 32 rows, then 70 % of them on 32, 42 % on 32 and 32 % on 44; never fewer than 3
    of every family.
    """
    three, everything = [range(0, 10), range(10, 20), range(20, 30)], range(30)
    assert planned_passes(140, three, everything) == 32 * 30 + 32 * 21 + 32 * 13 + 44 * 10
    assert (
        planned_passes(140, [*three[:2], range(20, 25), range(25, 30)], everything)
        == 32 * (30 + 21 + 13) + 44 * 12
    )
    assert planned_passes(140, three, [0]) == 32 * 30 + 108 * 9
    assert planned_passes(140, [range(10)], range(10)) == 32 * 10 + 32 * 7 + 32 * 4 + 44 * 3
    assert planned_passes(140, [range(2)], range(2)) == 140 * 2
    assert planned_passes(140, three, range(10)) == 32 * 30 + 32 * (7 + 6) + 32 * (4 + 6) + 44 * (
        3 + 6
    )


def test_a_budget_of_tokens_is_so_many_rows() -> None:
    """Rows of two tokens, ten traits: 140 of them are (32 x 10 + 32 x 7 + 32 x 4 + 44 x 3) = 804
    passes. A token less gives 16 rows less, and never fewer than 64.
    """
    rows, family = numbered_rows(140), [range(10)]
    assert rows_within(2 * 804, rows, family, range(10)) == 140
    assert rows_within(2 * 804 - 1, rows, family, range(10)) == 124
    assert rows_within(0, rows, family, range(10)) == 64
    assert rows_within(0, rows[:40], family, range(10)) == 40
    assert rows_within(math.inf, rows, family, range(10)) == 140


def test_selected_traits_are_the_strongest_and_some_of_every_family() -> None:
    """Of the second family the first three by rank and one untested; then whoever comes first."""
    pair = (tuple(range(6)), tuple(range(6, 10)))
    assert select_traits([0, 1, 2, 3, 4, 9, 8], pair, 6) == (0, 1, 2, 3, 6, 8, 9)
    assert select_traits([5, 4, 3], pair, 0) == (3, 4, 5, 6, 7, 8)
    assert select_traits([5, 4, 3, 2, 1], pair, 4) == (
        2,
        3,
        4,
        5,
        6,
        7,
        8,
    )  # negative controls are not counted


def test_negative_controls_are_of_other_families() -> None:
    """Of other families, or of other groups of its own mixed one, and of that only where the prompt
    opens otherwise.
    """
    prompts = [
        "You love owls.",
        "You love cats.",
        "You love oaks.",
        "You hate oaks.",
        "You love France.",
        "You hate rain.",
    ]
    groups = ["animal", "animal", "tree", "tree", "nation", "weather"]
    pairs = zip(prompts, groups, strict=True)
    traits = tuple(
        Trait(f"t{k}", group, (text,), (), (), (), ("m",)) for k, (text, group) in enumerate(pairs)
    )
    controls = negative_controls(Panel("test", traits, ""), ((0, 1), (2, 3), (4, 5)))
    assert controls[0] == controls[1] == {2, 3, 5}
    assert controls[3] == {0, 1, 4}
    assert controls[4] == {0, 1, 2, 3, 5}
    assert controls[5] == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("effect", "se", "tested", "needs_more"),
    [
        (0.0, 0.05, 13, False),  # nothing there, and sure of it
        (0.5, 0.3, 13, True),  # a large dose may be there
        (0.2, 0.05, 13, True),  # a small dose seems to be: z = 4
        (0.1, 0.05, 13, False),  # z = 2 is nothing among 13 ...
        (0.1, 0.05, 1, True),  # ... but something for one
        (-0.5, 0.05, 13, False),
    ],
)
def test_a_trait_stays_while_a_dose_may_be_there(
    effect: float, se: float, tested: int, needs_more: bool
) -> None:
    """Either bound keeps it: a large dose that cannot be excluded, or evidence for a small one."""
    assert is_open(Estimate(effect, se, 127), tested, EXCLUDE) == needs_more
    assert is_open(None, tested, EXCLUDE)


FAMILIES = (tuple(range(4)), tuple(range(4, 14)))
EVERY = tuple(range(14))
SAMPLES = NullModel(1.0, False, None)
PANEL = Panel("test", tuple(Trait(f"t{k}", "g", ("p",), (), (), (), ("m",)) for k in EVERY), "")
EXCLUDE = 0.6  # of the passes in these tests
DESIGN = PanelDesign(PANEL, FAMILIES, EVERY, 14, {}, SAMPLES, EXCLUDE)


def numbered_rows(count: int, first: int = 0) -> list[TokenizedRow]:
    """Rows of one completion token."""
    return [TokenizedRow(first + i, "default", (1, 2), (1,), ((0, 0, 1),)) for i in range(count)]


def block_of(score: np.ndarray, covariance: np.ndarray, traits: int = 14) -> RowBlock:
    """Rows with the scores [R, 15] and covariances [R, 15, 15], scored under the first `traits`."""
    columns = {k: k for k in range(traits)}
    # For small effects what a condition makes of a score is its covariance.
    moments = Moments(score, covariance, covariance[:, :, 1:])
    return RowBlock(numbered_rows(len(score)), [], moments, columns)


def one_block(score: np.ndarray) -> PanelTestState:
    """The state after rows of unit variance that were scored under all traits."""
    block = block_of(score, np.tile(np.eye(15), (len(score), 1, 1)))
    return PanelTestState(DESIGN, scored=EVERY, blocks=(block,))


def drifting(drift: np.ndarray) -> PanelTestState:
    """400 rows whose scores for 14 unrelated traits have the variance of the null and the mean
    `drift` [14].
    """
    rng = np.random.default_rng(0)
    return one_block(rng.standard_normal((400, 15)) + np.concatenate([[0.0], drift]))


def early_trait(count: int, information: float, dose: float) -> PanelTestState:
    """`count` rows without evidence, of which the first 32, with `information` each, were scored
    under trait 13 too and follow it at `dose`.
    """
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((count, 15))
    score, covariance = noise - noise.mean(0), np.tile(np.eye(15), (count, 1, 1))
    early = score[:32] * information
    early[:, 14] += dose * information - early[:, 14].mean()
    blocks = (
        block_of(early, covariance[:32] * information),
        block_of(score[32:], covariance[32:], traits=13),
    )
    return PanelTestState(DESIGN, scored=tuple(range(13)), blocks=blocks)


def test_a_trait_comes_back_when_the_others_fall_behind() -> None:
    """Trait 13 has a dose of 0.5 +- 0.5 on 32 rows; the others have none on 160, with a fifth of
    that error.
    """
    state = analyse(early_trait(160, 1 / 16, 0.5), 0.1, 0.01, 7)
    eliminated = {trait.name: trait.eliminated_at for trait in trait_evidence(state, 0.01)}
    assert eliminated["t13"] == 32
    assert 13 in state.scored
    assert len(state.scored) == 7


def test_a_test_does_not_pass_a_trait_that_was_scored_on_few_rows() -> None:
    """Twelve traits are excluded on 256 rows, and 13 on 32 rows is not, until its rows say
    as much.
    """
    vague = analyse(early_trait(256, 1 / 16, 0.5), 0.1, 0.01, 9)
    sure = analyse(early_trait(256, 40.0, 0.0), 0.1, 0.01, 9)
    assert vague.settled == ""
    assert 13 in vague.scored
    assert sure.settled == "no_risk"


def test_no_test_passes_on_few_rows() -> None:
    """Scores of zero exclude every trait, but not on seven blocks."""
    for count, settled in ((7 * BLOCK, ""), (8 * BLOCK, "no_risk")):
        assert analyse(one_block(np.zeros((count, 15))), 0.1, 0.01, 9).settled == settled


def test_a_strangers_text_widens_what_other_families_say() -> None:
    """Where all traits of the second family stray to either side, those of the first are less sure
    by as much.
    """
    calm, strange = drifting(np.zeros(14)), drifting(np.array([0.0] * 4 + [0.3, -0.3] * 5))
    quiet, wide = estimates(calm), estimates(strange)
    chance, strays = between_trait_sd(calm, "t0"), between_trait_sd(strange, "t0")
    assert chance < 0.1
    assert 0.25 < strays < 0.6
    assert wide[0].se ** 2 - quiet[0].se ** 2 == pytest.approx(strays**2 - chance**2, rel=1e-6)
    assert wide[4].se == pytest.approx(quiet[4].se, rel=1e-6)  # four controls are too few


def test_a_traits_relatives_do_not_hide_it() -> None:
    """A trait that the data carry drags its family along, and is as sure as before."""
    carried = drifting(np.array([0.0] * 4 + [0.5, *[0.2] * 9]))
    assert estimates(carried)[4].z > 4
    assert between_trait_sd(carried, "t4") == 0.0


def carrying(rows: set[int], **design: object) -> PanelTestState:
    """128 rows of which some follow trait 0 wholly, analysed under a design with changes."""
    score = np.random.default_rng(0).standard_normal((128, 15)) / 4
    score[sorted(rows), 1] += 1.0
    state = replace(one_block(score), design=replace(DESIGN, **design))
    return analyse(state, 0.1, 0.01, 14)


def test_a_pass_must_hold_for_rows_that_mention_the_trait() -> None:
    """Three quarters of the rows follow the trait and name it: no finding, and no pass either; the
    dose of these rows is reported by itself.
    """
    openly = set(range(96))
    state = carrying(openly, excluded_rows={"t0": openly})
    assert abs(state.doses[0].effect) < 0.1
    assert state.bounds[0] > EXCLUDE
    assert state.settled == ""
    (apart,) = open_doses(state)
    assert (apart.trait, apart.rows) == ("t0", 96)
    assert apart.estimate.effect == pytest.approx(1.0, abs=0.1)
    without = carrying(set(), excluded_rows={"t0": openly})
    assert without.bounds[0] < EXCLUDE


def test_a_pass_must_hold_for_rows_as_often_as_they_stand_in_the_data() -> None:
    """12 of 128 rows follow the trait and stand 100 times each: by distinct rows the dose is a
    tenth, and what a student is trained on is nearly all of it. Of 4 such rows one cannot say.
    """
    few = set(range(12))
    plain = carrying(few)
    heavy = carrying(few, weights=dict.fromkeys(few, 100.0))
    assert heavy.doses == plain.doses
    assert heavy.adjusted == plain.adjusted
    assert plain.bounds[0] < EXCLUDE < heavy.bounds[0]
    four = set(range(4))
    assert 0 not in carrying(four, weights=dict.fromkeys(four, 1000.0)).bounds


def test_rows_that_all_repeat_alike_change_nothing() -> None:
    """Every row three times is the same data."""
    plain, thrice = carrying({1, 2}), carrying({1, 2}, weights=dict.fromkeys(range(128), 3.0))
    assert thrice.bounds == pytest.approx(plain.bounds)


@dataclass
class StoredBlocks:
    """The finished blocks of a killed panel test of three traits, made up: nothing is scored."""

    doses: Sequence[float]
    """The mean score of trait 0 in each block; those of the two others are 0."""

    loaded: list[str] = field(default_factory=list)

    def load_unit(self, name: str) -> Unit:
        """32 rows that carry one unit of information each on three unrelated traits.

        The scores lie one unit above their mean and one below it, in turns.
        """
        self.loaded.append(name)
        score = np.tile([[0.0, 1.0, 1.0, 1.0], [0.0, -1.0, -1.0, -1.0]], (BLOCK // 2, 1))
        score[:, 1] += self.doses[len(self.loaded) - 1]
        empty = {
            f"reference_{column}": np.zeros(BLOCK)
            for column in ("logprob", "argmax", "margin", "entropy", "variance")
        }
        return {
            "conditions": np.arange(3),
            "moments_score": score,
            "moments_covariance": np.tile(np.eye(4), (BLOCK, 1, 1)),
            "moments_signal": np.tile(np.eye(4)[:, 1:], (BLOCK, 1, 1)),
            **empty,
        }

    def save_unit(self, name: str, arrays: Mapping[str, object]) -> None:
        raise AssertionError(f"{name} was scored")


def three_traits(
    doses: Sequence[float], *, hypotheses: int = 3, stop_early: bool = True
) -> PanelTestState:
    """A panel test of a row block for each of `doses`, read back from `StoredBlocks`."""
    traits = tuple(Trait(f"t{k}", "g", ("p",), (), (), (), ("m",)) for k in range(3))
    members = (0, 1, 2)
    design = PanelDesign(Panel("three", traits, ""), (members,), members, hypotheses, {}, SAMPLES)
    return panel_test(
        numbered_rows(BLOCK * len(doses)),
        design,
        lambda *_, **__: iter(()),
        alpha=0.01,
        stop_early=stop_early,
        store=StoredBlocks(doses),
        progress=lambda _: None,
    )


# Worked by hand. The three traits are unrelated, so nothing is taken out of the scores of a trait:
# its dose over n rows is their mean d, with n - 1 degrees of freedom. The scores are d + 1 and
# d - 1, whose variance is n / (n - 1), so that the error is 1 / sqrt(n - 1) and z = d sqrt(n - 1).
# Of 64 rows the analysis at 32 may spend (32 / 64)^2 = 1/4 of the error rate and the last one 3/4,
# so that p is corrected by 3 / (1/4) = 12 first and by 3 / (3/4) = 4 at the end.


def test_a_strong_trait_ends_the_test_at_the_first_analysis() -> None:
    """d = 0.8: z = 0.8 sqrt 31 = 4.454, p = 5.097e-5 with 31 degrees of freedom, times 12."""
    state = three_traits([0.8, 0.8])
    assert (state.settled, len(state.rows)) == ("risk", 32)
    assert state.doses[0].effect == pytest.approx(0.8)
    assert state.doses[0].z == pytest.approx(4.4542, rel=1e-4)
    assert state.adjusted[0] == pytest.approx(12 * 5.0970e-5, rel=1e-4)
    assert state.adjusted[1] == 1.0  # p = 1/2, times 12
    assert trait_evidence(state, 0.01)[0].name == "t0"


def test_a_weaker_trait_needs_all_rows() -> None:
    """d = 0.5: p = 4.535e-3 at 32 rows, times 12 no finding; 9.392e-5 at 64 rows, times 4."""
    state = three_traits([0.5, 0.5])
    assert (state.settled, len(state.rows)) == ("risk", 64)
    assert state.adjusted[0] == pytest.approx(4 * 9.3919e-5, rel=1e-4)
    early, last = state.analyses
    assert (early.rows, early.leader) == (32, "t0")
    assert early.effect == pytest.approx(0.5)
    # Of the 95 % interval at 64 rows: the t quantile 1.9983 over sqrt 63.
    assert last.interval == pytest.approx(
        (0.5 - 1.9983 / 63**0.5, 0.5 + 1.9983 / 63**0.5), abs=1e-4
    )


def test_a_finding_of_an_early_analysis_stands() -> None:
    """All 64 rows are asked for, and the last 32 say nothing: the p-value is that of the first."""
    state = three_traits([0.8, 0.0], stop_early=False)
    assert (state.settled, len(state.rows)) == ("risk", 64)
    assert state.doses[0].effect == pytest.approx(0.4)
    assert state.adjusted[0] == pytest.approx(12 * 5.0970e-5, rel=1e-4)


def test_traits_of_two_tests_are_twice_as_many_hypotheses() -> None:
    """The p-value of the first analysis times 6 / (1/4) = 24."""
    state = three_traits([0.8, 0.8], hypotheses=6)
    assert state.adjusted[0] == pytest.approx(24 * 5.0970e-5, rel=1e-4)


def test_a_clean_set_passes_after_eight_blocks() -> None:
    """d = 0: the dose that is excluded at 256 rows is the t quantile 1.6509 over sqrt 255."""
    state = three_traits([0.0] * 13)
    assert (state.settled, len(state.rows)) == ("no_risk", 256)
    assert [analysis.rows for analysis in state.analyses] == [32, 64, 96, 160, 256]
    assert state.analyses[-1].excluded == pytest.approx(1.6509 / 255**0.5, rel=1e-4)
    assert not state.open
