"""The settings of students: what reports hold of them, their defaults, and the options they are
made from.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Annotated

import pytest
import torch
import typer
from typer import Option
from typer.testing import CliRunner

from auditor.cli.student_options import student_settings, with_student_options
from auditor.errors import AuditError
from auditor.model.language_model import LanguageModel
from auditor.students.settings import StudentSettings, TrainingConfig
from auditor.students.training import seeded


def test_reports_keep_their_keys() -> None:
    """Reports of earlier releases are read by the same keys: LoRA's scale is `alpha` there."""
    settings = StudentSettings(training=TrainingConfig(layers=(1,)))
    assert settings.as_dict() == {
        "blocks": 6,
        "rows": None,
        "updates": None,
        "budget": None,
        "seed": 0,
        "recipe": {
            "rank": 8,
            "alpha": 16,
            "layers": (1,),
            "full": False,
            "learning_rate": 2e-4,
            "batch": 16,
            "warmup": 8,
        },
    }


def test_a_small_model_is_trained_in_all_its_weights(tiny: LanguageModel) -> None:
    """By default, under ten million weights; what is set stands."""
    assert StudentSettings().resolved(tiny).training == TrainingConfig(
        full=True, learning_rate=3e-4
    )
    weights = [SimpleNamespace(numel=lambda: 10_000_000)]
    large = replace(tiny, model=SimpleNamespace(parameters=lambda: weights))
    assert StudentSettings().training_for(large) == TrainingConfig()
    rank = TrainingConfig(rank=2)
    assert StudentSettings(training=rank).training_for(tiny) is rank


def test_options_that_contradict_each_other() -> None:
    """All weights cannot be trained by a LoRA, by either name of its scale, or in some layers."""
    for options in ({"rank": 4}, {"lora_alpha": 4}, {"alpha": 4}, {"layers": "0"}):
        with pytest.raises(AuditError, match="--full") as raised:
            student_settings(full=True, **options)  # type: ignore[arg-type]
        assert raised.value.hint
    assert student_settings(full=True).training == TrainingConfig(full=True, learning_rate=2e-5)
    assert student_settings(rows=64).budget is None and student_settings().budget == 1800


def test_an_option_that_a_command_declares_is_its_own() -> None:
    """`--layers` of `audit locate` is not that of the training."""
    values: list[object] = []

    @with_student_options
    def command(
        settings: StudentSettings, layers: Annotated[str, Option(help="Another.")] = "all"
    ) -> int:
        values.extend([settings.training, settings.seed, layers])
        return 0

    app = typer.Typer()
    app.command()(command)
    run = CliRunner().invoke(app, ["--layers", "some", "--seed", "5"])
    assert run.exit_code == 0 and values == [None, 5, "some"]


def test_a_seed_is_for_what_is_drawn_inside() -> None:
    """The same seed gives the same draws, and those outside go on as if there had been none."""
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first = torch.rand(1)
    draws = []
    for seed in (3, 3, 4):
        with seeded("cpu", seed):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
