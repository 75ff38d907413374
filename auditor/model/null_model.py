"""Scoring a block of rows for the panel survey: the null of a data set, and the moments of each
row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from auditor.inference import tempering as likelihood
from auditor.inference.estimates import Array
from auditor.model.language_model import LanguageModel
from auditor.model.scoring import TokenScores, by_row, score_under_each
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.model.unit_store import Unit, UnitStore

SUPPORT = 32  # most likely tokens of the reference at a position; others are no evidence
PILOT = 64  # rows that the null is fitted on
CLOSED_ALPHABET = (
    64  # at most so many kinds of token, each seen at least CLOSED_SEEN times on average
)
CLOSED_SEEN = 30
_KEPT = ("logprob", "argmax", "margin", "entropy", "variance")


class Scorer(Protocol):
    """Scores rows under each system prompt (None: no trait prompt) in turn; `exact` False allows
    the fast pass.
    """

    def __call__(
        self,
        rows: Sequence[TokenizedRow],
        systems: Sequence[str | None],
        *,
        support: Sequence[npt.NDArray[np.integer]] | None = None,
        top: int = 0,
        within: bool = False,
        exact: bool = True,
    ) -> Iterator[list[TokenScores]]: ...


def scorer(lm: LanguageModel, renderer: ChatTokenizer) -> Scorer:
    """The scorer of one model, always exact."""

    def score(
        rows: Sequence[TokenizedRow],
        systems: Sequence[str | None],
        *,
        exact: bool = True,
        **asked: Any,
    ) -> Iterator[list[TokenScores]]:
        return score_under_each(lm, renderer, rows, systems, **asked)

    return score


@dataclass(frozen=True, slots=True)
class NullModel:
    """What the data look like without a trait.

    sharpness: inverse temperature. greedy: choices rather than samples
    (auditor.inference.tempering.is_greedy). alphabet: the token alphabet if it is a closed one.
    others: share of the tokens that are not the reference's most likely one. excess: by how many
    nats a token they are less likely to the reference than samples of its own would be.
    """

    sharpness: float
    greedy: bool
    alphabet: tuple[int, ...] | None
    others: float = 0.0
    excess: float = 0.0

    @property
    def figures(self) -> dict[str, float]:
        """All but the alphabet, by name, as reports give them."""
        return {name: getattr(self, name) for name in ("sharpness", "greedy", "others", "excess")}

    @property
    def temperature(self) -> float:
        """At which the reference writes text of this kind, in [0, 1]: a stranger's text is no
        reason for more.
        """
        return 0.0 if self.greedy else 1.0 / max(1.0, self.sharpness)


@dataclass(frozen=True, slots=True)
class RowBlock:
    """R rows scored under the same conditions.

    columns: the place of each trait among the conditions.
    """

    rows: Sequence[TokenizedRow]
    reference: Sequence[TokenScores]
    moments: likelihood.Moments
    columns: Mapping[int, int]


def alphabet(rows: Sequence[TokenizedRow]) -> tuple[int, ...] | None:
    """The token alphabet of the completions when it is closed, such as digits and commas; None for
    open text.

    Under a softmax restricted to an alphabet the mass of all other tokens is a trait-dependent
    nuisance, so the null must be restricted likewise. Open text keeps the whole vocabulary.
    """
    tokens = [row.tokens[p] for row in rows for p in row.positions]
    kinds = set(tokens)
    closed = 1 < len(kinds) <= CLOSED_ALPHABET and len(tokens) >= CLOSED_SEEN * len(kinds)
    return tuple(sorted(kinds)) if closed else None


def find_null(rows: Sequence[TokenizedRow], score: Scorer, store: UnitStore) -> NullModel:
    """The null of `rows` from the first PILOT of them, kept in `store`."""
    unit = store.load_unit("pilot")
    if unit is None:
        null = fit_null(rows, score)
        store.save_unit("pilot", {name: np.array(value) for name, value in null.figures.items()})
        return null
    return NullModel(
        alphabet=alphabet(rows), **{name: value.item() for name, value in unit.items()}
    )


def fit_null(rows: Sequence[TokenizedRow], score: Scorer, system: str | None = None) -> NullModel:
    """The same, as seen under the system prompt `system`.

    Without a token to fit on it is that of samples at T = 1; the survey will find no information
    then.
    """
    letters, pilot = alphabet(rows), rows[:PILOT]
    reference = _reference(pilot, letters, score, system)
    logps = [_logp(row, each, each) for row, each in zip(pilot, reference, strict=True)]
    chosen = [_chosen(row, each) for row, each in zip(pilot, reference, strict=True)]
    if not any(map(len, chosen)):
        return NullModel(1.0, greedy=False, alphabet=letters)
    others = float(np.mean(np.concatenate(chosen) != np.concatenate(logps).argmax(-1)))
    gaps = [
        (-each.logprob - each.entropy)[row.content_mask]
        for row, each in zip(pilot, reference, strict=True)
    ]
    excess = float(np.mean(np.concatenate(gaps)))
    return NullModel(
        likelihood.inverse_temperature(logps, chosen),
        likelihood.is_greedy(logps, chosen),
        letters,
        others,
        excess,
    )


def _reference(
    rows: Sequence[TokenizedRow],
    letters: tuple[int, ...] | None,
    score: Scorer,
    system: str | None = None,
) -> list[TokenScores]:
    if letters is None:
        return next(score(rows, [system], top=SUPPORT))
    return next(
        score(
            rows,
            [system],
            support=[np.tile(np.array(letters), (len(row.positions), 1)) for row in rows],
        )
    )


def _inner(row: TokenizedRow, reference: TokenScores) -> npt.NDArray[np.bool_]:
    """[T] the tokens that are evidence: they do not end a turn, and lie in the reference's support."""
    return np.asarray(row.content_mask & (_support(reference) == row.targets[:, None]).any(-1))


