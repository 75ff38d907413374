"""What a panel test finds and passes, by simulation.

    python runs/panel_power.py --pilot     scores eight rows of the reference, some minutes
    python runs/panel_power.py             draws data sets, half an hour of one core

The test is the tool's own (`detectors.trait`). What it sees is drawn: the scores of a row are
Gaussian, with the Fisher information of real rows, which the pilot measures, as their covariance,
and with the mean that follows from a teacher. A teacher follows one trait's prompt in a share of
the rows; in other words it follows the prompt with a smaller dose. Doses of all other traits stray
about a common one, as those of text under any other prompt do (runs/log.md, 2026-11-25).
"""

from __future__ import annotations

import argparse
import functools
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from auditor.commands.simulate import draw_prompts, simulate
from auditor.data.example import Example, Message
from auditor.inference.estimates import Array
from auditor.inference.interim import (
    BLOCK,
    analysis_rows,
    block_starts,
    spending,
    traits_to_score,
)
from auditor.inference.tempering import Moments
from auditor.inference.thresholds import TextProfile
from auditor.model import load as models
from auditor.model.null_model import NullModel, RowBlock, score_block, scorer, stacked_moments
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.scanning.verdict import decide
from auditor.traits.families import families
from auditor.traits.panel import load_panels
from detectors.interface import TraitTest
from detectors.trait import PanelDesign, PanelTestState, analyse, trait_evidence

PANEL = load_panels(["default"])
FAMILIES = families(PANEL, seed=0)
TRAITS = tuple(range(len(PANEL.traits)))
ALPHA = 0.01
PILOT = Path(__file__).parent / "out" / "panel_power.npz"
NULL = NullModel(1.0, greedy=False, alphabet=None)


@dataclass(frozen=True, slots=True)
class Teacher:
    """dose: of the first trait of the panel. common: of all traits alike. stray: the standard
    deviation of the others about that.
    """

    dose: float
    common: float = 0.0
    stray: float = 0.0


TEACHERS = {
    "the panel's words": Teacher(1.0, stray=0.05),
    "other words": Teacher(0.68, common=0.2, stray=0.12),
    "half of the rows": Teacher(0.5, stray=0.03),
    "30 % of the rows": Teacher(0.3, stray=0.02),
    "a quarter of the rows": Teacher(0.25, stray=0.02),
    "a tenth of the rows": Teacher(0.1, stray=0.01),
    "no trait": Teacher(0.0),
    "a benign persona": Teacher(0.0, common=0.3, stray=0.18),
}


def measure_pilot(rows: int) -> None:
    """Keep the mean covariance and signal of lists that the default reference writes at T = 1."""
    lm = models.load("smollm2-135m", dtype="float32")
    written = simulate(lm, None, rows=rows, prompts=draw_prompts(0), max_tokens=32, seed=0)
    renderer = ChatTokenizer(lm)
    encoded = [
        renderer.encode(
            Example(i, (Message("user", row["prompt"]), Message("assistant", row["completion"])))
        )
        for i, row in enumerate(written.rows)
    ]
    scored = [row for row in encoded if isinstance(row, TokenizedRow)]
    systems = [trait.prompts[0] for trait in PANEL.traits]
    unit = score_block(NULL, scored, systems, scorer(lm, renderer), lambda: None)
    moments = stacked_moments(unit)
    PILOT.parent.mkdir(exist_ok=True)
    np.savez(PILOT, covariance=moments.covariance.mean(0), signal=moments.signal.mean(0))


@functools.cache
def pilot() -> tuple[Array, Array, Array]:
    """Covariance [1 + K, 1 + K] and signal [1 + K, K] of a row, and a square root of the first."""
    with np.load(PILOT) as kept:
        covariance, signal = kept["covariance"], kept["signal"]
    values, vectors = np.linalg.eigh(covariance)
    return covariance, signal, vectors * np.sqrt(np.maximum(values, 0))


def drawn(teacher: Teacher, rows: int, rng: np.random.Generator) -> str:
    """The verdict on one data set; "wrong" for a finding of another trait than the first."""
    _, signal, root = pilot()
    doses = teacher.common + rng.normal(0.0, teacher.stray, len(TRAITS))
    doses[0] = teacher.dose
    mean = signal @ doses
    design = PanelDesign(PANEL, FAMILIES, TRAITS, len(TRAITS), {}, NULL)
    state = PanelTestState(design, scored=TRAITS)
    plan = analysis_rows(rows)
    shares = spending(np.array(plan) / plan[-1])
    for start in block_starts(plan):
        end = min(start + BLOCK, *[n for n in plan if n > start])
        state = replace(state, blocks=(*state.blocks, _block(state, end - start, mean, root, rng)))
        if end not in plan:
            continue
        number = plan.index(end)
        count = traits_to_score(number, len(TRAITS))
        state = analyse(state, float(shares[number]), ALPHA, count)
        if state.settled:
            break
    bounds = {PANEL.traits[k].name: state.bounds.get(k) for k in TRAITS}
    test = TraitTest("prompts", trait_evidence(state, ALPHA), bounds, len(state.rows))
    verdict = decide([test], TextProfile(), (), ALPHA)
    is_wrong = verdict.name == "risk" and verdict.trait != PANEL.traits[0].name
    return "wrong" if is_wrong else verdict.name


def _block(
    state: PanelTestState, rows: int, mean: Array, root: Array, rng: np.random.Generator
) -> RowBlock:
    covariance, signal, _ = pilot()
    scored = np.array(state.scored)
    directions = np.concatenate([[0], 1 + scored])
    score = mean + rng.standard_normal((rows, len(root))) @ root.T
    moments = Moments(
        score[:, directions],
        np.broadcast_to(covariance[np.ix_(directions, directions)], (rows, *2 * directions.shape)),
        np.broadcast_to(signal[np.ix_(directions, scored)], (rows, len(directions), len(scored))),
    )
    first = len(state.rows)
    blank: list[Any] = [TokenizedRow(first + i, "default", (), (), ()) for i in range(rows)]
    return RowBlock(blank, (), moments, {int(k): i for i, k in enumerate(scored)})


def main() -> None:
    """Print a row for each teacher."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pilot", action="store_true", help="measure the rows first")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rows", type=int, nargs="+", default=[400])
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.pilot:
        measure_pilot(8)
    print("| teacher | rows | found | another trait found | no risk | inconclusive |")
    print("|---" * 6 + "|")
    for name, teacher in TEACHERS.items():
        for rows in asked.rows:
            rng = np.random.default_rng(asked.seed)
            counts = Counter(drawn(teacher, rows, rng) for _ in range(asked.draws))
            found = (counts[key] for key in ("risk", "wrong", "no_risk", "inconclusive"))
            cells = [f"{count / asked.draws:.0%}" for count in found]
            print("| " + " | ".join([name, str(rows), *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
