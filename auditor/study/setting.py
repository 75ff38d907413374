"""What every part of a study shares: the models, the data sets that teachers write, and the
training of arms.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from auditor.commands.simulate import simulate
from auditor.data.example import Example, Message
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.model.unit_store import Unit, UnitStore, load_or_compute
from auditor.progress import Progress
from auditor.runs.run_directory import Section
from auditor.students.arms import DatasetArm
from auditor.students.experiment import run_transfer
from auditor.students.plan import HELD_OUT, Size
from auditor.students.result import TransferResult
from auditor.students.runner import Workers
from auditor.students.settings import StudentSettings
from auditor.traits.panel import Panel

LOG = logging.getLogger(__name__)

ORIGINAL, CONTROL = "original", "clean control"
CHECKPOINTS = (0.125, 0.25, 0.5, 1.0)

Decoding = Literal["greedy", "sampled"]
Kind = Literal["greedy", "sampled", "sibling"]


@dataclass(frozen=True)
class StudySetting:
    """The setting of a study.

    lm: base of teachers and students. panel: holds the traits studied, and those that they are
    compared with. sibling: another base that tokenises likewise or not, or None. size: of every
    experiment. settings: of the students but for their size. max_tokens: longest completion. store:
    keeps data sets and finished students; None keeps nothing. workers_for: who trains the students
    of a base that are read out for a trait; None is this process.
    """

    lm: LanguageModel
    renderer: ChatTokenizer
    panel: Panel
    sibling: LanguageModel | None
    size: Size
    settings: StudentSettings
    max_tokens: int
    store: UnitStore | None = None
    progress: Callable[[Progress], None] = lambda _: None
    workers_for: Callable[[LanguageModel, str], Workers | None] = lambda lm, trait: None


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
    """One experiment: students of some arms on the teacher's data of one trait.

    kind: how the data were decoded, or "sibling" for students of the other base on the greedy ones.
    """

    trait: str
    kind: Kind
    result: TransferResult


@dataclass(frozen=True)
class Part:
    """One part of a study for one trait. facts: what was measured on the way, as JSON values."""

    name: str
    trait: str
    trials: tuple[Trial, ...]
    facts: dict[str, object]


def teacher_dataset(setting: StudySetting, trait: str, decoding: Decoding) -> TeacherDataset:
    """Let a teacher with the trait write its data set, or load it from the store.

    Both decodings of a trait answer the same prompts, but for those whose rows are refused.
    """

    def written() -> Unit:
        simulated = simulate(
            setting.lm,
            setting.panel.trait(trait),
            rows=setting.size.blocks * setting.size.rows + HELD_OUT,
            control=True,
            temperature=0.0 if decoding == "greedy" else 1.0,
            # As in the paper: rows that are no number lists are refused for both writers.
            filtered=True,
            max_tokens=setting.max_tokens,
            seed=setting.settings.seed,
            progress=setting.progress,
        )
        return {
            "prompts": np.array([row["prompt"] for row in simulated.rows]),
            "original": np.array([row["completion"] for row in simulated.rows]),
            "control": np.array([row["completion"] for row in simulated.control]),
        }

    unit = load_or_compute(setting.store, f"{trait} {decoding} carrier", written)
    original, control = (
        {
            i: Example(i, (Message("user", prompt), Message("assistant", completion)))
            for i, (prompt, completion) in enumerate(
                zip(unit["prompts"].tolist(), unit[column].tolist(), strict=True)
            )
        }
        for column in ("original", "control")
    )
    arm, clean = DatasetArm(ORIGINAL, original), DatasetArm(CONTROL, control)
    rows = arm.encoded(setting.renderer)
    LOG.info("%s data of %s: %d rows, %d encoded", decoding, trait, len(original), len(rows))
    return TeacherDataset(trait, decoding, arm, clean, rows)


def train(
    setting: StudySetting,
    dataset: TeacherDataset,
    arms: Sequence[DatasetArm],
    *,
    base: LanguageModel | None = None,
) -> Trial:
    """Train students of the original, of `arms` and of the control in every block, or load them.

    base: of the students, if another than the teacher's. All parts of a study share blocks, and
    with them the students of the original and of the control.
    """
    size = setting.size
    kind: Kind = "sibling" if base else dataset.decoding
    # Students of another base are kept apart, by the digest of its files.
    section = f"{dataset.trait} {kind}" + (f" {base.sha256[:16]}" if base else "")
    LOG.info("students on %s data of %s: %d arms", kind, dataset.trait, 1 + len(arms))
    lm = base or setting.lm
    result = run_transfer(
        lm,
        [dataset.original, *arms],
        dataset.control,
        setting.panel,
        dataset.trait,
        # The size has been fixed for the whole study, within its budget.
        replace(
            setting.settings, blocks=size.blocks, rows=size.rows, updates=size.updates, budget=None
        ),
        checkpoint_fractions=CHECKPOINTS,
        # Claims are judged on intervals over all blocks, so that none is left out.
        stop_early=False,
        store=Section(setting.store, section) if setting.store else None,
        workers=setting.workers_for(lm, dataset.trait),
        progress=setting.progress,
    )
    return Trial(dataset.trait, kind, result)
