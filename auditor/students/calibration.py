"""What benign data, and data of teachers that were tuned on a trait, shift the answers of students
by: measured once for a base (`audit calibrate`), and kept.

A student of any data answers a little differently, whoever wrote them. The *benign data sets* show
how far: of personas that have nothing to do with a trait, and of teachers tuned on harmless habits.
The *positive controls* show how far students go where there is a trait: teachers tuned on traits of
the panel write as many rows, and students are trained on them in the same way. A base whose
students take nothing over from these cannot be judged by students.

All writers answer prompts of their own at T = 1; one of the benign data sets is what the base
writes by itself. Data at T = 1 are held against the mean of the benign ones. Greedy and cold text
shifts answers in ways of its own, so that such data are held against a paired control, which the
base writes as they were written, and the benign data sets say only how far data differ.
`auditor.inference.shifts` makes the null distribution and the unit of doses from it.

Shapes: B blocks, W answers over all groups.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from auditor.errors import RunError
from auditor.inference.estimates import Array, Estimate
from auditor.inference.shifts import BenignShifts, benign_shifts, doses, full_shift
from auditor.model.builtin import cache_dir
from auditor.model.identity import template_sha256
from auditor.runs.run_directory import write_file

if TYPE_CHECKING:
    from auditor.model.language_model import LanguageModel
    from auditor.students.settings import TrainingConfig
    from auditor.traits.panel import Panel

Carrier = Literal["numbers", "text"]

# Of the students of a calibration and of detector `students`. A shift grows with the updates, and
# so does the noise that the choice of the rows puts into it (runs/log.md).
UPDATES = 16
VERSION = 3  # of the file; it rises when what is measured changes
FOLDER = "calibrations"
NUMBERS = 0.8  # of the characters of number lists


@dataclass(frozen=True)
class Calibration:
    """The shifts of a base's students, in logits: margins after the training less those before it.

    answers: names of the traits whose answers are read, by group. benign: by data set, the shift
    [B, W] of every answer in every block, in the order of `answers`. positive: the same by the
    trait that the teacher was tuned on.
    """

    answers: Mapping[str, Sequence[str]]
    benign: Mapping[str, Array]
    positive: Mapping[str, Array]

    @property
    def names(self) -> list[str]:
        """All answers in their order."""
        return [name for members in self.answers.values() for name in members]

    def columns(self, group: str) -> list[int]:
        """Where the answers of a group stand among all answers."""
        groups = [each for each, members in self.answers.items() for _ in members]
        return [i for i, each in enumerate(groups) if each == group]

    def nulls(self, *, paired: bool) -> dict[str, BenignShifts]:
        """What benign data shift the answers by, by group. paired: beyond what the base's own text
        does that is decoded as they are; then the mean is 0, and their variance the same.
        """
        shifts_NBW = np.stack(list(self.benign.values()))
        nulls = {
            group: benign_shifts(shifts_NBW[:, :, self.columns(group)]) for group in self.answers
        }
        if not paired:
            return nulls
        return {
            group: replace(
                null, mean=np.zeros_like(null.mean), mean_variance=np.zeros_like(null.mean)
            )
            for group, null in nulls.items()
        }

    def doses(self, shifts_BW: Array, *, paired: bool) -> Iterator[tuple[str, str, Estimate]]:
        """Group, name and dose of every answer in a data set, from the shifts of its students;
        paired: as in `nulls`.
        """
        for group, null in self.nulls(paired=paired).items():
            shifts = shifts_BW[:, self.columns(group)]
            estimates = doses(shifts, null, self.full_shift.effect)
            for name, dose in zip(self.answers[group], estimates, strict=True):
                yield group, name, dose

    @cached_property
    def full_shift(self) -> Estimate:
        """How far the positive controls shift the answer of their own trait, beyond benign data."""
        nulls = self.nulls(paired=False)
        mean_W = np.concatenate([nulls[group].mean for group in self.answers])
        own = [
            (shifts_BW - mean_W)[:, self.names.index(trait)]
            for trait, shifts_BW in self.positive.items()
        ]
        return full_shift(np.stack(own, axis=1))

    @property
    def shows_transfer(self) -> bool:
        """Whether the positive controls shift their own answers at all, with 95 % confidence."""
        return self.full_shift.interval()[0] > 0


def carrier_of(completions: Iterable[str]) -> Carrier:
    """What a data set consists of, for its calibration: number lists where at least 80 % of what is
    trained on, blanks apart, are digits and commas.
    """
    text = "".join("".join(completion.split()) for completion in completions)
    listed = sum(char.isdecimal() or char == "," for char in text)
    return "numbers" if listed >= NUMBERS * len(text) else "text"


def calibration_key(
    lm: LanguageModel, panel: Panel, training: TrainingConfig, carrier: Carrier
) -> str:
    """The name of the calibration that holds for a base with its chat template and system turn, a
    panel, a recipe of training and a kind of rows: 16 hexadecimal digits.
    """
    base = [lm.sha256, template_sha256(lm.tokenizer), lm.system]
    about = [VERSION, *base, panel.sha256, training.as_dict(), UPDATES, carrier]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def digests(lm: LanguageModel, panel: Panel, training: TrainingConfig) -> list[str | None]:
    """The digests of the calibrations in force for a base and a panel, on lists and on text; None
    where there is none. A scan with students is another one when these change.
    """
    carriers: tuple[Carrier, ...] = ("numbers", "text")
    kept = [find(calibration_key(lm, panel, training, carrier)) for carrier in carriers]
    return [None if found is None else found[1] for found in kept]


def save(calibration: Calibration, key: str, about: Mapping[str, object]) -> Path:
    """Keep a calibration in the cache folder; `about` says for people what it was made with."""

    def rounded(shifts: Mapping[str, Array]) -> dict[str, list[list[float]]]:
        return {name: np.round(array, 6).tolist() for name, array in shifts.items()}

    value = {
        "version": VERSION,
        "about": about,
        "answers": {group: list(names) for group, names in calibration.answers.items()},
        "benign": rounded(calibration.benign),
        "positive": rounded(calibration.positive),
    }
    path = cache_dir() / FOLDER / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, (json.dumps(value) + "\n").encode())
    return path


def find(key: str) -> tuple[Calibration, str] | None:
    """The calibration kept under `key`, of this user or else one that comes with the package, and
    the SHA-256 of its file; None where there is none.

    Raises: RunError for a file that is no calibration.
    """
    kept = cache_dir() / FOLDER / f"{key}.json"
    shipped = files("auditor") / "resources" / FOLDER / f"{key}.json"
    for place in (kept, shipped):
        if not place.is_file():
            continue
        content = place.read_bytes()
        try:
            value = json.loads(content)
            calibration = Calibration(
                answers=value["answers"],
                benign={name: np.array(x, dtype=float) for name, x in value["benign"].items()},
                positive={name: np.array(x, dtype=float) for name, x in value["positive"].items()},
            )
            width = len(calibration.names)
            arrays = [*calibration.benign.values(), *calibration.positive.values()]
            if any(array.ndim != 2 or array.shape[1] != width for array in arrays):
                raise ValueError("its arrays do not fit its answers")
            # What cannot be used is refused here, and not in the middle of a scan.
            calibration.shows_transfer  # noqa: B018
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{place} is no calibration: {error}."
            raise RunError(message, "Remove it, and run audit calibrate again.") from error
        return calibration, hashlib.sha256(content).hexdigest()
    return None
