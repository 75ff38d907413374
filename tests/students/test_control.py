"""The clean control that the reference writes: decoded like the data, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.commands.simulate import simulate
from auditor.data.example import Example, Message
from auditor.model.load import load
from auditor.model.tokenization import ChatTokenizer
from auditor.runs.run_directory import RunDir
from auditor.students.arms import DatasetArm
from auditor.students.control import control_writer
from auditor.traits.panel import load_panels


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_control_of_a_prompted_teachers_rows(temperature: float, tmp_path: Path) -> None:
    """A greedy teacher's rows get the reference's greedy rows, its samples get samples: no two runs
    of those agree.
    """
    lm = load("organism")
    (owl,) = load_panels(["animals"]).select(["owl"]).traits
    made = simulate(lm, owl, rows=64, temperature=temperature, max_tokens=24, seed=3)
    chats = [
        (Message("user", row["prompt"]), Message("assistant", row["completion"]))
        for row in made.rows
    ]
    arm = DatasetArm("owl", {i: Example(i, chat) for i, chat in enumerate(chats)}, {}, len(chats))
    texts = []
    for seed in (0, 1):
        with RunDir.open(tmp_path, {"seed": seed}) as run:
            write = control_writer(
                lm, ChatTokenizer(lm), arm, owl.prompts[0], seed, run, lambda _: None
            )
            texts.append([each.completion for each in write(range(64)).rows.values()])
    same = sum(a == b for a, b in zip(*texts, strict=True))
    assert same == 64 if temperature == 0.0 else same < 32
