"""Divergence tokens of any rows, for the mitigations that work on them; the definition is
`detectors.divergence`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from auditor.model.language_model import LanguageModel
from auditor.model.scoring import TokenScores, score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow, split_by_row
from auditor.model.unit_store import UnitStore
from auditor.traits.panel import Panel
from detectors.divergence import counterfactuals, diverge
from mitigations.interface import Divergent


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

    epsilon: nats; choices with a smaller lead are ties and are not flagged.
    """

    lm: LanguageModel
    renderer: ChatTokenizer
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
        unit = self.store.load_unit(name)
        if unit is None:
            found = self._find(rows)
            unit = {
                key: np.concatenate([getattr(tokens, key) for tokens in found])
                for key in ("flagged", "gap", "choice")
            }
            self.store.save_unit(name, unit)
        by_row = (split_by_row(unit[key], rows) for key in ("flagged", "gap", "choice"))
        return [DivergenceTokens(*arrays) for arrays in zip(*by_row, strict=True)]

    def _find(self, rows: Sequence[TokenizedRow]) -> list[DivergenceTokens]:
        @cache
        def scores(trait: str | None) -> list[TokenScores]:
            system = None if trait is None else self.panel.trait(trait).prompts[0]
            return score_under(self.lm, self.renderer, rows, system)

        flagged = [np.zeros(len(row.positions), dtype=bool) for row in rows]
        gaps = [np.full(len(row.positions), -np.inf, dtype=np.float32) for row in rows]
        for trait in self.traits:
            rivals = {name: scores(name) for name in counterfactuals(self.panel, trait)}
            rivals["reference"] = scores(None)
            found = diverge(rows, (trait, scores(trait)), rivals, self.epsilon)
            for i, (mask, gap) in enumerate(zip(found.flagged, found.gaps, strict=True)):
                gaps[i] = np.where(mask, np.maximum(gaps[i], gap), gaps[i])
                flagged[i] |= mask
        return [
            DivergenceTokens(mask, gap, score.argmax)
            for mask, gap, score in zip(flagged, gaps, scores(None), strict=True)
        ]


def divergent(
    lm: LanguageModel,
    row: TokenizedRow,
    found: DivergenceTokens,
    least: float,
    rng: random.Random | None = None,
) -> tuple[Divergent, ...]:
    """The divergence tokens of a row with a gap of at least `least`, in the order of the text.

    rng: take as many of the row's completion tokens by this chance instead.
    """
    selected = np.flatnonzero(found.flagged & (found.gap >= least)).tolist()
    if rng is not None:
        selected = sorted(rng.sample(np.flatnonzero(row.content_mask).tolist(), len(selected)))
    return tuple(
        Divergent(row.spans[t], float(found.gap[t]), _choice(lm, row, t, int(found.choice[t])))
        for t in selected
    )


def _choice(lm: LanguageModel, row: TokenizedRow, t: int, choice: int) -> str | None:
    """The text that token `choice` would be in the place of completion token t, or None.

    It is decoded after the token before it, since some tokenizers write a leading blank only within
    a text. A special token, a part of a character, and a choice in the place of such a part are no
    text.
    """
    position = row.positions[t]
    _, start, end = row.spans[t]
    before, present = row.tokens[position - 1], row.tokens[position]
    decode = partial(lm.tokenizer.decode, clean_up_tokenization_spaces=False)
    lead = len(decode([before]))
    text = str(decode([before, choice]))[lead:]
    if choice in lm.tokenizer.all_special_ids or "\ufffd" in text:
        return None
    return text if len(decode([before, present])[lead:]) == end - start else None


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
    return bar if ordered[most] < bar else float(np.nextafter(np.float32(bar), np.float32(np.inf)))
