"""Tune a copy of the reference on each trait, score rows under it, and weigh the evidence: detector `tuned`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from auditor.blocks import Null, Units, score_block
from auditor.encode import Encoded
from auditor.logprobs import RowScores, by_row, score_under
from auditor.records import Evidence, Progress, Skipped, TraitEvidence, Verdict
from auditor.schedule import families
from auditor.stages import Audit, strongest
from auditor.stats import Estimate
from auditor.traits import Panel, Trait
from auditor.transfer.teach import can_teach, teach
from auditor.verdict import MIN_ROWS, combined, incomplete
from detectors.trait import MIN_PLACEBOS, Moments
from detectors.tuned import tuned_estimates

ROWS = 128


@dataclass(frozen=True, slots=True)
class Tuned:
    """What copies of the reference say. traits, bounds: as `auditor.verdict.decide` takes them; rows: scored."""

    evidence: Evidence
    traits: tuple[TraitEvidence, ...]
    bounds: dict[str, float | None]
    rows: int


def tuned(
    audit: Audit,
    rows: Sequence[Encoded],
    null: Null,
    tested: Panel,
    hidden_from: Mapping[str, set[int]],
    hypotheses: int,
) -> Tuned | Skipped:
    """Score the first ROWS of `rows` under a copy of the reference for every trait that it can be taught.

    Traits can be taught that have probes, stems and an answer of one token (`auditor.transfer.teach`). Of families with
    a trait in `tested` others are taught as well, to centre on and to tell a trait from any other tuning.
    hypotheses: that p-values are corrected for, among them those of other detectors.
    Every trait's scores are kept in the run. Skipped for too few rows or traits, or a reference that is not float32:
    tuning moves weights by less than bfloat16 can tell.
    """
    rows = rows[:ROWS]
    if audit.lm.dtype != "float32":
        return Skipped(f"tuning moves weights by less than {audit.lm.dtype} can tell; use --dtype float32")
    if len(rows) < MIN_ROWS:
        return Skipped(f"{len(rows)} rows; at least {MIN_ROWS} are needed")
    groups = _groups(audit, tested)
    chosen = [trait for group in groups for trait in group]
    if len(chosen) <= MIN_PLACEBOS:
        said = f"{len(chosen)} traits of the panel have an answer that is one token"
        return Skipped(f"{said}, and {MIN_PLACEBOS + 1} are needed; name more with --panel")
    moments = _moments(audit, rows, null, chosen)
    numbers = [[chosen.index(trait) for trait in group] for group in groups]
    seen = {
        k: np.array([row.index not in hidden_from.get(trait.name, ()) for row in rows])
        for k, trait in enumerate(chosen)
    }
    names = {trait.name for trait in tested.traits}
    found = {k: each for k, each in tuned_estimates(moments, numbers, seen).items() if chosen[k].name in names}
    tokens = sum(len(row.tokens) for row in rows)
    traits = sorted(
        (_trait(chosen[k], each, hypotheses, len(rows), tokens) for k, each in found.items()),
        key=lambda each: (each.p_value, -each.z),
    )
    numbered = [(k, trait.name) for k, trait in enumerate(chosen) if trait.name in names]
    bounds = {name: found[k].upper() if k in found else None for k, name in numbered}
    return Tuned(_evidence(traits, null, len(rows), len(names) - len(bounds)), tuple(traits), bounds, len(rows))


def with_copies(
    prompted: Verdict, copies: Tuned | Skipped, judge: Callable[..., Verdict], chosen: Sequence[str]
) -> Verdict:
    """The verdict on trait prompts together with that on tuned copies, where those were asked for."""
    if not {"trait", "tuned"} & set(chosen):
        return replace(prompted, reason="a verdict rests on detector trait or tuned, and neither was run")
    if isinstance(copies, Tuned):
        found = judge(copies.traits, copies.bounds, scanned=copies.rows)
        found = replace(found, reason=f"by copies of the reference tuned on the traits, {found.reason}")
        return combined(prompted, found) if "trait" in chosen else found
    return incomplete(prompted, copies.reason) if "tuned" in chosen else prompted


def _groups(audit: Audit, tested: Panel) -> list[list[Trait]]:
    """The traits to teach, by family: those tested, and others of their family, so that there are MIN_PLACEBOS."""
    names = {trait.name for trait in tested.traits}
    found = []
    for family in families(audit.panel, audit.seed):
        traits = [audit.panel.traits[k] for k in family]
        teachable = [trait for trait in traits if can_teach(audit.renderer, trait, audit.panel)]
        own = [trait for trait in teachable if trait.name in names]
        others = [trait for trait in teachable if trait.name not in names]
        if own:
            found.append([*own, *others[: max(0, MIN_PLACEBOS + 1 - len(own))]])
    return found


def _moments(audit: Audit, rows: Sequence[Encoded], null: Null, traits: Sequence[Trait]) -> Moments:
    """The moments of the rows under a copy for each of `traits`, which are taught one after another."""
    by_name = {trait.name: trait for trait in traits}

    def score(
        rows: Sequence[Encoded], systems: Sequence[str | None], *, exact: bool = True, **asked: Any
    ) -> Iterator[list[RowScores]]:
        for done, system in enumerate(systems):
            if system is None:
                yield from audit.score(rows, [None], **asked)
            else:
                audit.progress(Progress("scoring under tuned copies", len(rows) * done, len(rows) * len(traits)))
                yield _scored(audit, by_name[system], rows, asked)

    unit = score_block(null, rows, list(by_name), score, lambda: None)
    return Moments(unit["moments_score"], unit["moments_covariance"])


def _scored(audit: Audit, trait: Trait, rows: Sequence[Encoded], asked: dict[str, Any]) -> list[RowScores]:
    """Scores under the copy tuned on one trait, kept in the run; the copy itself is given up."""
    name = f"tuned-{audit.panel.places([trait.name])[0]:03d}"
    unit = audit.run.load_unit(name)
    if unit is None:
        copy = teach(audit.lm, trait, audit.panel, seed=audit.seed).lm
        unit = _packed(score_under(copy, audit.renderer, rows, None, **asked))
        audit.run.save_unit(name, unit)
    return by_row([unit[field.name] for field in fields(RowScores)], rows)


def _packed(scores: Sequence[RowScores]) -> Units:
    return {field.name: np.concatenate([getattr(each, field.name) for each in scores]) for field in fields(RowScores)}


def _trait(trait: Trait, dose: Estimate, hypotheses: int, rows: int, tokens: int) -> TraitEvidence:
    adjusted = min(1.0, dose.p_value * hypotheses)
    return TraitEvidence(
        trait.name, trait.group, dose.effect, dose.interval(), dose.z, dose.p_value, adjusted, rows, tokens
    )


def _evidence(traits: Sequence[TraitEvidence], null: Null, rows: int, untaught: int) -> Evidence:
    values = {"rows": rows, "traits": [asdict(each) | {"interval": list(each.interval)} for each in traits]}
    values |= {"not_taught": untaught, **null.figures}
    if not traits:
        return Evidence("tuned", "the rows carry too little information", values)
    summary = f"{strongest(traits[0])}; {rows} rows under {len(traits)} tuned copies of the reference"
    if untaught:
        summary += f"; {untaught} traits have no answer of one token and were not taught"
    return Evidence("tuned", summary, values)
