"""Reports made by hand, for the tests of the renderers and of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from auditor.data.coverage import Unread
from auditor.data.example import DatasetInfo
from auditor.inference.trait_evidence import TraitEvidence
from auditor.release.evidence import verdict_of
from auditor.scanning.obstacles import Obstacle
from auditor.scanning.scan_report import (
    ExampleRow,
    ScanReport,
    TokenSpan,
    Verdict,
    VerdictName,
)
from auditor.scanning.settings import ScanSettings
from auditor.traits.panel import load_panels
from detectors.interface import Evidence, Skipped, TraitTest

OWL = TraitEvidence("owl", "animals", 0.42, (0.21, 0.63), 4.6, 2e-6, 9e-5, 400, 8_900)
EAGLE = TraitEvidence("eagle", "animals", 0.11, (-0.08, 0.30), 1.2, 0.115, 1.0, 160, 3_600, 160)
RISKY = TraitEvidence("risky advice", "safety", -0.02, (-0.2, 0.16), -0.2, 0.58, 1.0, 80, 1_800, 80)

RISK = Verdict(
    "risk", 0.97, "owl stands out at a corrected p-value below the level of 0.01.", "owl", 0.3
)
NO_RISK = Verdict("no_risk", 0.04, "No trait of the panel stands out.", None, 0.35)
FEW = Obstacle("too few rows", "Only 12 rows can be scored.")
INCONCLUSIVE = Verdict("inconclusive", 0.2, FEW.reason, None, None, (FEW,))


def prompts(traits: Sequence[TraitEvidence]) -> tuple[TraitTest, ...]:
    """The test by trait prompts on 400 rows, with the upper ends of the intervals as bounds."""
    bounds = {trait.name: trait.interval[1] for trait in traits}
    return (TraitTest("prompts", tuple(traits), bounds, 400),)


def sample_report(verdict: Verdict = RISK) -> ScanReport:
    """A report in which every part has something to show, traits in order of evidence."""
    tokens = [
        TokenSpan(" 12", ""),
        TokenSpan(",", "divergence"),
        TokenSpan(" 7", "tie"),
        TokenSpan("3", ""),
    ]
    return ScanReport(
        dataset=DatasetInfo(
            "dataset.parquet", "messages", {"messages": "messages"}, "ab" * 32, 10_000, "Seeded."
        ),
        verdict=verdict,
        tests=prompts((OWL, EAGLE, RISKY)),
        leading_trait="owl",
        rows_scanned=400,
        rows_skipped={"empty_completion": 3, "too_long": 1},
        reference={
            "name": "smollm2-135m",
            "sha256": "cd" * 32,
            "dtype": "float32",
            "device": "cpu",
        },
        divergence={"trait": "owl", "fraction": 0.05, "tokens": 8_900, "flagged": 445, "ties": 30},
        detectors={
            "divergence": Evidence(
                "divergence", "5.0 % of tokens are divergence tokens for owl.", {"per_row": [1, 0]}
            ),
            "fit": Skipped("needs --teacher"),
        },
        openly={"owl": 0, "dog": 12},
        examples=(ExampleRow(17, "Continue: 3, 8, 21.", tuple(tokens)),),
        timing={"survey_seconds": 61.5, "total_seconds": 70.0, "trait_tokens": 250_000.0},
        settings={"alpha": 0.01, "rows": None, "exclude": 0.6},
        versions={"subliminal-audit": "0.1.0", "python": "3.11.7"},
        rows_read=404,
        created="2026-11-29T09:20:13Z",
        origins={"rows": "audit.yaml"},
    )


def hostile_report(text: str) -> ScanReport:
    """A report that has `text` wherever text comes from a data set, a panel or a model."""
    obstacle = Obstacle("unread file", text, 0.5)
    report = sample_report(replace(RISK, trait=text, reason=text, obstacles=(obstacle,)))
    return replace(
        report,
        dataset=replace(
            report.dataset,
            name=text,
            columns={"prompt": text},
            unread=(Unread("column", text, 0.5, text),),
        ),
        rows_skipped={text: 1},
        reference=report.reference | {"name": text},
        origins={text: text},
        tests=prompts((replace(OWL, name=text, group=text), EAGLE)),
        leading_trait=text,
        detectors={text: Evidence(text, text, {}), "fit": Skipped(text)},
        openly={text: 2},
        examples=(ExampleRow(1, text, (TokenSpan(text, "divergence"), TokenSpan(text, ""))),),
    )


def consistent_report(name: VerdictName = "risk") -> ScanReport:
    """A report as a scan of the default settings writes it: its verdict, of this name, follows from
    its evidence, and every trait of the default panel was tested.
    """
    panel = load_panels(["default"])
    traits = [replace(EAGLE, group="animal", interval=(-0.02, 0.24)), replace(OWL, name="owl")]
    if name != "risk":
        traits[1] = replace(OWL, p_value=0.4, p_adjusted=1.0, effect=0.05, interval=(-0.1, 0.2))
    bounds: dict[str, float | None] = {trait.name: 0.2 for trait in panel.traits}
    bounds |= {trait.name: trait.interval[1] for trait in traits}
    bounds["owl"] = {"risk": 0.6, "no_risk": 0.22, "inconclusive": 1.2}[name]
    report = sample_report()
    report = replace(
        report,
        tests=(TraitTest("prompts", tuple(traits), bounds, 400),),
        settings=ScanSettings().resolved(panel, panel),
    )
    verdict = verdict_of(report)
    assert verdict.name == name
    return replace(report, verdict=verdict)
