"""Attribute the difference between a trait-prompted and a counterfactual run to the layers of the
network.

The difference is measured at the first divergence token of a row (2509.23886): the trait-prompted
teacher chooses the row's token, the counterfactual chooses another. The quantity is the gap between
both: log-probability of the row's token less that of the counterfactual's choice. The gap is
positive in the trait-prompted run and negative in the counterfactual one, and its *difference*
between the two is what is divided up.

The runs share all tokens of the row (the body of `auditor.model.tokenization`) and differ in the
system prompt before it, which may be longer in one than in the other. Only the shared positions are
worked on; a system prompt acts on them through its keys and values, which each run has of its own.

Components. Each attention and each MLP output has a switch: off, it gives at all shared positions
what it gave in the counterfactual run; on, it works on what it is given, with the trait's system
prompt before it. All off is the counterfactual run, all on the trait-prompted one. The attributions
are the integrated gradients (Sundararajan et al. 2017, 1703.01365) of the gap by the switches on
the straight way from all off to all on, that is the Aumann-Shapley values of the components:
gradient by output times change of output, as in attribution patching (Nanda 2023; 2509.23886 with
10 steps), but on a way along which everything changes together, so that they sum up to the
difference. A component gets credit for what it writes itself and for what it passes on.

Stream. The residual stream at all shared positions before layer l is replaced in the counterfactual
run by that of the trait-prompted run (activation patching). The gap that is gained thereby is what
has entered before l: nothing before the first layer, everything after the last one. Its increments
are exact and sum up to the difference.

Degenerate cases: without a difference in the system prompt there is nothing to attribute and all is
0. An architecture that lets a prompt act on the shared positions by another way than attention
(learned absolute positions) breaks completeness; `Attribution.error` shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from auditor.attribution.components import (
    COMPONENTS,
    gated_outputs,
    layers_of,
    patched_stream,
    recorded_outputs,
    recorded_stream,
)
from auditor.model.forward import PrefixCache, cache_prefixes, last_hidden_states, length_batches
from auditor.model.language_model import LanguageModel
from auditor.model.scoring import TokenScores
from auditor.model.tokenization import ChatTokenizer, Kind, TokenizedRow
from detectors.divergence import Choice, divergence_tokens

LOG = logging.getLogger(__name__)

STEPS = 10
MAX_STEPS = 80
# Of the difference of a row; above it the quadrature is done again with twice as many steps.
TOLERANCE = 0.01
_BATCH_TOKENS = 2048  # most padded body tokens of a pass

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DivergencePoint:
    """The first divergence token of a row.

    row: number of the row. kind: of its prefixes. tokens: of the body before the token, at least 1.
    row_token: the row's token, which the teacher chooses. alternative: what the counterfactual
    chooses.
    """

    row: int
    kind: Kind
    tokens: tuple[int, ...]
    row_token: int
    alternative: int


@dataclass(frozen=True)
class Attribution:
    """R rows, L layers. All in nats.

    difference[R]: by how much the gap is larger in the trait-prompted run; positive at a divergence
    token.
    components[R, L, 2]: share of it that attention and MLP of each layer bring; sums up to it but
    for `error`.
    entered[R, L]: by how much more of it has entered the residual stream after each layer; sums up
    to it exactly.
    """

    difference: Array
    components: Array
    entered: Array

    @property
    def error(self) -> Array:
        """[R] sum of the component attributions less the difference: what the quadrature misses."""
        return np.asarray(self.components.sum((1, 2)) - self.difference)


def first_divergence(
    row: TokenizedRow, teacher: TokenScores, counterfactual: TokenScores
) -> DivergencePoint | None:
    """The first divergence token of a row, by the definition of `detectors.divergence`; None if it
    has none.
    """
    choices = [Choice(scores.argmax, scores.margin) for scores in (teacher, counterfactual)]
    flagged, _ = divergence_tokens(row.targets, choices[0], choices[1:])
    if not flagged.any():
        return None
    first = int(np.flatnonzero(flagged)[0])
    position = row.positions[first]
    alternative = int(counterfactual.argmax[first])
    return DivergencePoint(
        row.index, row.kind, row.tokens[:position], row.tokens[position], alternative
    )


def attribute(
    lm: LanguageModel,
    renderer: ChatTokenizer,
    points: Sequence[DivergencePoint],
    trait: str,
    counterfactual: str | None,
    *,
    steps: int = STEPS,
) -> Attribution:
    """Attribute the difference at each of `points` (at least one), in their order.

    trait, counterfactual: the system prompts; None is the reference without a trait. steps: of
    Gauss-Legendre quadrature, which is exact for polynomials up to degree 2 steps - 1; twice as
    many, up to MAX_STEPS, where the sum misses the difference by more than TOLERANCE of it.
    Raises: ModelError for an architecture that is not llama-like.
    """
    count, depth = len(points), len(layers_of(lm))
    result = Attribution(
        np.zeros(count), np.zeros((count, depth, len(COMPONENTS))), np.zeros((count, depth))
    )
    for kind in dict.fromkeys(point.kind for point in points):
        # A prefix is the same for all rows of a kind, so its keys and values are computed once.
        with torch.no_grad():
            caches = [
                cache_prefixes(lm, [renderer.prefix(system, kind)])
                for system in (trait, counterfactual)
            ]
        of_kind = [i for i, point in enumerate(points) if point.kind == kind]
        lengths = [len(points[i].tokens) for i in of_kind]
        for numbers in length_batches(lengths, _BATCH_TOKENS):
            batch = [of_kind[n] for n in numbers]
            parts = _attribute_batch(lm, [points[i] for i in batch], caches[0], caches[1], steps)
            result.difference[batch], result.components[batch], result.entered[batch] = parts
    # Only the rows whose sum misses the difference are done again: most are exact with few steps.
    rough = np.flatnonzero(np.abs(result.error) > TOLERANCE * np.abs(result.difference))
    LOG.debug("%d of %d rows are not exact with %d steps", len(rough), count, steps)
    if len(rough) and 2 * steps <= MAX_STEPS:
        again = [points[i] for i in rough.tolist()]
        finer = attribute(lm, renderer, again, trait, counterfactual, steps=2 * steps)
        result.components[rough] = finer.components
    return result


def _attribute_batch(
    lm: LanguageModel,
    points: Sequence[DivergencePoint],
    trait: PrefixCache,
    counterfactual: PrefixCache,
    steps: int,
) -> tuple[Array, Array, Array]:
    """Fields of Attribution for points of one kind; `trait` and `counterfactual` are the caches of
    the prefixes.
    """
    with torch.no_grad():
        with recorded_outputs(lm) as outputs:
            before = _gap(lm, points, counterfactual)
        with recorded_stream(lm) as stream:
            after = _gap(lm, points, trait)
        # Patching the stream before layer 0 changes nothing, and after the last layer everything:
        # these two ends are the plain runs.
        gaps = [before]
        for layer in range(1, len(stream)):
            with patched_stream(lm, layer, stream[layer]):
                gaps.append(_gap(lm, points, counterfactual))
        entered = torch.stack([*gaps, after], dim=1).diff(dim=1)
    total = torch.zeros(len(points), len(outputs), len(COMPONENTS), dtype=torch.float64)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    # Nodes and weights are those of [-1, 1]; the switches go from 0 to 1.
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        gates = torch.full(total.shape, float(node), device=lm.device, requires_grad=True)
        # The gradient by all switches at once is taken at one point of the straight way.
        with torch.enable_grad(), gated_outputs(lm, outputs, gates):
            (slope,) = torch.autograd.grad(_gap(lm, points, trait).sum(), gates)
        total += float(weight) * slope.double().cpu()
    return (after - before).double().cpu().numpy(), total.numpy(), entered.double().cpu().numpy()


def _gap(lm: LanguageModel, points: Sequence[DivergencePoint], cache: PrefixCache) -> torch.Tensor:
    """[B] log-probability of the row's token less that of the alternative, after the prefix in
    `cache`.

    The difference of two log-probabilities is that of the logits.
    """
    hidden_BD = last_hidden_states(lm, [point.tokens for point in points], after=cache)
    pairs = [(point.row_token, point.alternative) for point in points]
    logits_B2 = lm.head(hidden_BD, torch.tensor(pairs, device=lm.device))
    return logits_B2[:, 0] - logits_B2[:, 1]