def _logp(row: TokenizedRow, scores: TokenScores, reference: TokenScores) -> Array:
    """Log-probabilities at the inner tokens, given that they lie in the reference's support and do
    not end the turn.
    """
    if scores.support_logprob is None:
        raise ValueError("scores were taken without a support")
    inner = _inner(row, reference)
    ends = row.targets[~row.content_mask]
    return likelihood.restrict_and_renormalize(
        scores.support_logprob[inner], np.isin(_support(reference)[inner], ends)
    )


def _chosen(row: TokenizedRow, reference: TokenScores) -> npt.NDArray[np.int64]:
    inner = _inner(row, reference)
    return likelihood.locate(row.targets[inner], _support(reference)[inner])


def _support(scores: TokenScores) -> npt.NDArray[np.int32]:
    if scores.support is None:
        raise ValueError("scores were taken without a support")
    return scores.support


def score_block(
    null: NullModel,
    rows: Sequence[TokenizedRow],
    systems: Sequence[str],
    score: Scorer,
    tick: Callable[[], None],
) -> Unit:
    """Score `rows` under the reference and each of `systems`; `tick` is called after each. Arrays
    as `unpack` reads.

    The reference is scored exactly, since it is the null. A trait prompt only gives a direction to
    test, and an inexact one costs some power and no error rate, so it takes the fast pass.
    """
    letters = null.alphabet
    reference = _reference(rows, letters, score)
    support = [_support(each) for each in reference]
    under = []
    for each in score(rows, systems, support=support, within=True, exact=False):
        under.append(each)
        tick()
    found = []
    for i, row in enumerate(rows):
        if null.greedy:
            inner = _inner(row, reference[i])
            own = reference[i].argmax[inner]
            chosen_by = np.array([each[i].argmax[inner] for each in under])
            found.append(likelihood.choices(row.targets[inner], own, chosen_by))
        else:
            logp = _logp(row, reference[i], reference[i])
            others = np.array([_logp(row, each[i], reference[i]) for each in under])
            found.append(
                likelihood.moments(logp, _chosen(row, reference[i]), others, null.sharpness)
            )
    unit: Unit = {
        "moments_score": np.stack([each.score for each in found]),
        "moments_covariance": np.stack([each.covariance for each in found]),
    }
    for name in _KEPT:
        unit[f"reference_{name}"] = np.concatenate([getattr(each, name) for each in reference])
    return unit


def unpack(rows: Sequence[TokenizedRow], unit: Unit, conditions: Sequence[int]) -> RowBlock:
    """The block that `score_block` made, read back."""
    reference = by_row([unit[f"reference_{name}"] for name in _KEPT], rows)
    moments = likelihood.Moments(unit["moments_score"], unit["moments_covariance"])
    return RowBlock(rows, reference, moments, {k: place for place, k in enumerate(conditions)})
