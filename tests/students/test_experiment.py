"""The experiment as a whole, on a tiny model: identities that have to hold, and effects that have
to show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import InputError, TraitError
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir
from auditor.students import experiment, runner
from auditor.students.arms import DatasetArm
from auditor.students.experiment import run_transfer
from auditor.students.result import TransferResult
from auditor.students.settings import StudentSettings, TrainingConfig
from auditor.students.summary import warnings
from tests.support.student_models import PANEL, arm, numbers, owls, three_animals

COUNT = 120
FAST = TrainingConfig(learning_rate=3e-2, warmup=1, batch=8)
CONTROL = arm("control", numbers(COUNT, seed=1))
ORIGINAL = arm("original", owls(COUNT))


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return three_animals()


def run(
    lm: LanguageModel, *arms: DatasetArm, trait: str | None = "owl", **options: Any
) -> TransferResult:
    fields = {field.name for field in dataclasses.fields(StudentSettings)} & options.keys()
    changes = {"training": FAST, "updates": 12, "blocks": 3} | {
        name: options.pop(name) for name in fields
    }
    options = {"checkpoint_fractions": (0.5, 1.0)} | options
    control = options.pop("control", CONTROL)
    return run_transfer(lm, arms, control, PANEL, trait, StudentSettings(**changes), **options)


@pytest.fixture(scope="module")
def found(lm: LanguageModel) -> TransferResult:
    """The original, and beside it: itself again, its rows wholly masked, half of them clean, the
    control again.
    """
    renderer = ChatTokenizer(lm)
    rows = {i: renderer.encode(example) for i, example in ORIGINAL.rows.items()}
    everything = {i: each.spans for i, each in rows.items() if isinstance(each, TokenizedRow)}
    half = {i: (ORIGINAL if i % 2 else CONTROL).rows[i] for i in range(COUNT)}
    return run(
        lm,
        ORIGINAL,
        replace(ORIGINAL, name="again"),
        replace(ORIGINAL, name="masked", masked=everything),
        arm("half", half),
        replace(CONTROL, name="clean"),
    )


def test_students_trained_openly_on_owls_like_owls(found: TransferResult) -> None:
    """The effect is large, first of its group, grows with the dose and shows in the answers."""
    original = found.arms[0]
    assert found.transferred and original.verdict == "transfer shown" and original.rank == 1
    assert original.traits[0].name == "owl"
    points = original.curve
    assert [point.updates for point in points] == [0, 6, 12]
    values = [point.effect.value for point in points if point.effect]
    assert values[0] == 0 < values[1] < values[2]
    assert points[0].total_variation == 0
    assert points[2].total_variation is not None and points[2].total_variation > 0.01


def test_identical_arms_have_exactly_equal_effects(found: TransferResult) -> None:
    """Pairing leaves nothing to chance, so all of the effect is left, with no width."""
    original, again = found.arms[:2]
    assert again.curve == original.curve and again.traits == original.traits
    assert again.effect_ratio is not None and again.effect_ratio.value == 1
    assert again.effect_ratio.interval == pytest.approx((1, 1), abs=1e-6)
    assert again.training == replace(original.training, name="again")


def test_students_of_wholly_masked_rows_are_the_reference(found: TransferResult) -> None:
    """No token, no update: they lack the control's effect, and do the task as badly as the
    reference.
    """
    masked = next(each for each in found.arms if each.name == "masked")
    assert masked.training.tokens == 0
    assert (masked.training.task_loss, masked.training.original_loss) == pytest.approx(
        found.reference_loss
    )
    assert any("masked trains on 100% fewer tokens" in said for said in found.warnings)
    assert any("masked learn the task itself much less" in said for said in found.warnings)


def test_nobody_learns_less_than_nothing(found: TransferResult) -> None:
    """Where the original's students do the task no better than the reference, none are said to have
    learned less of it.
    """
    learned = min(each.training.task_loss for each in found.arms)
    about = found.arms, found.control, "owl", learned, (), found.blocks
    assert not [said for said in warnings(*about) if "learn the task" in said]


def test_the_clean_arm_has_no_effect_at_all(found: TransferResult) -> None:
    """The control against itself: zero in every block, and `removed`."""
    clean = found.arms[-1]
    assert all(value == 0 for trait in clean.traits for value in trait.effect.blocks)
    assert clean.verdict == "removed"
    assert clean.training.task_loss == found.control.task_loss < found.reference_loss[0]


def test_half_the_rows_leave_part_of_the_effect(found: TransferResult) -> None:
    """Between none and all."""
    half = found.arms[3]
    assert half.effect_ratio is not None and half.effect_ratio.value is not None
    assert 0.1 < half.effect_ratio.value < 0.95


def test_clean_data_show_no_transfer(lm: LanguageModel) -> None:
    """Then nothing is said about the other arms."""
    other = arm("other", numbers(COUNT, seed=2))
    result = run(lm, other, replace(CONTROL, name="treated"))
    assert not result.transferred
    assert [each.verdict for each in result.arms] == ["no transfer shown"] * 2
    assert result.arms[1].effect_ratio is not None and result.arms[1].effect_ratio.reason


def test_the_open_readout_names_what_stands_out(lm: LanguageModel) -> None:
    """Without a trait given: the owl, corrected for all traits; other arms get no verdict."""
    result = run(lm, ORIGINAL, replace(CONTROL, name="clean"), trait=None)
    best = result.arms[0].traits[0]
    assert result.transferred and best.name == "owl"
    assert best.p_adjusted is not None and best.p_value is not None
    assert best.p_adjusted == pytest.approx(5 * best.p_value) and best.p_adjusted < 0.05
    assert result.arms[1].verdict is None and result.arms[0].rank is None


def test_dropped_and_added_rows(lm: LanguageModel) -> None:
    """A dropped row is not trained on and an added one is; the number of updates stays, the
    difference is shown.
    """
    fewer = arm("fewer", {i: each for i, each in ORIGINAL.rows.items() if i % 2})
    more = arm("more", ORIGINAL.rows | {-1 - i: each for i, each in CONTROL.rows.items()})
    result = run(lm, ORIGINAL, fewer, more)
    original, half, double = (each.training for each in result.arms)
    assert half.rows < 0.7 * original.rows
    assert double.rows > 1.5 * original.rows
    assert any("fewer trains on" in said and "fewer rows" in said for said in result.warnings)
    assert result.arms[1].curve[-1].updates == result.arms[2].curve[-1].updates == 12


def test_a_control_is_written_for_the_rows_that_are_used(lm: LanguageModel) -> None:
    """A function gets the numbers of all rows in blocks or held out, and nothing else changes."""
    asked: list[int] = []

    def write(numbers_of_rows: Any) -> DatasetArm:
        asked[:] = numbers_of_rows
        return replace(CONTROL, rows={i: CONTROL.rows[i] for i in numbers_of_rows})

    result = run(lm, ORIGINAL, control=write, rows=24, updates=2)
    assert len(asked) == 3 * 24 + COUNT // 8
    assert result == run(lm, ORIGINAL, rows=24, updates=2)


class KilledError(Exception):
    """Stands for a kill signal."""


def test_a_killed_run_resumes_and_ends_the_same(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished students are kept, none is trained twice, and the result is that of a run in
    one go.
    """
    arms = (ORIGINAL, replace(CONTROL, name="clean"))
    expected = run(lm, *arms, rows=24, updates=4)
    trained = []
    real = runner.new_student

    def counting(*arguments: Any) -> LanguageModel:
        trained.append(1)
        return real(*arguments)

    for module in (experiment, runner):  # the student that is timed, and all others
        monkeypatch.setattr(module, "new_student", counting)

    def kill(progress: Progress) -> None:
        if progress.stage == "training students" and progress.done == 4 * 4 + 1:
            raise KilledError

    with RunDir.open(tmp_path, {"test": 1}) as store, pytest.raises(KilledError):
        run(lm, *arms, rows=24, updates=4, store=store, progress=kill)
    assert len(trained) == 1 + 5  # the timed one, four finished, one killed
    seen: list[Progress] = []
    with RunDir.open(tmp_path, {"test": 1}) as store:
        assert run(lm, *arms, rows=24, updates=4, store=store, progress=seen.append) == expected
    assert len(trained) == 6 + 5
    assert seen[-1].done == seen[-1].total


