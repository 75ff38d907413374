"""From the parts of a study to its report: pooled experiments, judged claims, figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from auditor.report.shared.bars import Bar, bars
from auditor.report.shared.dose_plot import dose_plot
from auditor.students.result import ArmResult, TransferResult
from auditor.study import divergence, entanglement, fragility, leakage
from auditor.study.claims import Finding
from auditor.study.pooled_results import pool
from auditor.study.setting import Part

SCHEMA_VERSION = 1


LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyReport:
    """values: all that was found, as plain JSON values (docs/study.md).

    figures: file name -> SVG.
    """

    values: dict[str, Any]
    figures: dict[str, str]


def assemble(parts: Sequence[Part], origin: Mapping[str, object]) -> StudyReport:
    """Pool each experiment over the traits and judge the claims.

    origin: settings, models, versions, digests.
    """
    results: dict[tuple[str, str], list[TransferResult]] = {}
    for part in parts:
        for trial in part.trials:
            results.setdefault((part.name, trial.kind), []).append(trial.result)
    pooled = {key: pool(of_traits) for key, of_traits in results.items()}
    names = list(dict.fromkeys(part.name for part in parts))
    findings: list[Finding] = []
    for name in names:
        greedy = pooled[name, "greedy"]
        match name:
            case leakage.NAME:
                findings += leakage.findings(greedy, pooled[name, "sampled"])
            case fragility.NAME:
                findings += fragility.findings(greedy, pooled.get((name, "sibling")))
            case entanglement.NAME:
                findings += entanglement.findings(greedy)
            case _:
                findings += divergence.findings(greedy)
    for finding in findings:
        LOG.debug("%s: %s, %s", finding.claim.part, finding.claim.statement, finding.answer)
    values = {
        "schema_version": SCHEMA_VERSION,
        "kind": "study",
        # What is claimed stands beside what was measured, and not in an object of its own.
        "claims": [
            asdict(finding.claim) | {k: x for k, x in asdict(finding).items() if k != "claim"}
            for finding in findings
        ],
        "experiments": [
            {
                "part": name,
                "kind": kind,
                "transferred": result.transferred,
                "pairs": result.blocks,
                "rows_per_block": result.rows_per_block,
                "updates": result.updates,
                "control": asdict(result.control),
                "reference_loss": list(result.reference_loss),
                "arms": [_arm(arm, _by_trait(name, kind, arm.name, parts)) for arm in result.arms],
                "warnings": list(result.warnings),
            }
            for (name, kind), result in pooled.items()
        ],
        "facts": {f"{part.name}, {part.trait}": part.facts for part in parts if part.facts},
        **origin,
    }
    figures = {f"{name}.svg": _figure(name, pooled, parts) for name in names}
    if (divergence.NAME, "greedy") in pooled:
        # Of the arms only those that have the original's rows: the others are not comparable.
        result = pooled[divergence.NAME, "greedy"]
        comparable = (result.arms[0].name, *divergence.EQUAL)
        arms = tuple(arm for arm in result.arms if arm.name in comparable)
        figures["dose.svg"] = dose_plot(replace(result, arms=arms))
    return StudyReport(values, figures)


def _by_trait(part: str, kind: str, name: str, parts: Sequence[Part]) -> dict[str, ArmResult]:
    """The arm in the experiment of each trait."""
    trials = [trial for studied in parts if studied.name == part for trial in studied.trials]
    return {
        trial.trait: arm
        for trial in trials
        if trial.kind == kind and (arm := trial.result.arm(name))
    }


def _arm(pooled: ArmResult, by_trait: Mapping[str, ArmResult]) -> dict[str, object]:
    def effects(arm: ArmResult) -> dict[str, object]:
        ratio = arm.effect_ratio
        return {"effect": asdict(arm.final_effect), "left": ratio and asdict(ratio)}

    return {
        **asdict(pooled.training),
        **effects(pooled),
        "verdict": pooled.verdict,
        "curve": [
            {"updates": point.updates, "effect": point.effect and asdict(point.effect)}
            for point in pooled.curve
        ],
        "traits": {trait: {**effects(arm), "rank": arm.rank} for trait, arm in by_trait.items()},
    }


def _figure(
    name: str, pooled: Mapping[tuple[str, str], TransferResult], parts: Sequence[Part]
) -> str:
    """All arms of a part, on one axis, each with a dot for every trait."""
    rows = []
    for (part, kind), result in pooled.items():
        for arm in result.arms if part == name else ():
            by_trait = _by_trait(part, kind, arm.name, parts).values()
            dots = tuple(of_trait.final_effect.value for of_trait in by_trait)
            label = arm.name if kind == "greedy" else f"{arm.name} ({kind})"
            rows.append(Bar(label, arm.final_effect, dots))
    return bars(f"{name.capitalize()}: effect over the clean control (logits)", rows)
