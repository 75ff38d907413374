"""The null of a data set, and the moments of its rows under each trait prompt.

The null says what the completions would be like if the reference had written them: at which
temperature, on which alphabet, as samples or as choices. The scores of `auditor.inference` have
mean zero under it.

Shapes: T completion tokens of a row, S support, K conditions (trait prompts), R rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from auditor.inference import tempering
from auditor.inference.estimates import Array
from auditor.model.language_model import LanguageModel
from auditor.model.scoring import (
    TokenScores,
    by_row,
    pack_scores,
    score_under_each,
    unpack_scores,
)
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.model.unit_store import Unit, UnitStore, load_or_compute

LOG = logging.getLogger(__name__)

# Most likely tokens of the reference at a position; a token that is none of them is no evidence.
SUPPORT = 32
# Rows that the null is fitted on.
PILOT = 64
# Completions are on a closed alphabet with at most so many kinds of token, each seen so many times
# on average: number lists have a dozen kinds, and open text has more within its first rows.
CLOSED_ALPHABET = 64
CLOSED_SEEN = 30
# The fields of the reference's scores that a block keeps for reports.
_REFERENCE_FIELDS = ("logprob", "argmax", "margin", "entropy", "variance")


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


def scorer(
    lm: LanguageModel, renderer: ChatTokenizer, screen: LanguageModel | None = None
) -> Scorer:
    """The scorer of one model. screen: its fast copy, for what need not be exact, if it has one."""

    def score(
        rows: Sequence[TokenizedRow],
        systems: Sequence[str | None],
        *,
        exact: bool = True,
        **options: Any,
    ) -> Iterator[list[TokenScores]]:
        model = lm if exact or screen is None else screen
        return score_under_each(model, renderer, rows, systems, **options)

    return score


@dataclass(frozen=True, slots=True)
class NullModel:
    """What the completions would be like without a trait."""

    inverse_temperature: float
    """1 for samples at T = 1, see `tempering.inverse_temperature`."""

    greedy: bool
    """Whether the tokens are choices rather than samples (`tempering.is_greedy`)."""

    alphabet: tuple[int, ...] | None
    """The token alphabet, if it is a closed one."""

    non_argmax_share: float = 0.0
    """Share of the tokens that are not the reference's most likely one, in [0, 1]."""

    excess_surprisal: float = 0.0
    """By how many nats a token the text is less likely to the reference than its own samples."""

    @property
    def figures(self) -> dict[str, float]:
        """All but the alphabet, by the names that reports and the units of a run give them."""
        return {
            "sharpness": self.inverse_temperature,
            "greedy": self.greedy,
            "others": self.non_argmax_share,
            "excess": self.excess_surprisal,
        }

    @property
    def temperature(self) -> float:
        """The temperature at which the reference writes text of this kind, in [0, 1].

        Text of another writer looks like samples at T > 1, which is no reason for the reference to
        write nonsense.
        """
        return 0.0 if self.greedy else 1.0 / max(1.0, self.inverse_temperature)


@dataclass(frozen=True, slots=True)
class RowBlock:
    """R rows scored under the same conditions.

    columns: the index of each trait among the conditions.
    """

    rows: Sequence[TokenizedRow]
    reference: Sequence[TokenScores]
    moments: tempering.Moments
    columns: Mapping[int, int]


def alphabet(rows: Sequence[TokenizedRow]) -> tuple[int, ...] | None:
    """The token alphabet of the completions when it is closed, such as digits and commas; None for
    open text.

    Under a softmax restricted to an alphabet the mass of all other tokens is a trait-dependent
    nuisance, so the null must be restricted likewise. Open text keeps the whole vocabulary.
    """
    tokens = [token for row in rows for token in row.targets.tolist()]
    kinds = set(tokens)
    closed = 1 < len(kinds) <= CLOSED_ALPHABET and len(tokens) >= CLOSED_SEEN * len(kinds)
    return tuple(sorted(kinds)) if closed else None


def find_null(rows: Sequence[TokenizedRow], score: Scorer, store: UnitStore) -> NullModel:
    """The null of `rows` from the first PILOT of them, kept in `store`."""

    def fitted() -> Unit:
        return {
            name: np.array(value) for name, value in fit_null(rows, score, store).figures.items()
        }

    unit = load_or_compute(store, "pilot", fitted)
    return NullModel(
        inverse_temperature=float(unit["sharpness"]),
        greedy=bool(unit["greedy"]),
        alphabet=alphabet(rows),
        non_argmax_share=float(unit["others"]),
        excess_surprisal=float(unit["excess"]),
    )


def fit_null(
    rows: Sequence[TokenizedRow],
    score: Scorer,
    store: UnitStore | None = None,
    system: str | None = None,
) -> NullModel:
    """The null of `rows` from the first PILOT of them, as the reference sees them under `system`.

    Without a token to fit on, it is that of samples at T = 1; a test on it has no information.
    """
    letters, pilot = alphabet(rows), rows[:PILOT]
    reference = reference_scores(pilot, letters, score, store, system)
    pairs = list(zip(pilot, reference, strict=True))
    logps = [evidence_logprobs(row, scores, scores) for row, scores in pairs]
    indices = [evidence_indices(row, scores) for row, scores in pairs]
    if not any(map(len, indices)):
        return NullModel(1.0, greedy=False, alphabet=letters)
    # The temperature and the share of choices are read off the tokens that are evidence, whose
    # probabilities are renormalised over the support, as those of the test itself will be.
    non_argmax = np.concatenate(indices) != np.concatenate(logps).argmax(-1)
    # Surprisal has the entropy as its mean under the reference, whatever came before. All content
    # tokens count here, also those outside the support: they are what makes a text unlikely.
    excess = np.concatenate(
        [(-scores.logprob - scores.entropy)[row.content_mask] for row, scores in pairs]
    )
    null = NullModel(
        tempering.inverse_temperature(logps, indices),
        tempering.is_greedy(logps, indices),
        letters,
        float(np.mean(non_argmax)),
        float(np.mean(excess)),
    )
    LOG.info(
        "null of %d rows: inverse temperature %.3g, %s, %s",
        len(pilot),
        null.inverse_temperature,
        "greedy choices" if null.greedy else "samples",
        f"an alphabet of {len(letters)} tokens" if letters else "the whole vocabulary",
    )
    return null


