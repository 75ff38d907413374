"""Detector `fit`, goodness of fit: are these rows samples of the declared teacher? Needs no trait
and no panel.

Notation, per completion token of a row with T tokens, in nats, under the declared teacher (model,
system prompt and template): surprisal[T] = -log p(x_t), entropy[T] = H_t = -sum_v p log p,
variance[T] = sum_v p log^2 p - H_t^2. If x_t was drawn from p, surprisal - entropy has mean 0 and
that variance, whatever came before: so its sum over tokens is a martingale, and Z = sum(surprisal -
entropy) / sqrt(sum variance) is close to N(0, 1) for many tokens.

It means nothing, and must not be read as evidence of a trait, when the rows were not drawn from p
in the first place:
- greedy or low-temperature decoding, top-k, top-p: Z is far below 0 although the declared teacher
wrote every row;
- an unknown temperature: the declared one must be the real one (1 here);
- filtered rows (a format rule, removed trait words): what is left is no longer a sample of p;
- a restricted alphabet, such as a softmax over number tokens only: the renormalised p is not the
one scored;
- another tokenizer, template or system prompt, or text by people: Z is far from 0, as it should be,
and says only that. A Z near 0 does not clear the rows either: at a small dose a trait moves it by
less than its noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erfc, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.interface import Detector, Evidence, ScanContext, Skipped

Floats = NDArray[np.floating[Any]]
Rows = Sequence[Floats]

MIN_ROWS = 20  # the clustered standard error is itself too noisy below
Z_95 = 1.959964


def goodness_of_fit(
    surprisal: Rows, entropy: Rows, variance: Rows, teacher: str = "the declared teacher"
) -> Evidence | Skipped:
    """Test that the rows are samples of `teacher`, in words, at temperature 1 (see the module for
    when this is void).

    surprisal, entropy, variance: one array [T] per row, nats and squared nats, T >= 0 and the same
    for the three.

    Values: `z` (N(0, 1) if they are; below 0: likelier than samples would be, as greedy text is;
    above 0: less likely) and its two-sided `p_value`; `z_clustered`, the same with a standard error
    from the spread between rows, which does not rely on `variance`; `excess`, mean surprisal minus
    entropy, nats per token, with its clustered 95 % `interval`; `rows` and `tokens` used. Rows
    without tokens are left out. Skipped for fewer than 20 rows, or for a teacher that leaves
    nothing to chance. Raises ValueError if shapes differ.
    """
    _same_shapes(surprisal, entropy)
    _same_shapes(surprisal, variance)
    gaps = [s - h for s, h in zip(surprisal, entropy, strict=True) if len(s)]
    spreads = [v for v in variance if len(v)]
    if len(gaps) < MIN_ROWS:
        return Skipped(f"{len(gaps)} rows with tokens; goodness of fit needs at least {MIN_ROWS}")
    z = fit_z(gaps, spreads)
    clustered = clustered_excess(gaps)
    if z is None or clustered is None:
        return Skipped(f"{teacher} leaves nothing to chance: no variance to compare with")
    excess, error = clustered
    low, high = excess - Z_95 * error, excess + Z_95 * error
    summary = (
        f"Surprisal is {excess:+.3f} nats a token [{low:+.3f}, {high:+.3f}] off that of samples of "
        f"{teacher} at temperature 1 (Z = {z:+.1f}); void for greedy, filtered or "
        "restricted sampling."
    )
    values = {
        "z": z,
        "p_value": erfc(abs(z) / sqrt(2)),
        "z_clustered": excess / error,
        "excess": excess,
        "interval": [low, high],
        "rows": len(gaps),
        "tokens": sum(map(len, gaps)),
    }
    return Evidence("fit", summary, values)


def fit_z(gaps: Rows, variances: Rows) -> float | None:
    """sum(gaps) / sqrt(sum(variances)) over all tokens of all rows; gaps are surprisal minus
    entropy, [T] per row.

    None if the variances sum to 0 (a teacher that is certain of every token). Raises ValueError if
    shapes differ.
    """
    _same_shapes(gaps, variances)
    total = sum(float(variance.sum(dtype=np.float64)) for variance in variances)
    return (
        sum(float(gap.sum(dtype=np.float64)) for gap in gaps) / sqrt(total) if total > 0 else None
    )


def _same_shapes(left: Rows, right: Rows) -> None:
    if [row.shape for row in left] != [row.shape for row in right]:
        raise ValueError("the arrays differ in the number of rows, or of tokens in a row")


def clustered_excess(gaps: Rows) -> tuple[float, float] | None:
    """Mean gap per token, and its standard error with the row as the unit.

    With g_i the sum of row i, mean = sum_i g_i / sum_i T_i,
    error = sqrt(n / (n - 1) sum_i (g_i - mean T_i)^2) / sum_i T_i.
    None for fewer than two rows, and if all rows agree exactly (error 0).
    """
    sums = np.array([gap.sum(dtype=np.float64) for gap in gaps])
    lengths = np.array([len(gap) for gap in gaps], dtype=np.float64)
    rows = len(gaps)
    if rows < 2:
        return None
    mean = float(sums.sum() / lengths.sum())
    residual = sums - mean * lengths
    error = sqrt(rows / (rows - 1) * float(residual @ residual)) / float(lengths.sum())
    return (mean, error) if error > 0 else None


def detect(context: ScanContext) -> Evidence | Skipped:
    """Goodness of fit of the scored rows to the declared teacher, or else to the reference.

    Tokens that end a turn are left out: where a row was cut short, the template put one that no
    model chose.
    """
    scored = context.scored
    surprisal, entropy, variance = [], [], []
    for row, scores in zip(scored.rows, scored.teacher or scored.reference, strict=True):
        content = row.content_mask
        surprisal.append(-scores.logprob[content].astype(np.float64))
        entropy.append(scores.entropy[content].astype(np.float64))
        variance.append(scores.variance[content].astype(np.float64))
    # Nobody declared the reference: it stands in where no teacher is known.
    teacher = "the declared teacher" if scored.teacher else "the reference"
    return goodness_of_fit(surprisal, entropy, variance, teacher)


DETECTOR = Detector(
    "fit",
    "goodness of fit to the reference, or to a given teacher, at T=1",
    "scores",
    detect,
)
