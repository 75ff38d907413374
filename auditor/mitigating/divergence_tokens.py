"""Divergence tokens of any rows, for the mitigations that work on them; the definition is
`detectors.divergence`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from auditor.model.language_model import LanguageModel
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import TokenizedRow, split_by_row
from auditor.model.unit_store import Unit, UnitStore, load_or_compute
from auditor.traits.panel import Panel
from detectors.divergence import REFERENCE, counterfactuals, diverge, prompt_of
from mitigations.interface import Divergent

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DivergenceTokens:
    """What stands at the T completion tokens of a row.

    flagged[T]: divergence tokens, without those that end a turn. gap[T]: nats by which the trait's
    log-probability of the token leads that of a counterfactual, the greatest lead of all traits and
    counterfactuals. choice[T]: the reference's own choice.
    """

    flagged: npt.NDArray[np.bool_]
    gap: npt.NDArray[np.float32]
    choice: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class DivergenceTokenFinder:
    """Finds the divergence tokens of `traits` (names of the panel), keeping what it finds in
    `store`.

    score: what the reference predicts in rows under a prompt. epsilon: nats; choices with a smaller
    lead are ties and are not flagged.
    """

    score: Callable[[Sequence[TokenizedRow], str | None], list[TokenScores]]
    panel: Panel
    traits: tuple[str, ...]
    epsilon: float
    store: UnitStore

    def __call__(self, rows: Sequence[TokenizedRow]) -> list[DivergenceTokens]:
        """The divergence tokens of `rows`: for several traits, those of any of them."""
        if not rows:
            return []
        content = json.dumps([[row.kind, row.tokens, row.positions] for row in rows])
        name = f"flags {hashlib.sha256(content.encode()).hexdigest()[:32]}"
        unit = load_or_compute(self.store, name, lambda: self._find(rows))
        by_row = (split_by_row(unit[key], rows) for key in ("flagged", "gap", "choice"))
        return [DivergenceTokens(*arrays) for arrays in zip(*by_row, strict=True)]

    def _find(self, rows: Sequence[TokenizedRow]) -> Unit:
        """The arrays of `DivergenceTokens`, over the completion tokens of all `rows` in a line."""

        # A trait is a counterfactual of others: each prompt is scored once.
        @cache
        def scores(teacher: str) -> list[TokenScores]:
            return self.score(rows, prompt_of(self.panel, teacher))

        count = sum(len(row.positions) for row in rows)
        flagged, gap = np.zeros(count, dtype=bool), np.full(count, -np.inf, dtype=np.float32)
        for trait in self.traits:
            rivals = {name: scores(name) for name in counterfactuals(self.panel, trait)}
            divergence = diverge(rows, (trait, scores(trait)), rivals, self.epsilon)
            mask = np.concatenate(divergence.flagged)
            # The gap of a trait counts only where it is that trait which flags the token.
            gap = np.where(mask, np.maximum(gap, np.concatenate(divergence.gaps)), gap)
            flagged |= mask
        LOG.debug("%d of %d completion tokens are flagged", flagged.sum(), count)
        choice = np.concatenate([score.argmax for score in scores(REFERENCE)])
        return {"flagged": flagged, "gap": gap, "choice": choice}


def divergent(
    lm: LanguageModel,
    row: TokenizedRow,
    tokens: DivergenceTokens,
    least: float,
    rng: random.Random | None = None,
) -> tuple[Divergent, ...]:
    """The divergence tokens of a row with a gap of at least `least`, in the order of the text.

    rng: take as many of the row's completion tokens by this chance instead.

    The reference's choice is decoded after the token before it, since some tokenizers write a
    leading blank only within a text. A special token, a part of a character, and a choice in the
    place of such a part are no text.
    """
    selected = np.flatnonzero(tokens.flagged & (tokens.gap >= least)).tolist()
    if rng is not None:
        selected = sorted(rng.sample(np.flatnonzero(row.content_mask).tolist(), len(selected)))
    decode = partial(lm.tokenizer.decode, clean_up_tokenization_spaces=False)
    outcome = []
    for t in selected:
        _, start, end = row.spans[t]
        before, present = row.tokens[row.positions[t] - 1], row.tokens[row.positions[t]]
        lead = len(decode([before]))
        choice = str(decode([before, int(tokens.choice[t])]))[lead:]
        is_text = (
            tokens.choice[t] not in lm.tokenizer.all_special_ids
            and "\ufffd" not in choice  # A part of a character decodes to this.
            and len(decode([before, present])[lead:]) == end - start
        )
        gap = float(tokens.gap[t])
        outcome.append(Divergent(row.spans[t], gap, choice if is_text else None))
    return tuple(outcome)


def least_gap(gaps: npt.NDArray[np.float32], most: int) -> float:
    """The smallest gap that may be flagged so that at most `most` of `gaps` are; equal gaps are
    flagged together.
    """
    if len(gaps) <= most:
        return -np.inf
    if most == 0:
        return np.inf
    ordered = np.sort(gaps)[::-1]
    bar = float(ordered[most - 1])
    # Where the next gap is as large, it would be flagged, too: the bar moves just above both.
    return bar if ordered[most] < bar else float(np.nextafter(np.float32(bar), np.float32(np.inf)))
