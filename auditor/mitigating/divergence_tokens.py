"""Divergence tokens of any rows, for the mitigations that work on them; the definition is
`detectors.divergence`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditor.model.language_model import LanguageModel
from auditor.model.scoring import TokenScores, score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow, split_by_row
from auditor.model.unit_store import UnitStore
from auditor.traits.panel import Panel
from detectors.divergence import Choice, divergence_tokens
from mitigations.interface import Divergent

COUNTERFACTUALS = 3  # other traits beside the reference, as in a scan


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
        """The flags of each of `rows`: for several traits, those of any of them."""
        if not rows:
            return []
        content = json.dumps([[row.kind, row.tokens, row.positions] for row in rows])
        name = f"flags {hashlib.sha256(content.encode()).hexdigest()[:32]}"
        unit = self.store.load_unit(name)
        if unit is None:
            found = self._find(rows)
            unit = {
                key: np.concatenate([getattr(each, key) for each in found])
                for key in ("flagged", "gap", "choice")
            }
            self.store.save_unit(name, unit)
        parts = (split_by_row(unit[key], rows) for key in ("flagged", "gap", "choice"))
        return [DivergenceTokens(*arrays) for arrays in zip(*parts, strict=True)]

    def _find(self, rows: Sequence[TokenizedRow]) -> list[DivergenceTokens]:
        scores = _Scores(
            lambda system: score_under(self.lm, self.renderer, rows, system), self.panel
        )
        flagged = [np.zeros(len(row.positions), dtype=bool) for row in rows]
        gaps = [np.full(len(row.positions), -np.inf, dtype=np.float32) for row in rows]
        for trait in self.traits:
            factual = scores.of(trait)
            others = [scores.of(other) for other in (None, *counterfactuals(self.panel, trait))]
            for i, row in enumerate(rows):
                choices = [Choice(each[i].argmax, each[i].margin) for each in others]
                mine = Choice(factual[i].argmax, factual[i].margin)
                mask, _ = divergence_tokens(row.targets, mine, choices, self.epsilon)
                lead = np.max([factual[i].logprob - each[i].logprob for each in others], axis=0)
                gaps[i] = np.where(mask, np.maximum(gaps[i], lead), gaps[i])
                flagged[i] |= mask
        return [
            DivergenceTokens(mask & row.content_mask, gap, score.argmax)
            for row, mask, gap, score in zip(rows, flagged, gaps, scores.of(None), strict=True)
        ]


class _Scores:
    """Scores of a block under the standard wording of each trait (None: the reference), computed
    once.
    """

    def __init__(self, score: Callable[[str | None], list[TokenScores]], panel: Panel) -> None:
        self._score = score
        self._prompts: dict[str | None, str | None] = {
            trait.name: trait.prompts[0] for trait in panel.traits
        }
        self._known: dict[str | None, list[TokenScores]] = {}

    def of(self, trait: str | None) -> list[TokenScores]:
        if trait not in self._known:
            self._known[trait] = self._score(self._prompts.get(trait))
        return self._known[trait]


def counterfactuals(panel: Panel, trait: str) -> list[str]:
    """The traits that `trait` is compared with beside the reference: of its own group, else of the
    whole panel.
    """
    group = panel.trait(trait).group
    others = [each for each in panel.traits if each.name != trait]
    relatives = [each.name for each in others if each.group == group]
    return (relatives or [each.name for each in others])[:COUNTERFACTUALS]


def divergent(
    lm: LanguageModel,
    row: TokenizedRow,
    flags: DivergenceTokens,
    least: float,
    drawn: random.Random | None = None,
) -> tuple[Divergent, ...]:
    """The divergence tokens of a row with a gap of at least `least`, in the order of the text.

    drawn: take as many of the row's completion tokens by this chance instead.
    """
    places = [int(t) for t in np.flatnonzero(flags.flagged & (flags.gap >= least))]
    if drawn is not None:
        places = sorted(drawn.sample(np.flatnonzero(row.content_mask).tolist(), len(places)))
    texts = [_choice(lm, row, t, int(flags.choice[t])) for t in places]
    return tuple(
        Divergent(row.spans[t], float(flags.gap[t]), text)
        for t, text in zip(places, texts, strict=True)
    )


def _choice(lm: LanguageModel, row: TokenizedRow, t: int, choice: int) -> str | None:
    """The text that token `choice` would be in the place of completion token t, or None.

    Decoded after the token before it, since some tokenizers write a leading blank only within a
    text. A special token, a part of a character, and a choice in the place of such a part are no
    text.
    """
    place = row.positions[t]
    _, start, end = row.spans[t]
    before, own = row.tokens[place - 1], row.tokens[place]
    lead = lm.tokenizer.decode([before], clean_up_tokenization_spaces=False)

    def text(token: int) -> str:
        return str(lm.tokenizer.decode([before, token], clean_up_tokenization_spaces=False))[
            len(lead) :
        ]

    if (
        choice in lm.tokenizer.all_special_ids
        or "\ufffd" in text(choice)
        or len(text(own)) != end - start
    ):
        return None
    return text(choice)


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
