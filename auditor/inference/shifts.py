"""Whether data shift the answers of students more than benign data do. Pure functions.

The *shift* of an answer, in logits, is its margin in a student of the data less that in the base,
or less that in a paired student of a control. The unit of inference is a block of rows, on each of
which one student is trained.

Any data shift answers somehow: other prompts, another temperature, a persona that has nothing to do
with them. So the null hypothesis is not a shift of zero but what benign data sets shift, which is
measured once for every base (`auditor.students.calibration`), and the unit is how far data of a
teacher tuned on a trait shift that trait's answer: a *dose* of 1. Both belong to one number of
updates and one recipe of training.

Shapes: B blocks, W answers of one group, N benign data sets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from auditor.inference.estimates import Array, Estimate, mean_estimate, with_spread
from auditor.inference.random_effects import between_trait_variance

MIN_SETS = 3  # fewer benign data sets cannot tell how far their shifts vary
MIN_BLOCKS = 4  # fewer students cannot tell how far they vary


@dataclass(frozen=True, slots=True)
class BenignShifts:
    """What benign data sets shift the answers of one group by, in logits. All are [W].

    mean: over the data sets. variance: of one data set's shift about that mean, beyond the noise of
    students. df: its degrees of freedom. mean_variance: of the error of `mean`.
    """

    mean: Array
    variance: Array
    df: Array
    mean_variance: Array


def benign_shifts(shifts_NBW: Array) -> BenignShifts:
    """The null distribution from the shifts of N benign data sets.

    The variance between data sets is that of their means beyond what the noise of their own
    students puts into these. Some answers differ more from one benign set to the next than others,
    and few sets say little of a single answer: so it is the larger of what the answer's own means
    say (the method of moments) and of what those of the whole group do, a posterior mean, so that
    few data sets do not pass for no variance at all (`auditor.inference.random_effects`).

    Raises: ValueError for fewer than MIN_SETS data sets or MIN_BLOCKS blocks.
    """
    sets, blocks, answers = shifts_NBW.shape
    if sets < MIN_SETS or blocks < MIN_BLOCKS:
        raise ValueError(f"{sets} data sets of {blocks} blocks are too few")
    mean_NW = shifts_NBW.mean(1)
    noise = math.sqrt(float(shifts_NBW.var(1, ddof=1).mean()) / blocks)
    # Deviations from a mean that is itself taken over N data sets are a little too small.
    deviations = (mean_NW - mean_NW.mean(0)) * math.sqrt(sets / (sets - 1))
    pooled = between_trait_variance(
        [Estimate(float(deviation), noise, blocks - 1) for deviation in deviations.ravel()]
    )
    variance_W = np.maximum(mean_NW.var(0, ddof=1) - noise**2, pooled)
    # A margin is what one answer has beyond the others: W of them have W - 1 degrees of freedom.
    df_W = np.where(variance_W > pooled, sets - 1, (sets - 1) * max(1, answers - 1))
    return BenignShifts(mean_NW.mean(0), variance_W, df_W, (variance_W + noise**2) / sets)


def full_shift(shifts_BK: Array) -> Estimate:
    """How far data of tuned teachers shift the answers that these were tuned on, in logits: the
    unit of doses.

    shifts_BK: of B blocks the own shift of each of K teachers. The mean over the teachers is taken
    in every block, so that the block is the unit.
    """
    return mean_estimate(shifts_BK.mean(1))


def doses(shifts_BW: Array, benign: BenignShifts, full: float) -> list[Estimate]:
    """The dose of every answer of one group in a data set, from the shifts of its students.

    dose = (mean shift - benign mean) / full shift. Its error has the noise of the students, taken
    as equal for all answers of the group (they are logits of the same students), the spread of
    benign data sets, and the error of their mean. `full`, the unit, is positive.

    Raises: ValueError for fewer than MIN_BLOCKS blocks.
    """
    blocks, answers = shifts_BW.shape
    if blocks < MIN_BLOCKS:
        raise ValueError(f"{blocks} blocks are too few")
    noise = float(shifts_BW.var(0, ddof=1).mean()) / blocks
    df = (blocks - 1) * max(1, answers - 1)
    spread_W = benign.variance + benign.mean_variance
    found = []
    for k, shift in enumerate(shifts_BW.mean(0) - benign.mean):
        plain = Estimate(float(shift), math.sqrt(noise), df)
        widened = with_spread(plain, float(spread_W[k]), float(benign.df[k]))
        found.append(Estimate(widened.effect / full, widened.se / full, widened.df))
    return found


def looks(planned: int) -> tuple[int, ...]:
    """After how many of the planned blocks the evidence is analysed: half of them and all.

    >>> looks(16), looks(4)
    ((8, 16), (4,))
    """
    half = planned // 2
    return (half, planned) if half >= MIN_BLOCKS else (planned,)