def reference_scores(
    rows: Sequence[TokenizedRow],
    letters: tuple[int, ...] | None,
    score: Scorer,
    store: UnitStore | None = None,
    system: str | None = None,
) -> list[TokenScores]:
    """The reference's scores, with its most likely tokens or the alphabet as the support; kept in
    `store`, if there is one, by the number of the first row.
    """

    def scored() -> Unit:
        if letters is None:
            return pack_scores(next(score(rows, [system], top=SUPPORT)))
        support = [np.tile(np.array(letters), (len(row.positions), 1)) for row in rows]
        return pack_scores(next(score(rows, [system], support=support)))

    if not rows:
        return []
    return unpack_scores(load_or_compute(store, f"reference-{rows[0].index:09d}", scored), rows)


def evidence_mask(row: TokenizedRow, reference: TokenScores) -> npt.NDArray[np.bool_]:
    """[T] Which tokens are evidence: content that lies in the reference's support."""
    in_support = (reference.token_support == row.targets[:, None]).any(-1)
    return np.asarray(row.content_mask & in_support)


def evidence_logprobs(row: TokenizedRow, scores: TokenScores, reference: TokenScores) -> Array:
    """Log-probabilities over the support at the tokens that are evidence, given that a token lies
    in the support and does not end the turn.
    """
    if scores.support_logprob is None:
        raise ValueError("scores were taken without a support")
    mask = evidence_mask(row, reference)
    # A trait prompt that makes the reference stop sooner or later is no evidence for the trait.
    ends = np.isin(reference.token_support[mask], row.targets[~row.content_mask])
    return tempering.restrict_and_renormalize(scores.support_logprob[mask], ends)


def evidence_indices(row: TokenizedRow, reference: TokenScores) -> npt.NDArray[np.int64]:
    """Where the tokens that are evidence stand in the reference's support."""
    mask = evidence_mask(row, reference)
    return tempering.locate(row.targets[mask], reference.token_support[mask])


def score_block(
    null: NullModel,
    rows: Sequence[TokenizedRow],
    systems: Sequence[str],
    score: Scorer,
    tick: Callable[[], None],
    reference: Sequence[TokenScores] = (),
) -> Unit:
    """Score `rows` under the reference and each of `systems`; `tick` is called after each. The
    arrays are those that `unpack` reads.

    reference: its scores of the rows (`reference_scores`), where they are known.
    """
    reference = reference or reference_scores(rows, null.alphabet, score)
    support = [scores.token_support for scores in reference]
    by_condition = []
    # The reference is scored exactly, since it is the null. A trait prompt only gives a direction
    # to test, and an inexact one costs some power and no error rate, so it takes the fast pass. Not
    # so for greedy text: a choice that rounding turns is one of the few that are evidence.
    for scores in score(rows, systems, support=support, within=True, exact=null.greedy):
        by_condition.append(scores)
        tick()
    moments = []
    for i, row in enumerate(rows):
        exact, conditions = reference[i], [scores[i] for scores in by_condition]
        if null.greedy:
            mask = evidence_mask(row, exact)
            argmax = np.array([scores.argmax[mask] for scores in conditions])
            moments.append(tempering.choices(row.targets[mask], exact.argmax[mask], argmax))
        else:
            logprobs = np.array([evidence_logprobs(row, scores, exact) for scores in conditions])
            moments.append(
                tempering.moments(
                    evidence_logprobs(row, exact, exact),
                    evidence_indices(row, exact),
                    logprobs,
                    null.inverse_temperature,
                )
            )
    unit: Unit = {
        "moments_score": np.stack([moment.score for moment in moments]),
        "moments_covariance": np.stack([moment.covariance for moment in moments]),
        "moments_signal": np.stack([moment.signal for moment in moments]),
    }
    for name in _REFERENCE_FIELDS:
        unit[f"reference_{name}"] = np.concatenate([getattr(scores, name) for scores in reference])
    return unit


def stacked_moments(unit: Unit) -> tempering.Moments:
    """The moments of the rows of a unit that `score_block` made, the row as the first axis."""
    return tempering.Moments(
        unit["moments_score"], unit["moments_covariance"], unit["moments_signal"]
    )


def unpack(rows: Sequence[TokenizedRow], unit: Unit, conditions: Sequence[int]) -> RowBlock:
    """The block that `score_block` made, read back."""
    reference = by_row([unit[f"reference_{name}"] for name in _REFERENCE_FIELDS], rows)
    moments = stacked_moments(unit)
    columns = {trait: column for column, trait in enumerate(conditions)}
    return RowBlock(rows, reference, moments, columns)
