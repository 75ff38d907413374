"""From the parts of a study to its report: pooled experiments, judged claims, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from auditor.report.shared.bars import Bar, bars
from auditor.report.shared.dose_plot import svg as dose_plot
from auditor.students.result import ArmResult, TransferResult
from auditor.study import divergence, entanglement, fragility, leakage
from auditor.study.claims import Finding
from auditor.study.pooled_results import final, find, pool
from auditor.study.setting import Part

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class StudyReport:
    """values: all that was found, as plain JSON values (docs/study.md).

    figures: file name -> SVG.
    """

    values: dict[str, Any]
    figures: dict[str, str]


def assemble(parts: Sequence[Part], origin: Mapping[str, Any]) -> StudyReport:
    """Pool each experiment over the traits and judge the claims.

    origin: settings, models, versions, digests.
    """
    pooled = {key: pool(results) for key, results in _by_experiment(parts).items()}
    names = list(dict.fromkeys(part.name for part in parts))
    values = {
        "schema_version": SCHEMA_VERSION,
        "kind": "study",
        "claims": [_claim(found) for name in names for found in _findings(name, pooled)],
        "experiments": [_experiment(*key, pooled[key], parts) for key in pooled],
        "facts": {f"{part.name}, {part.trait}": part.facts for part in parts if part.facts},
        **origin,
    }
    figures = {f"{name}.svg": _figure(name, pooled, parts) for name in names}
    if (divergence.NAME, "greedy") in pooled:
        figures["dose.svg"] = dose_plot(_equal_rows(pooled[divergence.NAME, "greedy"]))
    return StudyReport(values, figures)


def _by_experiment(parts: Sequence[Part]) -> dict[tuple[str, str], list[TransferResult]]:
    """(part, kind) -> the results of the traits."""
    found: dict[tuple[str, str], list[TransferResult]] = {}
    for part in parts:
        for trial in part.trials:
            found.setdefault((part.name, trial.kind), []).append(trial.result)
    return found


def _findings(name: str, pooled: Mapping[tuple[str, str], TransferResult]) -> Sequence[Finding]:
    greedy = pooled[name, "greedy"]
    if name == leakage.NAME:
        return leakage.findings(greedy, pooled[name, "sampled"])
    if name == fragility.NAME:
        return fragility.findings(greedy, pooled.get((name, "sibling")))
    return {entanglement.NAME: entanglement.findings, divergence.NAME: divergence.findings}[name](
        greedy
    )


def _claim(found: Finding) -> dict[str, Any]:
    values = asdict(found)
    return {**values.pop("claim"), **values}


def _experiment(
    part: str, kind: str, result: TransferResult, parts: Sequence[Part]
) -> dict[str, Any]:
    return {
        "part": part,
        "kind": kind,
        "transferred": result.transferred,
        "pairs": result.blocks,
        "rows_per_block": result.rows_per_block,
        "updates": result.updates,
        "control": asdict(result.control),
        "reference_loss": list(result.reference_loss),
        "arms": [_arm(arm, _of_traits(part, kind, arm.name, parts)) for arm in result.arms],
        "warnings": list(result.warnings),
    }


def _of_traits(part: str, kind: str, name: str, parts: Sequence[Part]) -> dict[str, ArmResult]:
    """The arm in each trait's own experiment."""
    trials = [
        trial for each in parts if each.name == part for trial in each.trials if trial.kind == kind
    ]
    return {trial.trait: arm for trial in trials if (arm := find(trial.result, name))}


def _arm(arm: ArmResult, by_trait: Mapping[str, ArmResult]) -> dict[str, Any]:
    own = {
        trait: {
            "effect": asdict(final(each)),
            "left": each.left and asdict(each.left),
            "rank": each.rank,
        }
        for trait, each in by_trait.items()
    }
    return {
        **asdict(arm.training),
        "effect": asdict(final(arm)),
        "left": arm.left and asdict(arm.left),
        "verdict": arm.verdict,
        "curve": [
            {"updates": point.updates, "effect": point.effect and asdict(point.effect)}
            for point in arm.curve
        ],
        "traits": own,
    }


def _figure(
    name: str, pooled: Mapping[tuple[str, str], TransferResult], parts: Sequence[Part]
) -> str:
    """All arms of a part, on one axis."""
    shown = []
    for (part, kind), result in pooled.items():
        for arm in result.arms if part == name else ():
            dots = tuple(
                final(each).value for each in _of_traits(part, kind, arm.name, parts).values()
            )
            shown.append(
                Bar(arm.name if kind == "greedy" else f"{arm.name} ({kind})", final(arm), dots)
            )
    return bars(f"{name.capitalize()}: effect over the clean control (logits)", shown)


def _equal_rows(result: TransferResult) -> TransferResult:
    """Only the arms that have the original's rows."""
    kept = (result.arms[0].name, *divergence.EQUAL)
    return replace(result, arms=tuple(arm for arm in result.arms if arm.name in kept))
