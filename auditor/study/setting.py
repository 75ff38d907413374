"""What every part of a study shares: the models, the carriers that teachers write, and the training
of arms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from auditor.commands.simulate import simulate
from auditor.data.example import Example, Message
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.progress import Progress
from auditor.runs.run_directory import Section, UnitStore
from auditor.students.arms import DatasetArm
from auditor.students.experiment import run_transfer
from auditor.students.plan import HELD_OUT, Size
from auditor.students.result import TransferResult
from auditor.students.training import TrainingConfig
from auditor.traits.panel import Panel

ORIGINAL, CONTROL = "original", "clean control"
DOSES = (0.125, 0.25, 0.5, 1.0)

Decoding = Literal["greedy", "sampled"]
Kind = Literal["greedy", "sampled", "sibling"]


@dataclass(frozen=True)
class StudySetting:
    """The setting of a study.

    lm: base of teachers and students. panel: holds the traits studied, and the others that they are
    compared with. sibling: another base that tokenises likewise or not, or None. size: of every
    experiment. max_tokens: longest completion. store: keeps carriers and finished students; None
    keeps nothing.
    """

    lm: LanguageModel
    renderer: ChatTokenizer
    panel: Panel
    sibling: LanguageModel | None
    size: Size
    recipe: TrainingConfig
    seed: int
    max_tokens: int
    store: UnitStore | None = None
    progress: Callable[[Progress], None] = lambda _: None


@dataclass(frozen=True)
class TeacherDataset:
    """Number lists of a teacher with a trait, and of the same model without it for the same
    prompts.

    rows: those of the original that can be encoded, by their number.
    """

    trait: str
    decoding: Decoding
    original: DatasetArm
    control: DatasetArm
    rows: dict[int, TokenizedRow]


@dataclass(frozen=True)
class Trial:
    """One experiment: students of some arms on the carrier of one trait.

    kind: how the carrier was decoded, or "sibling" for students of the other base on the greedy
    one.
    """

    trait: str
    kind: Kind
    result: TransferResult


@dataclass(frozen=True)
class Part:
    """One part of a study for one trait. facts: what was seen on the way, in plain JSON values."""

    name: str
    trait: str
    trials: tuple[Trial, ...]
    facts: dict[str, Any]


def carrier(world: StudySetting, trait: str, decoding: Decoding) -> TeacherDataset:
    """Write a carrier, or find it written.

    Both decodings of a trait answer the same prompts, but for refused ones.
    """
    name = f"{trait} {decoding} carrier"
    unit = world.store.load_unit(name) if world.store else None
    if unit is None:
        made = simulate(
            world.lm,
            world.panel.trait(trait),
            rows=world.size.blocks * world.size.rows + HELD_OUT,
            control=True,
            temperature=0.0 if decoding == "greedy" else 1.0,
            filtered=True,
            max_tokens=world.max_tokens,
            seed=world.seed,
            progress=world.progress,
        )
        unit = {
            "prompts": np.array([row["prompt"] for row in made.rows]),
            "original": np.array([row["completion"] for row in made.rows]),
            "control": np.array([row["completion"] for row in made.control]),
        }
        if world.store:
            world.store.save_unit(name, unit)
    original, control = (
        _arm(part, unit["prompts"].tolist(), unit[part].tolist())
        for part in ("original", "control")
    )
    rows = {
        i: row
        for i, each in original.rows.items()
        if isinstance(row := world.renderer.encode(each), TokenizedRow)
    }
    return TeacherDataset(
        trait, decoding, original, DatasetArm(CONTROL, control.rows, {}, control.total), rows
    )


def _arm(name: str, prompts: Sequence[str], completions: Sequence[str]) -> DatasetArm:
    chats = [
        (Message("user", prompt), Message("assistant", said))
        for prompt, said in zip(prompts, completions, strict=True)
    ]
    return DatasetArm(name, {i: Example(i, chat) for i, chat in enumerate(chats)}, {}, len(chats))


def train(
    world: StudySetting,
    made: TeacherDataset,
    arms: Sequence[DatasetArm],
    *,
    base: LanguageModel | None = None,
) -> Trial:
    """Students of the original, of `arms` and of the control in every block, or find them trained.

    base: of the students, if another than the teacher's. All parts of a study share blocks, and
    with them the students of the original and of the control.
    """
    size = world.size
    kind: Kind = "sibling" if base else made.decoding
    section = f"{made.trait} {kind}" + (f" {base.sha256[:16]}" if base else "")
    result = run_transfer(
        base or world.lm,
        [made.original, *arms],
        made.control,
        world.panel,
        made.trait,
        blocks=size.blocks,
        rows_per_block=size.rows,
        updates=size.updates,
        doses=DOSES,
        seed=world.seed,
        recipe=world.recipe,
        stop_early=False,
        store=Section(world.store, section) if world.store else None,
        progress=world.progress,
    )
    return Trial(made.trait, kind, result)
