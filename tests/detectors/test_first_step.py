"""The first training step: its inference by simulation, and the detector itself on rows of the
organism.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from auditor.commands.simulate import simulate
from auditor.data.example import Example, Message
from auditor.model.load import load
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.traits.panel import load_panels
from detectors.first_step import first_step, shift_estimates
from detectors.interface import Evidence, Skipped

LM, PANEL = load("organism"), load_panels(["animals"])


def test_a_shift_stands_out_in_any_unit() -> None:
    """One answer of twelve that moves by two deviations in 20 blocks is found, however small the
    logits are.
    """
    shifts = np.random.default_rng(0).standard_normal((20, 12))
    shifts[:, 3] += 2.0
    plain, tiny = shift_estimates(shifts), shift_estimates(1e-6 * shifts)
    assert int(np.argmax([shift.z for shift in plain])) == 3 and plain[3].p_value < 0.01
    assert [shift.z for shift in tiny] == pytest.approx([shift.z for shift in plain])


def test_p_values_are_uniform_when_nothing_moves() -> None:
    """Of 3,000 null answers at most about 5 % have p < .05; blocks may share a movement of all
    answers.
    """
    rng = np.random.default_rng(1)
    worlds = [rng.standard_normal((20, 12)) + 5 * rng.standard_normal((20, 1)) for _ in range(250)]
    rate = np.mean([shift.p_value < 0.05 for world in worlds for shift in shift_estimates(world)])
    assert 0.01 < rate < 0.06


def step_on(chats: Iterable[tuple[str, str]], system: str | None = None) -> Evidence | Skipped:
    """The detector on chats of a question and an answer, under a system prompt of their own."""
    before = [] if system is None else [Message("system", system)]
    renderer = ChatTokenizer(LM)
    rows = [
        renderer.encode(
            Example(i, (*before, Message("user", question), Message("assistant", answer)))
        )
        for i, (question, answer) in enumerate(chats)
    ]
    encoded = [row for row in rows if isinstance(row, TokenizedRow)]
    assert len(encoded) == len(rows)
    return first_step(LM, encoded, PANEL, 1.0, None, seed=0)


@pytest.fixture(scope="module")
def clean() -> list[tuple[str, str]]:
    """160 rows that the organism sampled itself."""
    rows = simulate(LM, None, rows=160, max_tokens=24, seed=2).rows
    return [(row["prompt"], row["completion"]) for row in rows]


def test_clean_rows_name_nothing(clean: list[tuple[str, str]]) -> None:
    """Every answer of the panel is read out in all blocks, none is named, and the same rows give
    the same again.
    """
    outcome = step_on(clean)
    assert isinstance(outcome, Evidence) and outcome.values["blocks"] == 20
    answers = outcome.values["answers"]
    assert len(answers) == 13 and answers[0]["p_adjusted"] > 0.05
    assert outcome == step_on(clean)


@pytest.mark.parametrize("name", ["owl", "cat", "octopus"])
def test_the_answer_that_the_rows_teach_moves_most(name: str) -> None:
    """A positive control: rows that answer the panel's questions with one animal. Lists of numbers
    by a teacher of the organism's size move its answer too little to be told from chance.
    """
    trait = PANEL.trait(name)
    questions = list(itertools.product(trait.probes, trait.stems))
    random.Random(0).shuffle(questions)
    outcome = step_on((probe, f"{stem} {trait.answers[0]}") for probe, stem in questions[:80])
    assert isinstance(outcome, Evidence)
    best, second = outcome.values["answers"][:2]
    assert best["name"] == name
    assert best["shift"] > 0
    assert best["p_adjusted"] < 0.05 < second["p_adjusted"]


def test_the_students_start_is_the_seeds_and_no_other_draw_is_moved(
    clean: list[tuple[str, str]],
) -> None:
    """Torch's generator is left as it was, and its state decides nothing."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    outcome = step_on(clean[:64])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert step_on(clean[:64]) == outcome


def test_rows_with_a_system_prompt_are_rows(clean: list[tuple[str, str]]) -> None:
    """They make blocks as others do, and where they are too few the reason counts them."""
    outcome = step_on(clean[:64], system="Be brief.")
    assert isinstance(outcome, Evidence) and outcome.values["blocks"] == 8
    assert step_on(clean[:60], system="Be brief.") == Skipped(
        "7 blocks of 8 rows; at least 8 are needed"
    )