def test_early_stop_when_nothing_can_change(lm: LanguageModel, found: TransferResult) -> None:
    """An arm equal to the control is settled after three of four blocks; without the option all are
    run.
    """
    arms = (ORIGINAL, replace(CONTROL, name="clean"))
    stopped = run(lm, *arms, blocks=4, rows=24)
    assert (stopped.blocks, stopped.blocks_planned) == (3, 4)
    whole = run(lm, *arms, blocks=4, rows=24, stop_early=False)
    assert whole.blocks == 4
    assert whole.arms[0].traits[0].effect.blocks[:3] == stopped.arms[0].traits[0].effect.blocks


def test_bad_input(lm: LanguageModel) -> None:
    """Each is one line with the next step, before any student is trained."""
    stranger = arm("stranger", {i + 1000: each for i, each in ORIGINAL.rows.items()})
    cases: Iterator[tuple[type[Exception], str, tuple[DatasetArm, ...], dict[str, Any]]] = iter(
        [
            (InputError, "no row in common", (ORIGINAL, stranger), {}),
            (InputError, "given twice", (ORIGINAL, ORIGINAL), {}),
            (InputError, "too few", (ORIGINAL,), {"blocks": 30}),
            (InputError, "budget", (ORIGINAL,), {"budget": 0.01}),
            (TraitError, "No trait", (ORIGINAL,), {"trait": "unicorn"}),
        ]
    )
    for error, message, arms, options in cases:
        with pytest.raises(error, match=message):
            run(lm, *arms, **options)
