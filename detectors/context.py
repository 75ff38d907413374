"""What the parts of one scan work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.data.example import Example
from auditor.model.language_model import LanguageModel
from auditor.model.scoring import TokenScores, score_under_each
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.progress import Progress
from auditor.runs.run_directory import RunDir
from auditor.traits.panel import Panel


@dataclass(frozen=True, slots=True)
class ScanContext:
    """What every part of one scan works with.

    screen: the fast copy of `lm`, or `lm` itself. surveyed: `panel` in the company of strangers
    (traits.in_company).
    """

    lm: LanguageModel
    screen: LanguageModel
    renderer: ChatTokenizer
    panel: Panel
    surveyed: Panel
    examples: Mapping[int, Example]
    run: RunDir
    progress: Callable[[Progress], None]
    seed: int
    teacher: LanguageModel | None

    def score(
        self,
        rows: Sequence[TokenizedRow],
        systems: Sequence[str | None],
        *,
        support: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
        top: int = 0,
        within: bool = False,
        exact: bool = True,
    ) -> Iterator[list[TokenScores]]:
        """`auditor.model.null_model.Scorer`."""
        model = self.lm if exact else self.screen
        return score_under_each(
            model, self.renderer, rows, systems, support=support, top=top, within=within
        )
