"""Scoring the rows of a scan by the workers of an engine: each scores the same rows under some of
the prompts.

Prompts are dealt out, and never rows, so that every batch is what one machine would make of it, and
so are the scores.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

from auditor.engine.interface import Engine, Pool, Tell
from auditor.errors import ModelError
from auditor.model.identity import check_same_model
from auditor.model.language_model import LanguageModel
from auditor.model.null_model import Scorer, scorer
from auditor.model.precision import low_precision_copy
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.runs.run_directory import check_same_versions
from detectors.interface import ScanContext


@dataclass(frozen=True)
class ScoringJob:
    """What a worker must know to score; it can be sent to another process.

    load: gives the reference. reference, fast_dtype: its identity, and the number type of its fast
    copy. versions: those of the run.
    """

    load: Callable[[], LanguageModel]
    reference: Mapping[str, str]
    fast_dtype: str
    versions: Mapping[str, str]


@contextmanager
def open_scorer(job: ScoringJob) -> Iterator[Scorer]:
    """A worker that scores. Raises RunError or ModelError where it has other versions, another
    model, or multiplies in another way.
    """
    check_same_versions(job.versions)
    lm = job.load()
    check_same_model(lm, job.reference)
    screen = low_precision_copy(lm)
    if screen.dtype != job.fast_dtype:
        raise ModelError(
            f"{socket.gethostname()} scores in {screen.dtype}, and this machine in "
            f"{job.fast_dtype}.",
            "Use nodes of one kind, or --dtype bfloat16 on all of them.",
        )
    yield scorer(lm, ChatTokenizer(lm), screen)


@contextmanager
def scored_by(engine: Engine, job: ScoringJob, context: ScanContext) -> Iterator[ScanContext]:
    """The context of a scan whose rows are scored by the workers of `engine`, where that is not
    this process.
    """
    if engine.name == "local":
        yield context
        return
    with engine.pool(
        partial(open_scorer, job),
        most=len(context.controlled.traits),
        on_device=True,
        logs=context.run.path / "logs",
    ) as pool:
        yield replace(context, score=pooled_scorer(pool))


_Part = tuple[Sequence[TokenizedRow], Sequence[str | None], Mapping[str, Any]]


def score_part(score: Scorer, part: _Part, tell: Tell) -> list[list[TokenScores]]:
    """The scores of the rows under the prompts of a part."""
    rows, systems, options = part
    return list(score(rows, systems, **options))


def pooled_scorer(pool: Pool[Scorer]) -> Scorer:
    """The scorer that deals prompts out to the workers of a pool, as `open_scorer` makes them."""

    def score(
        rows: Sequence[TokenizedRow], systems: Sequence[str | None], **options: Any
    ) -> Iterator[list[TokenScores]]:
        size = max(1, math.ceil(len(systems) / pool.size))
        starts = range(0, len(systems), size)
        parts: list[_Part] = [(rows, systems[start : start + size], options) for start in starts]
        for _, scores in sorted(pool.map(score_part, parts), key=itemgetter(0)):
            yield from scores

    return score
