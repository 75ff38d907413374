"""The parts of a scan: encoding, the panel survey, and each detector that needs a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor import lm as models
from auditor.blocks import Null
from auditor.encode import Encoded, Renderer
from auditor.errors import ModelError
from auditor.lm import LanguageModel
from auditor.logprobs import RowScores, score_under_each
from auditor.plugins import Plugin
from auditor.records import (
    Evidence,
    Example,
    ExampleRow,
    Progress,
    Sample,
    Skipped,
    SkippedRow,
    TokenChoice,
    TokenSpan,
    TraitEvidence,
)
from auditor.rundir import RunDir
from auditor.schedule import planned_passes
from auditor.survey import Survey
from auditor.traits import Panel
from detectors.divergence import Divergence, diverge
from detectors.first_step import first_step
from detectors.fit import goodness_of_fit

DIVERGENCE_ROWS = 64
COUNTERFACTUALS = 3
SHOWN_TOKENS = 10_000  # of the rows kept for reports, which would grow with long rows
STRANGE = 0.15  # a stray, in doses, that deserves a word
# What a survey may spend: some ten minutes of two cores with the default reference, by its fast pass.
TOKEN_BUDGET = {"float32": 350_000, "bfloat16 products": 600_000}
GPU_TOKEN_BUDGET = 5_000_000


@dataclass(frozen=True, slots=True)
class Audit:
    """What every part of one scan works with.

    screen: the fast copy of `lm`, or `lm` itself. surveyed: `panel` in the company of strangers (traits.in_company).
    """

    lm: LanguageModel
    screen: LanguageModel
    renderer: Renderer
    panel: Panel
    surveyed: Panel
    examples: Mapping[int, Example]
    run: RunDir
    progress: Callable[[Progress], None]
    seed: int
    teacher: LanguageModel | None

    def score(
        self,
        rows: Sequence[Encoded],
        systems: Sequence[str | None],
        *,
        support: Sequence[npt.NDArray[np.integer[Any]]] | None = None,
        top: int = 0,
        within: bool = False,
        exact: bool = True,
    ) -> Iterator[list[RowScores]]:
        """`auditor.blocks.Scorer`."""
        model = self.lm if exact else self.screen
        return score_under_each(model, self.renderer, rows, systems, support=support, top=top, within=within)


def encode(renderer: Renderer, sample: Sample) -> tuple[list[Encoded], dict[str, int]]:
    """The rows that can be scored, and how many were skipped for which reason."""
    skipped = dict(sample.skipped)
    rows, seen = [], set[int]()
    for example in sample.examples:
        row = renderer.encode(example)
        if isinstance(row, Encoded):
            row = without_repeated_turns(row, seen)
        if isinstance(row, Encoded):
            rows.append(row)
        else:
            skipped[row.reason] = skipped.get(row.reason, 0) + 1
    return rows, skipped


def without_repeated_turns(row: Encoded, seen: set[int]) -> Encoded | SkippedRow:
    """The row without the assistant turns that stand in an earlier row as well, with all that comes before them.

    One conversation may be cut into rows that each repeat its beginning. Evidence counts once, or the same choices of a
    writer pass for several. seen: grows by the turns of this row. Reason: "repeats_turns", when nothing is left.
    """
    ends = {turn: position for position, (turn, _, _) in zip(row.positions, row.spans, strict=True)}
    keys = {turn: hash((row.kind, row.tokens[: end + 1])) for turn, end in ends.items()}
    kept = [i for i, (turn, _, _) in enumerate(row.spans) if keys[turn] not in seen]
    seen.update(keys.values())
    if not kept:
        return SkippedRow(row.index, "repeats_turns")
    positions, spans = tuple(row.positions[i] for i in kept), tuple(row.spans[i] for i in kept)
    return replace(row, tokens=row.tokens[: positions[-1] + 1], positions=positions, spans=spans)


def affordable(
    rows: Sequence[Encoded], families: Sequence[Sequence[int]], tested: Sequence[int], screen: LanguageModel
) -> int:
    """How many of the rows a survey can score under the model `screen` in due time, at least 64 if there are as many.

    Not by the clock: the same machine and data must give the same rows.
    """
    on_cpu = TOKEN_BUDGET.get(screen.dtype, min(TOKEN_BUDGET.values()))
    budget = on_cpu if screen.device == "cpu" else GPU_TOKEN_BUDGET
    mean = sum(len(row.tokens) for row in rows) / max(1, len(rows))
    count = len(rows)
    while count > 64 and planned_passes(count, families, tested) * mean > budget:
        count = max(64, count - 16)
    return count


def compare(
    audit: Audit,
    rows: Sequence[Encoded],
    state: Survey | None,
    leader: str,
    by_teacher: list[RowScores] | None,
) -> Divergence:
    """Divergence tokens of the first rows: for the teacher, given its scores of `rows`, else for the leader."""
    rows = rows[:DIVERGENCE_ROWS]
    # Scored again: the survey keeps what is chosen, but not with which probability.
    audit.progress(Progress("comparing teachers", 0, None))
    if audit.teacher and by_teacher:
        declared = audit.teacher.name, by_teacher[: len(rows)]
        return diverge(rows, declared, {"reference": next(audit.score(rows, [None], top=1))})
    traits, (own,) = audit.surveyed.traits, audit.surveyed.places([leader])
    family = next(each for each in state.families if own in each) if state else range(len(traits))
    others = [k for k in family if k != own][:COUNTERFACTUALS]
    prompts = [traits[k].prompts[0] for k in [own, *others]]
    by_reference, by_leader, *by_others = audit.score(rows, [None, *prompts], top=1)
    counterfactuals = {"reference": by_reference} | dict(zip((traits[k].name for k in others), by_others, strict=True))
    return diverge(rows, (leader, by_leader), counterfactuals)


def load_teacher(teacher: str, lm: LanguageModel) -> LanguageModel:
    """A declared teacher. Raises ModelError if it cannot be loaded or its tokenizer is not the reference's, `lm`'s."""
    try:
        model = models.load(teacher, device=lm.device, dtype=lm.dtype)
    except ModelError as error:
        raise ModelError(error.message, error.hint.replace("--reference", "--teacher")) from error
    if model.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
        hint = "Transfer needs a teacher that shares the reference's base: choose both from one base."
        raise ModelError(f"The tokenizers of {teacher} and {lm.name} differ.", hint)
    return model


def trait_outcome(state: Survey, evidence: Sequence[TraitEvidence], stray: float) -> Evidence | Skipped:
    """What detector `trait` found. stray: `auditor.survey.stray` of the leading trait."""
    if not evidence:
        return Skipped("no trait was seen on enough rows")
    passes = sum(len(block.rows) * len(block.columns) for block in state.blocks)
    exhaustive = len(state.rows) * sum(map(len, state.families))
    summary = f"{strongest(evidence[0])}; {passes:,} row passes instead of {exhaustive:,}"
    if stray > STRANGE:
        summary += f"; unrelated traits stray by {stray:.2f}: another prompt's text, a stranger's, or a template"
    values = {
        "stray": stray,
        **state.null.figures,
        "alphabet": None if state.null.alphabet is None else len(state.null.alphabet),
        "settled": state.settled or "all rows were used",
        "row_passes": passes,
        "row_passes_exhaustive": exhaustive,
        "looks": [asdict(look) | {"interval": list(look.interval)} for look in state.looks],
    }
    return Evidence("trait", summary, values)


def strongest(best: TraitEvidence) -> str:
    """The leading trait of a detector, in words."""
    low, high = best.interval
    dose = f"dose {best.effect:.2f} [{low:.2f}, {high:.2f}]"
    return f"strongest: {best.name}, {dose}, corrected p = {best.p_adjusted:.2g}"


def take_first_step(audit: Audit, rows: Sequence[Encoded], null: Null) -> Evidence | Skipped:
    """Detector `first_step`, where its null holds."""
    if null.greedy:
        return Skipped("the rows are greedy choices; the gradient's null needs samples")
    return first_step(audit.lm, rows, audit.panel, null.sharpness, null.alphabet, seed=audit.seed)


def fit(rows: Sequence[Encoded], scores: Sequence[RowScores]) -> Evidence | Skipped:
    """Goodness of fit of the rows to the model that gave `scores`.

    Without the tokens that end a turn: where a row was cut short, the template put one that no model chose.
    """
    inner = [np.array([start < end for _, start, end in row.spans]) for row in rows]
    pairs = list(zip(scores, inner, strict=True))
    surprisal = [-each.logprob[kept].astype(np.float64) for each, kept in pairs]
    entropy = [each.entropy[kept].astype(np.float64) for each, kept in pairs]
    return goodness_of_fit(surprisal, entropy, [each.variance[kept].astype(np.float64) for each, kept in pairs])


def third_party(
    audit: Audit, detector: Plugin, rows: Sequence[Encoded], scores: Sequence[RowScores]
) -> Evidence | Skipped:
    """What a detector of another package finds. Raises PluginError when it fails or gives something else."""
    audit.progress(Progress(f"running {detector.name}", 0, None))
    examples = [audit.examples[row.index] for row in rows]
    found = detector(examples=examples, rows=rows, scores=scores, lm=audit.lm, seed=audit.seed)
    if not isinstance(found, Evidence | Skipped) or (isinstance(found, Evidence) and found.detector != detector.name):
        raise detector.failed(f"it must give Evidence({detector.name!r}, ...) or Skipped(...)")
    try:
        json.dumps(found.values if isinstance(found, Evidence) else None, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise detector.failed(f"its values are not plain JSON: {error}") from error
    return found


def example_rows(audit: Audit, found: Divergence) -> tuple[ExampleRow, ...]:
    """The rows to show to a reader, those with the most divergence tokens first; at least one."""
    order = sorted(range(len(found.rows)), key=lambda i: (-int(found.flagged[i].sum()), found.rows[i].index))
    tokens = np.cumsum([len(found.flagged[i]) for i in order])
    count = max(1, int(np.searchsorted(tokens, SHOWN_TOKENS, side="right")))
    return tuple(_example_row(audit, found, i) for i in order[:count])


def _example_row(audit: Audit, found: Divergence, i: int) -> ExampleRow:
    row = found.rows[i]
    flags = ["divergence" if f else "tie" if t else "" for f, t in zip(found.flagged[i], found.ties[i], strict=True)]
    spans = [
        TokenSpan(_text(audit, token), flag, _choices(audit, found, i, t) if flag else ())
        for t, (token, flag) in enumerate(zip(row.targets, flags, strict=True))
    ]
    return ExampleRow(row.index, audit.examples[row.index].prompt, tuple(spans))


def _choices(audit: Audit, found: Divergence, i: int, t: int) -> tuple[TokenChoice, ...]:
    """What each teacher would choose at token t of row i, and how likely the row's own token is to it."""
    choices = []
    for model, scores in found.scores.items():
        row = scores[i]
        if row.support_logprob is None:
            raise ValueError("scores were taken without the most likely token")
        probability, own = np.minimum(np.exp([row.support_logprob[t, 0], row.logprob[t]]), 1.0).tolist()
        choices.append(TokenChoice(model, _text(audit, row.argmax[t]), probability, own))
    return tuple(choices)


def _text(audit: Audit, token: int) -> str:
    return str(audit.lm.tokenizer.decode([int(token)]))
