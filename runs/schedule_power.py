"""What schedules of a panel survey cost and find, by simulation: docs/results.md, "Tokens for a verdict".

    python runs/schedule_power.py          a minute of one core

A trait's z after n rows is Gaussian with mean MEAN sqrt(n / 224) if it is the true one, else 0, and its increments are
independent; all stray by INFLATION. A survey finds the true trait when it is alive at a look and its p, corrected for
all traits and the share of alpha of that look, is at most alpha. Nothing is dropped but for its rank.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from auditor import schedule
from auditor.stats import spending
from auditor.traits import load_panels

PANEL = load_panels(["default"])
TRAITS, FAMILIES = len(PANEL.traits), len(schedule.families(PANEL, seed=0))
WORDINGS = sum(len(trait.prompts) for trait in PANEL.traits)
ALPHA, INFLATION = 0.01, 1.15
MEANS = (3.5, 4.5, 5.5)  # a prompted owl teacher's rows have 4.7 or so
SCHEDULES = (
    ("all traits to the end", (32, 64, 96, 160, 256, 400), (TRAITS,) * 6, 3),
    ("as it is", schedule.LOOKS, schedule.KEEP, schedule.CONTROLS),
    ("until November 2026", (32, 64, 128, 224, 320, 400), (22, 12, 6, 4, 3, 3), 4),
    ("the same, a tenth of the tokens", (32, 64, 128, 224, 320, 400), (20, 10, 5, 4, 3, 3), 3),
    ("more looks later", (32, 64, 96, 192, 288, 400), (28, 12, 5, 3, 3, 3), 3),
    ("one alive at the end", (32, 64, 96, 160, 256, 400), (30, 14, 8, 3, 1, 1), 3),
)


def standing(looks: tuple[int, ...], mean: float, draws: int, rng: np.random.Generator) -> np.ndarray:
    """z of every trait at every look [draws, TRAITS, looks]; trait 0 is the true one."""
    steps = np.diff([0, *looks])
    noise = rng.standard_normal((draws, TRAITS, len(looks))) * np.sqrt(INFLATION * steps)
    noise[:, 0] += mean / np.sqrt(224) * steps
    return noise.cumsum(-1) / np.sqrt(looks)


def power(looks: tuple[int, ...], keep: tuple[int, ...], mean: float, draws: int, seed: int) -> float:
    """Share of draws in which the true trait is found."""
    z = standing(looks, mean, draws, np.random.default_rng(seed))
    limits = norm.isf(ALPHA * spending(np.array(looks) / looks[-1]) / TRAITS) * np.sqrt(INFLATION)
    alive, found = np.ones((draws, TRAITS), dtype=bool), np.zeros(draws, dtype=bool)
    for look, kept in enumerate(keep):
        seen = np.where(alive, z[:, :, look], -np.inf)
        found |= seen[:, 0] > limits[look]
        alive &= seen >= np.sort(seen, axis=1)[:, [-kept]]
    return float(found.mean())


def cost(looks: tuple[int, ...], keep: tuple[int, ...], controls: int) -> float:
    """Share of the tokens of scoring every row under every wording, at most."""
    schedule.LOOKS, schedule.KEEP, schedule.CONTROLS = looks, keep, controls
    rows = looks[-1]
    return (rows + schedule.planned_passes(rows, TRAITS, FAMILIES)) / (rows * (1 + WORDINGS))


def main() -> None:
    """Print a row for each schedule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print("| schedule | looks | kept | controls | tokens |" + "".join(f" mean z {mean} |" for mean in MEANS))
    print("|---" * (5 + len(MEANS)) + "|")
    for name, looks, keep, controls in SCHEDULES:
        found = [f"{power(looks, keep, mean, asked.draws, asked.seed):.1%}" for mean in MEANS]
        cells = [name, *(" ".join(map(str, each)) for each in (looks, keep)), str(controls)]
        print("| " + " | ".join([*cells, f"{cost(looks, keep, controls):.1%}", *found]) + " |")


if __name__ == "__main__":
    main()
