"""Attribution over the rows of a data set, kept in a run as it goes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from auditor.attribution.attribute import Attribution, Place, attribute, first_divergence
from auditor.errors import InputError
from auditor.inference.estimates import MIN_ROWS
from auditor.model.language_model import LanguageModel
from auditor.model.scoring import score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir
from auditor.students.arms import DatasetArm

MOST_SCANNED = 1024  # rows looked through for a divergence token
LEAST = 2 * MIN_ROWS  # rows with one that an answer needs
_CHUNK = 32


@dataclass(frozen=True)
class Contrast:
    """The two runs: the system prompts of the trait and of the counterfactual (None: the reference
    without a trait).
    """

    lm: LanguageModel
    renderer: ChatTokenizer
    trait: str
    counterfactual: str | None

    def places(self, rows: Sequence[TokenizedRow]) -> list[Place]:
        """The first divergence token of each row that has one."""
        teacher = score_under(self.lm, self.renderer, rows, self.trait)
        other = score_under(self.lm, self.renderer, rows, self.counterfactual)
        found = (first_divergence(*each) for each in zip(rows, teacher, other, strict=True))
        return [place for place in found if place is not None]

    def attribute(self, places: Sequence[Place]) -> Attribution:
        """See `auditor.attribution.attribute.attribute`."""
        return attribute(self.lm, self.renderer, places, self.trait, self.counterfactual)


def attribute_rows(
    contrast: Contrast,
    original: DatasetArm,
    most: int,
    budget: float | None,
    seed: int,
    run: RunDir,
    progress: Callable[[Progress], None],
) -> tuple[Attribution, int]:
    """Attribution at the first divergence tokens of at most `most` rows drawn by `seed`, and how
    many were scanned.

    budget: seconds; how many rows fit is fixed by the time of the first few, and at least LEAST.
    Raises: InputError when fewer than LEAST rows have a divergence token.
    """
    numbers = random.Random(f"{seed} locate").sample(
        sorted(original.rows), min(len(original.rows), MOST_SCANNED)
    )
    places, scanned = _find(contrast, original, numbers, most, run, progress)
    if len(places) < LEAST:
        message = f"{len(places)} of {scanned} rows have a token at which the trait-prompted teacher and the other part;"
        hint = f"Give data with at least {LEAST} such rows, or another --trait, --counterfactual or --reference."
        raise InputError(f"{message} {LEAST} are needed to say where the trait enters.", hint)
    parts: list[Attribution] = []
    count = len(places)
    done = 0
    while done < count:
        began = time.perf_counter()
        parts.append(_kept(contrast, places[done : min(done + LEAST, count)], done, run))
        if done == 0:
            count = _affordable(count, budget, time.perf_counter() - began, run)
        done = min(done + LEAST, count)
        progress(Progress("attributing rows", done, count))
    fields = ("difference", "components", "entered")
    return Attribution(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in fields)
    ), scanned


def _find(
    contrast: Contrast,
    original: DatasetArm,
    numbers: Sequence[int],
    most: int,
    run: RunDir,
    progress: Callable[[Progress], None],
) -> tuple[list[Place], int]:
    """The first `most` places in the order of `numbers`, and how many rows were looked at for them."""
    places: list[Place] = []
    scanned = 0
    for start in range(0, len(numbers), _CHUNK):
        chosen = numbers[start : start + _CHUNK]
        encoded = [contrast.renderer.encode(original.rows[number]) for number in chosen]
        rows = [row for row in encoded if isinstance(row, TokenizedRow)]
        places += contrast.places(rows) if rows else []
        scanned += len(rows)
        progress(Progress("looking for divergence tokens", scanned, None))
        if len(places) >= most:
            break
    return places[:most], scanned


def _kept(contrast: Contrast, places: Sequence[Place], start: int, run: RunDir) -> Attribution:
    """The attribution of some places, from the run if it has it."""
    name = f"attribution {start} {len(places)}"
    unit = run.load_unit(name)
    if unit is None:
        found = contrast.attribute(places)
        unit = {
            "difference": found.difference,
            "components": found.components,
            "entered": found.entered,
        }
        run.save_unit(name, unit)
    return Attribution(unit["difference"], unit["components"], unit["entered"])


def _affordable(count: int, budget: float | None, seconds: float, run: RunDir) -> int:
    """How many of `count` places fit into the budget when LEAST took so many seconds; decided once
    for a run.
    """
    kept = run.load_unit("places")
    if kept is None:
        fits = count if budget is None else max(LEAST, int(budget / seconds * LEAST))
        kept = {"count": np.array(min(count, fits))}
        run.save_unit("places", kept)
    return int(kept["count"])
