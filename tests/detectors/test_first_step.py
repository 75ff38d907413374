"""The first training step: its inference by simulation, and the detector itself on rows of the
organism.
"""

from __future__ import annotations

import numpy as np
import pytest

from auditor.commands.simulate import simulate
from auditor.data.example import Example, Message
from auditor.model.load import load
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.traits.panel import load_panels
from detectors.first_step import first_step, shift_estimates
from detectors.interface import Evidence, Skipped


def test_a_shift_stands_out_in_any_unit() -> None:
    """One answer of twelve that moves by two deviations in 20 blocks is found, however small the
    logits are.
    """
    shifts = np.random.default_rng(0).standard_normal((20, 12))
    shifts[:, 3] += 2.0
    plain, tiny = shift_estimates(shifts), shift_estimates(1e-6 * shifts)
    assert int(np.argmax([each.z for each in plain])) == 3 and plain[3].p_value < 0.01
    assert [each.z for each in tiny] == pytest.approx([each.z for each in plain])


def test_p_values_are_uniform_when_nothing_moves() -> None:
    """Of 3,000 null answers at most about 5 % have p < .05; blocks may share a movement of all
    answers.
    """
    rng = np.random.default_rng(1)
    worlds = [rng.standard_normal((20, 12)) + 5 * rng.standard_normal((20, 1)) for _ in range(250)]
    rate = np.mean([each.p_value < 0.05 for world in worlds for each in shift_estimates(world)])
    assert 0.01 < rate < 0.06


def evidence() -> Evidence | Skipped:
    """The detector on 160 rows that the organism sampled itself."""
    lm, panel = load("organism"), load_panels(["animals"])
    rows = simulate(lm, None, rows=160, max_tokens=24, seed=2).rows
    chats = [
        (Message("user", row["prompt"]), Message("assistant", row["completion"])) for row in rows
    ]
    encoded = [ChatTokenizer(lm).encode(Example(i, chat)) for i, chat in enumerate(chats)]
    return first_step(
        lm, [row for row in encoded if isinstance(row, TokenizedRow)], panel, 1.0, None, seed=0
    )


def test_clean_rows_name_nothing() -> None:
    """Every answer of the panel is read out in all blocks, none is named, and the same rows give
    the same again.
    """
    found = evidence()
    assert isinstance(found, Evidence) and found.values["blocks"] == 20
    answers = found.values["answers"]
    assert len(answers) == 13 and answers[0]["p_adjusted"] > 0.05
    assert found == evidence()
