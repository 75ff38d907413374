"""When a survey looks, what it costs at most, which traits it keeps, and how far it trusts them."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.inference.estimates import Estimate
from auditor.inference.interim import BLOCK, block_starts, looks
from auditor.inference.tempering import Moments
from auditor.inference.thresholds import MIN_GREEDY_EFFECT, TARGET
from auditor.model.null_model import NullModel, RowBlock
from auditor.model.tokenization import TokenizedRow
from auditor.traits.families import negative_controls
from auditor.traits.panel import Panel, Trait
from detectors.trait import (
    PanelTestState,
    _choose,
    _look,
    between_trait_sd,
    chosen,
    estimates,
    is_open,
    planned_passes,
    trait_evidence,
)


def test_looks_end_with_the_last_row() -> None:
    """The set numbers of rows, then every 400."""
    assert looks(50) == [32, 50]
    assert looks(1000) == [32, 64, 96, 160, 256, 400, 800, 1000]


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


def test_chosen_are_the_strongest_and_some_of_every_family() -> None:
    """Of the second family the first three by rank and one untested; then whoever comes first."""
    pair = (tuple(range(6)), tuple(range(6, 10)))
    assert chosen([0, 1, 2, 3, 4, 9, 8], pair, 6) == (0, 1, 2, 3, 6, 8, 9)
    assert chosen([5, 4, 3], pair, 0) == (3, 4, 5, 6, 7, 8)
    assert chosen([5, 4, 3, 2, 1], pair, 4) == (2, 3, 4, 5, 6, 7, 8)  # strangers are not counted


def test_placebos_are_strangers() -> None:
    """Of other families, or of other groups of its own mixed one, and of that only where the prompt
    opens otherwise.
    """
    said = [
        "You love owls.",
        "You love cats.",
        "You love oaks.",
        "You hate oaks.",
        "You love France.",
        "You hate rain.",
    ]
    groups = ["animal", "animal", "tree", "tree", "nation", "weather"]
    pairs = zip(said, groups, strict=True)
    traits = tuple(
        Trait(f"t{k}", group, (text,), (), (), (), ("m",)) for k, (text, group) in enumerate(pairs)
    )
    found = negative_controls(Panel("test", traits, ""), ((0, 1), (2, 3), (4, 5)))
    assert found[0] == found[1] == {2, 3, 5}
    assert found[3] == {0, 1, 4}
    assert found[4] == {0, 1, 2, 3, 5}
    assert found[5] == {0, 1, 2, 3, 4}


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
    assert is_open(Estimate(effect, se, 127), tested) == needs_more
    assert is_open(None, tested)


FAMILIES = (tuple(range(4)), tuple(range(4, 14)))
PANEL = Panel("test", tuple(Trait(f"t{k}", "g", ("p",), (), (), (), ("m",)) for k in range(14)), "")


def surveyed(drift: np.ndarray) -> PanelTestState:
    """400 rows whose scores for 14 unrelated traits have the variance of the null and the mean
    `drift` [14].
    """
    rng = np.random.default_rng(0)
    score = rng.standard_normal((400, 15)) + np.concatenate([[0.0], drift])
    rows = [TokenizedRow(i, "default", (1, 2), (1,), ((0, 0, 1),)) for i in range(400)]
    moments = Moments(score, np.tile(np.eye(15), (400, 1, 1)))
    block = RowBlock(rows, [], moments, {k: k for k in range(14)})
    return PanelTestState(
        NullModel(1.0, False, None), FAMILIES, tuple(range(14)), 14, tuple(range(14)), [block]
    )


def test_greedy_text_keeps_traits_longer() -> None:
    """A greedy teacher in the panel's words follows two thirds of a trait's choices, so half of
    that is excluded.
    """
    assert PanelTestState(NullModel(1.0, False, None), FAMILIES, (), 14, ()).target == TARGET
    assert (
        PanelTestState(NullModel(20.0, True, None), FAMILIES, (), 14, ()).target
        == MIN_GREEDY_EFFECT
    )


def seen(count: int, first: float) -> PanelTestState:
    """`count` rows without evidence, trait 13 only on 32 of them: a dose of 0.5, and `first` the
    information a row.
    """
    rng = np.random.default_rng(0)
    rows = [TokenizedRow(i, "default", (1, 2), (1,), ((0, 0, 1),)) for i in range(count)]
    noise = rng.standard_normal((count, 15))
    score, information = noise - noise.mean(0), np.tile(np.eye(15), (count, 1, 1))
    early = score[:32] * first
    early[:, 14] += 0.5 * first - early[:, 14].mean()
    blocks = [
        RowBlock(
            rows[:32], [], Moments(early, information[:32] * first), {k: k for k in range(14)}
        ),
        RowBlock(rows[32:], [], Moments(score[32:], information[32:]), {k: k for k in range(13)}),
    ]
    return PanelTestState(
        NullModel(1.0, False, None), FAMILIES, tuple(range(14)), 14, tuple(range(13)), blocks
    )


def test_a_trait_comes_back_when_the_others_fall_behind() -> None:
    """Trait 13 has a dose of 0.5 +- 0.5 on 32 rows; the others have none on 160, with a fifth of
    that error.
    """
    state = seen(160, 1 / 16)
    found = _look(state, PANEL, 0.1, {}, 0.01)
    assert {each.name: each.eliminated_at for each in trait_evidence(state, PANEL, found, 0.01)}[
        "t13"
    ] == 32
    _choose(state, found, 7)
    assert 13 in state.scored
    assert len(state.scored) == 7


def test_a_survey_does_not_pass_a_trait_that_was_seen_on_few_rows() -> None:
    """Twelve traits are excluded on 256 rows, and 13 on 32 rows is not, until its rows say as much."""
    vague, sure = seen(256, 1 / 16), seen(256, 40.0)
    for state, settled in ((vague, ""), (sure, "no_risk")):
        sure.blocks[0].moments.score[:, 14] -= sure.blocks[0].moments.score[:, 14].mean()
        found = _look(state, PANEL, 0.1, {}, 0.01)
        _choose(state, found, 9)
        assert state.settled == settled
    assert 13 in vague.scored


def test_no_survey_passes_before_each_wording_had_a_block() -> None:
    """Scores of zero exclude every trait, but not on seven blocks: each of three others comes every
    sixth block.
    """
    for count, settled in ((7 * BLOCK, ""), (8 * BLOCK, "no_risk")):
        rows = [TokenizedRow(i, "default", (1, 2), (1,), ((0, 0, 1),)) for i in range(count)]
        block = RowBlock(
            rows,
            [],
            Moments(np.zeros((count, 15)), np.tile(np.eye(15), (count, 1, 1))),
            {k: k for k in range(14)},
        )
        state = PanelTestState(
            NullModel(1.0, False, None), FAMILIES, tuple(range(14)), 14, tuple(range(14)), [block]
        )
        _look(state, PANEL, 0.1, {}, 0.01)
        assert state.settled == settled


def test_a_strangers_text_widens_what_other_families_say() -> None:
    """Where all traits of the second family stray to either side, those of the first are less sure
    by as much.
    """
    calm, strange = surveyed(np.zeros(14)), surveyed(np.array([0.0] * 4 + [0.3, -0.3] * 5))
    quiet, wide = estimates(calm, PANEL, {}), estimates(strange, PANEL, {})
    chance, strays = (
        between_trait_sd(calm, PANEL, {}, "t0"),
        between_trait_sd(strange, PANEL, {}, "t0"),
    )
    assert chance < 0.1
    assert 0.25 < strays < 0.6
    assert wide[0].se ** 2 - quiet[0].se ** 2 == pytest.approx(strays**2 - chance**2, rel=1e-6)
    assert wide[4].se == pytest.approx(quiet[4].se, rel=1e-6)  # four placebos are too few


def test_a_traits_relatives_do_not_hide_it() -> None:
    """A trait that the data carry drags its family along, and is as sure as before."""
    found = surveyed(np.array([0.0] * 4 + [0.5, *[0.2] * 9]))
    assert estimates(found, PANEL, {})[4].z > 4
    assert between_trait_sd(found, PANEL, {}, "t4") == 0.0
