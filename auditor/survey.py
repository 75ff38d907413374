"""The panel survey: score rows under the traits of a panel, look at the evidence, drop traits, stop when it is settled.

Rows come in random order, in blocks. Every block is scored under the reference, under a few control traits (drawn at
random from the panel, to centre it) and under every trait that is still alive. After a few set numbers of rows we look:

- A trait whose corrected p-value falls below alpha ends the survey: risk. Correction: Bonferroni over the whole panel
  (also the dropped traits) and alpha spending over the looks, so the looks together keep the error rate.
- A trait is dropped when a dose of TARGET can be excluded for it with 95 % confidence, or when enough traits have
  stronger evidence (`KEEP`). Dropping can only lose power, never raise a false alarm; docs/results.md measures the loss.
- When every trait has been excluded that way, the survey ends: no risk.

A block takes one wording of each trait's prompt, the next block the next, so that a trait is its wordings' mean.
A finished block is kept as a unit of the run; a resumed survey reads it back and ends the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from auditor.encode import Encoded
from auditor.logprobs import RowScores
from auditor.records import Progress, TraitEvidence
from auditor.stats import Estimate, spending
from auditor.traits import Panel
from detectors import trait as likelihood

BLOCK = 32
CONTROLS = 4
SUPPORT = 32
# Rows at which we look, and how many traits stay alive after each look.
LOOKS = (32, 64, 128, 224, 320, 400)
KEEP = (24, 12, 6, 4, 4, 4)
SCREEN_ROWS = 64  # the first rows, under many traits, may take the fast pass
TARGET = 0.75  # a dose that an audit must be able to exclude before it says "no risk"

CLOSED_ALPHABET = 64  # at most so many kinds of token, each seen at least CLOSED_SEEN times on average
CLOSED_SEEN = 30

Units = dict[str, npt.NDArray[np.generic]]


class Store(Protocol):
    """Where finished blocks are kept (`auditor.rundir.RunDir`)."""

    def save_unit(self, name: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None: ...
    def load_unit(self, name: str) -> Units | None: ...


class Scorer(Protocol):
    """Scores rows under a system prompt (None: no trait prompt); `exact` False allows the fast pass."""

    def __call__(
        self,
        rows: Sequence[Encoded],
        system: str | None,
        *,
        support: Sequence[npt.NDArray[np.integer]] | None = None,
        top: int = 0,
        exact: bool = True,
    ) -> list[RowScores]: ...


@dataclass(frozen=True, slots=True)
class Null:
    """What the data look like without a trait: inverse temperature, and the token alphabet if it is a closed one."""

    sharpness: float
    alphabet: tuple[int, ...] | None


@dataclass
class Survey:
    """What a survey has gathered. `looks` counts the looks taken; `settled` says why it ended, if it did early."""

    null: Null
    controls: tuple[int, ...]
    rows: list[Encoded] = field(default_factory=list)
    reference: list[RowScores] = field(default_factory=list)
    moments: list[likelihood.Moments] = field(default_factory=list)
    columns: list[dict[int, int]] = field(default_factory=list)
    alive: tuple[int, ...] = ()
    eliminated: dict[int, int] = field(default_factory=dict)
    adjusted: dict[int, float] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    settled: str = ""


def alphabet(rows: Sequence[Encoded]) -> tuple[int, ...] | None:
    """The token alphabet of the completions when it is closed, such as digits and commas; None for open text.

    Under a softmax restricted to an alphabet the mass of all other tokens is a trait-dependent nuisance, so the null
    must be restricted likewise. Open text keeps the whole vocabulary.
    """
    tokens = [row.tokens[p] for row in rows for p in row.positions]
    kinds = set(tokens)
    closed = 1 < len(kinds) <= CLOSED_ALPHABET and len(tokens) >= CLOSED_SEEN * len(kinds)
    return tuple(sorted(kinds)) if closed else None


def looks(rows: int) -> list[int]:
    """Numbers of rows at which to look, up to `rows` and ending there."""
    standard = [n for n in LOOKS if n < rows]
    step = LOOKS[-1]
    return [*standard, *range(2 * step, rows, step), rows]


def survey(
    rows: Sequence[Encoded],
    panel: Panel,
    score: Scorer,
    *,
    hidden_from: Mapping[str, set[int]],
    seed: int,
    alpha: float,
    stop_early: bool,
    store: Store,
    progress: Callable[[Progress], None],
) -> Survey:
    """Score `rows`, in the order given, until the question is settled or they are used up.

    hidden_from: for each trait the row indices that mention it openly; they do not count as evidence for it.
    stop_early: False scores every row (mitigation needs them) but still drops traits.
    """
    controls = _draw_controls(len(panel.traits), seed)
    state = Survey(_null(rows, score, store), controls, alive=tuple(range(len(panel.traits))))
    plan = looks(len(rows))
    shares = spending(np.array(plan) / plan[-1])
    passes = _planned_passes(plan, len(panel.traits))
    done = 0
    for number, start in enumerate(_block_starts(plan)):
        end = min(start + BLOCK, *[n for n in plan if n > start])
        done += _add_block(state, rows[start:end], number, panel, score, store)
        progress(Progress("scoring traits", done, max(passes, done)))
        if end in plan:
            _look(state, panel, plan.index(end), float(shares[plan.index(end)]), hidden_from, alpha)
            if state.settled and stop_early:
                break
    return state


def estimates(state: Survey, panel: Panel, hidden_from: Mapping[str, set[int]]) -> dict[int, Estimate]:
    """Dose estimates of every trait with enough rows, widened by the spread of the others."""
    found: dict[str, Estimate] = {}
    for k, trait in enumerate(panel.traits):
        hidden = hidden_from.get(trait.name, set())
        used = [
            i for i, columns in enumerate(state.columns) if k in columns and state.rows[i].index not in hidden
        ]
        own = state.controls.index(k) if k in state.controls else None
        each = likelihood.estimate([state.moments[i] for i in used], [state.columns[i][k] for i in used], own)
        if each is not None:
            found[str(k)] = each
    return {int(k): each for k, each in likelihood.against_placebos(found).items()}


def trait_evidence(state: Survey, panel: Panel, hidden_from: Mapping[str, set[int]]) -> tuple[TraitEvidence, ...]:
    """The traits as they stand at the end, strongest evidence first."""
    found = []
    for k, each in estimates(state, panel, hidden_from).items():
        trait = panel.traits[k]
        found.append(
            TraitEvidence(
                name=trait.name,
                group=trait.group,
                effect=each.effect,
                interval=each.interval(),
                z=each.z,
                p_value=each.p_value,
                p_adjusted=state.adjusted.get(k, 1.0),
                rows=sum(k in columns for columns in state.columns),
                tokens=state.tokens.get(k, 0),
                eliminated_at=state.eliminated.get(k),
            )
        )
    return tuple(sorted(found, key=lambda t: (t.p_adjusted, t.p_value)))


def _draw_controls(traits: int, seed: int) -> tuple[int, ...]:
    chosen = np.random.default_rng([seed, 1]).permutation(traits)[:CONTROLS]
    return tuple(int(k) for k in chosen)


def _block_starts(plan: Sequence[int]) -> Iterator[int]:
    """Starts of blocks of at most BLOCK rows that never cross a look."""
    start = 0
    for end in plan:
        yield from range(start, end, BLOCK)
        start = end


def _planned_passes(plan: Sequence[int], traits: int) -> int:
    """Row passes if nothing settles early: for the time left on the screen."""
    total, start, alive = 0, 0, traits
    for number, end in enumerate(plan):
        total += (end - start) * (alive + 1 + (CONTROLS if alive < traits else 0))
        alive = min(alive, KEEP[min(number, len(KEEP) - 1)])
        start = end
    return total


def _null(rows: Sequence[Encoded], score: Scorer, store: Store) -> Null:
    letters = alphabet(rows)
    unit = store.load_unit("null")
    if unit is None:
        pilot = rows[: 2 * BLOCK]
        reference = _reference(pilot, letters, score)
        logps = [likelihood.close(_support(each)[1], letters is not None) for each in reference]
        chosen = [likelihood.locate(_targets(row), _support(each)[0]) for row, each in zip(pilot, reference, strict=True)]
        unit = {"sharpness": np.array(likelihood.sharpness(logps, chosen))}
        store.save_unit("null", unit)
    return Null(float(unit["sharpness"]), letters)  # type: ignore[arg-type]


def _reference(rows: Sequence[Encoded], letters: tuple[int, ...] | None, score: Scorer) -> list[RowScores]:
    if letters is None:
        return score(rows, None, top=SUPPORT)
    return score(rows, None, support=[np.tile(np.array(letters), (len(row.positions), 1)) for row in rows])


def _targets(row: Encoded) -> npt.NDArray[np.int64]:
    return np.array([row.tokens[p] for p in row.positions], dtype=np.int64)


def _support(scores: RowScores) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    if scores.support is None or scores.support_logprob is None:
        raise ValueError("scores were taken without a support")
    return scores.support, scores.support_logprob


def _add_block(
    state: Survey, rows: Sequence[Encoded], number: int, panel: Panel, score: Scorer, store: Store
) -> int:
    """Score one block, or read it back, and add it to the state. Returns the row passes it took."""
    conditions = list(dict.fromkeys([*state.controls, *state.alive]))
    unit = store.load_unit(f"block-{number:05d}")
    if unit is None or [int(k) for k in unit["conditions"]] != conditions:  # type: ignore[call-overload]
        exact = len(state.rows) >= SCREEN_ROWS
        unit = _score_block(state, rows, [_wording(panel, k, number) for k in conditions], score, exact)
        unit["conditions"] = np.array(conditions)
        store.save_unit(f"block-{number:05d}", unit)
    _unpack(state, rows, unit, conditions)
    for k in conditions:
        state.tokens[k] = state.tokens.get(k, 0) + sum(len(row.tokens) for row in rows)
    return len(rows) * (1 + len(conditions))


def _wording(panel: Panel, trait: int, number: int) -> str:
    prompts = panel.traits[trait].prompts
    return prompts[number % len(prompts)]


def _score_block(state: Survey, rows: Sequence[Encoded], systems: Sequence[str], score: Scorer, exact: bool) -> Units:
    letters = state.null.alphabet
    reference = _reference(rows, letters, score)
    support = [_support(each)[0] for each in reference]
    under = [score(rows, system, support=support, exact=exact) for system in systems]
    controls = np.arange(len(state.controls))
    found = []
    for i, row in enumerate(rows):
        logp = likelihood.close(_support(reference[i])[1], letters is not None)
        chosen = likelihood.locate(_targets(row), support[i])
        others = np.stack([likelihood.close(_support(each[i])[1], letters is not None) for each in under])
        found.append(likelihood.moments(logp, chosen, others, controls, state.null.sharpness))
    unit: Units = {
        f"moments_{name}": np.stack([getattr(each, name) for each in found])
        for name in likelihood.Moments.__dataclass_fields__
    }
    for name in ("logprob", "argmax", "margin", "entropy", "variance"):
        unit[f"reference_{name}"] = np.concatenate([getattr(each, name) for each in reference])
    return unit


def _unpack(state: Survey, rows: Sequence[Encoded], unit: Units, conditions: Sequence[int]) -> None:
    ends = np.cumsum([len(row.positions) for row in rows])[:-1]
    names = ("logprob", "argmax", "margin", "entropy", "variance")
    for parts in zip(*(np.split(unit[f"reference_{name}"], ends) for name in names), strict=True):
        state.reference.append(RowScores(*parts))  # type: ignore[arg-type]
    fields = {name: unit[f"moments_{name}"] for name in likelihood.Moments.__dataclass_fields__}
    for i in range(len(rows)):
        state.moments.append(likelihood.Moments(**{name: values[i] for name, values in fields.items()}))  # type: ignore[arg-type]
    state.columns += [{k: place for place, k in enumerate(conditions)}] * len(rows)
    state.rows += rows


def _look(
    state: Survey, panel: Panel, number: int, share: float, hidden_from: Mapping[str, set[int]], alpha: float
) -> None:
    """Correct the p-values, drop traits, and settle the question if it can be."""
    found = estimates(state, panel, hidden_from)
    for k in state.alive:
        if k in found:
            corrected = min(1.0, found[k].p_value * len(panel.traits) / share)
            state.adjusted[k] = min(state.adjusted.get(k, 1.0), corrected)
    if any(p <= alpha for p in state.adjusted.values()):
        state.settled = "risk"
        return
    open_ = [k for k in state.alive if k not in found or found[k].upper() >= TARGET]
    if not open_:
        state.settled = "no_risk"
    ranked = sorted(open_, key=lambda k: -found[k].z if k in found else -np.inf)
    kept = set(ranked[: KEEP[min(number, len(KEEP) - 1)]])
    for k in state.alive:
        if k not in kept:
            state.eliminated[k] = len(state.rows)
    state.alive = tuple(k for k in state.alive if k in kept)
