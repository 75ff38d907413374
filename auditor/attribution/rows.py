"""Attribution over the rows of a data set, kept in a run as it goes."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from auditor.attribution.attribute import Attribution, DivergencePoint, attribute, first_divergence
from auditor.errors import InputError
from auditor.inference.estimates import MIN_ROWS
from auditor.model.language_model import LanguageModel
from auditor.model.scoring import score_under
from auditor.model.tokenization import ChatTokenizer
from auditor.model.unit_store import Unit, load_or_compute
from auditor.progress import Progress, announce
from auditor.runs.run_directory import RunDir
from auditor.students.arms import DatasetArm

LOG = logging.getLogger(__name__)

MAX_SCANNED = 1024  # rows looked through for a divergence token
# Rows with a divergence token that an answer needs; as many are attributed at a time.
MIN_ATTRIBUTED = 2 * MIN_ROWS
_CHUNK = 32  # rows that are scored at a time
_FIELDS = ("difference", "components", "entered")  # of Attribution


@dataclass(frozen=True)
class Contrast:
    """The two runs: the system prompts of the trait and of the counterfactual (None: the reference
    without a trait).
    """

    lm: LanguageModel
    renderer: ChatTokenizer
    trait: str
    counterfactual: str | None


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

    budget: seconds; how many rows fit is fixed by the time of the first few, and at least
    MIN_ATTRIBUTED.
    Raises: InputError when fewer than MIN_ATTRIBUTED rows have a divergence token.
    """
    numbers = random.Random(f"{seed} locate").sample(
        sorted(original.rows), min(len(original.rows), MAX_SCANNED)
    )
    lm, renderer = contrast.lm, contrast.renderer
    # Most rows may have no divergence token, so rows are scored until enough have one.
    points: list[DivergencePoint] = []
    scanned = 0
    for start in range(0, len(numbers), _CHUNK):
        drawn = numbers[start : start + _CHUNK]
        rows = list(original.encoded(renderer, drawn).values())
        if rows:
            teacher = score_under(lm, renderer, rows, contrast.trait)
            counterfactual = score_under(lm, renderer, rows, contrast.counterfactual)
            scores = zip(rows, teacher, counterfactual, strict=True)
            points += [point for scored in scores if (point := first_divergence(*scored))]
        scanned += len(rows)
        progress(Progress("looking for divergence tokens", scanned, None))
        if len(points) >= most:
            break
    LOG.info("%d of %d rows have a divergence token", len(points), scanned)
    points = points[:most]
    if len(points) < MIN_ATTRIBUTED:
        message = (
            f"{len(points)} of {scanned} rows have a token at which the trait-prompted teacher"
            f" and the other part; {MIN_ATTRIBUTED} are needed to say where the trait enters."
        )
        hint = (
            f"Give data with at least {MIN_ATTRIBUTED} such rows, or another --trait,"
            " --counterfactual or --reference."
        )
        raise InputError(message, hint)

    def attributed(points: Sequence[DivergencePoint]) -> Unit:
        result = attribute(lm, renderer, points, contrast.trait, contrast.counterfactual)
        return {field: getattr(result, field) for field in _FIELDS}

    results: list[Attribution] = []
    count, done = len(points), 0
    while done < count:
        began = time.perf_counter()
        batch = points[done : min(done + MIN_ATTRIBUTED, count)]
        name = f"attribution {done} {len(batch)}"
        unit = load_or_compute(run, name, partial(attributed, batch))
        results.append(Attribution(*(unit[field] for field in _FIELDS)))
        # The first batch is timed; how many more are affordable is then fixed.
        if done == 0:
            seconds = time.perf_counter() - began
            count = affordable_rows(count, budget, seconds, run)
            announce(progress, f"attributing {count} rows", seconds / len(batch) * count)
            LOG.info("attributing %d rows", count)
        done = min(done + MIN_ATTRIBUTED, count)
        progress(Progress("attributing rows", done, count))
    columns = (np.concatenate([getattr(x, field) for x in results]) for field in _FIELDS)
    return Attribution(*columns), scanned


def affordable_rows(count: int, budget: float | None, seconds: float, run: RunDir) -> int:
    """How many of `count` rows fit into the budget when MIN_ATTRIBUTED took so many seconds.

    It is decided once for a run, so that a resumed run attributes as many.
    """
    affordable = count
    if budget is not None:
        affordable = max(MIN_ATTRIBUTED, int(budget / seconds * MIN_ATTRIBUTED))
    size = {"count": np.array(min(count, affordable))}
    return int(load_or_compute(run, "places", lambda: size)["count"])
