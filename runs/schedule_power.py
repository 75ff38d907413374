"""What schedules of a panel survey cost and find, by simulation: runs/results.md, "Tokens for a
verdict".

    python runs/schedule_power.py          a quarter of an hour of one core

The survey is the tool's own (`detectors.trait`); what it sees is drawn. The dose of a trait over n
rows is Gaussian about the true one with the variance ERRORS^2 32 / n; those of all but the true
trait, an animal, stray by N(0, stray^2), which the survey is told. ERRORS are medians of the first
32 rows of lists at T = 1 ("Scans, default model").
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from auditor.inference import interim as schedule
from auditor.inference.estimates import Estimate
from auditor.inference.interim import spending
from auditor.inference.tempering import Moments
from auditor.inference.thresholds import TextProfile
from auditor.model.null_model import NullModel, RowBlock
from auditor.scanning.verdict import decide
from auditor.traits import families
from auditor.traits.panel import load_panels
from detectors import trait
from detectors import trait as survey

PANEL = load_panels(["default"])
TRAITS, FAMILIES = len(PANEL.traits), families.families(PANEL, seed=0)
WORDINGS = sum(len(trait.prompts) for trait in PANEL.traits)
ALPHA = 0.01
ERRORS = np.array([{"animal": 0.5, "tree": 0.43}.get(trait.group, 0.22) for trait in PANEL.traits])
SCHEDULES: dict[str, tuple[tuple[int, ...], tuple[float, ...], bool]] = {
    "every trait to the end": (schedule.LOOKS, (1.0,), False),
    "as it is": (schedule.LOOKS, schedule.KEEP, False),
    "as it is, ranked by z": (schedule.LOOKS, schedule.KEEP, True),
    "fewer traits, earlier": (schedule.LOOKS, (0.5, 0.3, 0.2, 0.16), False),
    "later looks": ((32, 64, 128, 192, 256, 400), (0.7, 0.35, 0.26, 0.16), False),
}
# Dose of the true trait, and how far the others stray: a teacher in the panel's words, one in other
# words, and none.
TEACHERS = {"panel's words": (0.83, 0.05), "other words": (0.68, 0.12), "no trait": (0.0, 0.04)}


def drawn(dose: float, stray: float, rng: np.random.Generator) -> str:
    """The verdict on one data set whose first trait has this dose; "wrong" for a finding of another
    trait.
    """
    truth = rng.normal(0.0, stray, TRAITS)
    truth[0] = dose
    state = survey.PanelTestState(
        NullModel(1.0, False, None), FAMILIES, tuple(range(TRAITS)), TRAITS, tuple(range(TRAITS))
    )
    plan, score, rows = schedule.looks(schedule.LOOKS[-1]), np.zeros(TRAITS), np.zeros(TRAITS)
    shares, start = spending(np.array(plan) / plan[-1]), 0
    for number, end in enumerate(plan):
        scored = list(state.scored)
        score[scored] += rng.normal(
            truth[scored] * (end - start), ERRORS[scored] * math.sqrt(32 * (end - start))
        )
        rows[scored] += end - start
        error = np.sqrt(ERRORS**2 * 32 / rows + stray**2)
        found = {
            k: Estimate(score[k] / rows[k], float(error[k]), rows[k] - 1) for k in range(TRAITS)
        }
        nothing = Moments(np.zeros((end - start, 1)), np.zeros((end - start, 1, 1)))
        state.blocks.append(RowBlock(range(end - start), [], nothing, dict.fromkeys(scored, 0)))
        survey.estimates = lambda *_, found=found: found
        survey._look(state, PANEL, float(shares[number]), {}, ALPHA)
        if state.settled:
            break
        survey._choose(state, found, schedule.kept(number, TRAITS))
        start = end
    return _verdict(state, found)


def _verdict(state: survey.PanelTestState, found: Mapping[int, Estimate]) -> str:
    bounds = {trait.name: found[k].upper() for k, trait in enumerate(PANEL.traits)}
    traits = survey.trait_evidence(state, PANEL, found, ALPHA)
    verdict = decide(
        traits,
        bounds,
        alpha=ALPHA,
        scanned=len(state.rows),
        skipped_share=0.0,
        writing=TextProfile(),
    )
    wrong = verdict.name == "risk" and verdict.trait != PANEL.traits[0].name
    return "wrong" if wrong else verdict.name


def main() -> None:
    """Print a row for each schedule."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(
        "| schedule | looks | kept | tokens |"
        + "".join(f" {name}: found, passed |" for name in TEACHERS)
    )
    print("|---" * (4 + len(TEACHERS)) + "|")
    by_evidence = Estimate.log_evidence
    for name, (looks, keep, by_z) in SCHEDULES.items():
        schedule.LOOKS, schedule.KEEP = looks, keep
        Estimate.log_evidence = (lambda each, most: each.z) if by_z else by_evidence
        passes = looks[-1] + trait.planned_passes(looks[-1], FAMILIES, range(TRAITS))
        cells = [
            name,
            " ".join(map(str, looks)),
            " ".join(map(str, keep)),
            f"{passes / looks[-1] / (1 + WORDINGS):.1%}",
        ]
        for dose, stray in TEACHERS.values():
            rng = np.random.default_rng(asked.seed)
            counts = Counter(drawn(dose, stray, rng) for _ in range(asked.draws))
            found, passed = counts["wrong" if dose == 0 else "risk"], counts["no_risk"]
            cells.append(f"{found / asked.draws:.1%}, {passed / asked.draws:.1%}")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
