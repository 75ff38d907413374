"""A teacher by a steering vector: the model itself, with a vector added to what its middle layer
gives, at every position.

Shapes: T tokens, D hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from typing import Any

import torch

from auditor.attribution.components import layers_of
from auditor.data.example import Example, Message
from auditor.model.forward import hidden_states
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.students.cloze import training_stems
from auditor.students.teacher import TunedTeacher, answer_margin
from auditor.traits.panel import Panel, Trait

STEPS = (1, 2, 4, 8, 16)
ENOUGH = 5.0


def steer(lm: LanguageModel, trait: Trait, panel: Panel) -> TunedTeacher:
    """A copy of `lm` steered towards a trait by the difference of means of contrastive activation
    addition (2312.06681).

    The vector is what the middle layer gives, averaged over the statements of the trait (its stems
    with its answer, every token), less the same of the other traits of its group. It is added as
    often as it takes for a margin (`answer_margin`) that is `ENOUGH` logits above the base's, at
    most STEPS[-1] times.

    Raises: TraitError as `tune_teacher` does; ModelError for a model that is not llama-like.
    """
    before = answer_margin(lm, trait, panel)
    others = [t for t in panel.traits if t.group == trait.group and t.name != trait.name]
    means = [_mean_activation(lm, other) for other in others]
    vector_D = _mean_activation(lm, trait) - torch.stack(means).mean(0)
    for step in STEPS:
        steered = _steered(lm, step * vector_D)
        margin = answer_margin(steered, trait, panel)
        if margin >= before + ENOUGH:
            break
    return TunedTeacher(replace(steered, name=f"{lm.name} steered to {trait.name}"), (), before, margin)


def _middle(lm: LanguageModel) -> torch.nn.Module:
    layers = layers_of(lm)
    return layers[len(layers) // 2]


def _steered(lm: LanguageModel, vector_D: torch.Tensor) -> LanguageModel:
    """A copy whose middle layer gives `vector_D` more at every position."""
    model = copy.deepcopy(lm.model)
    steered = replace(lm, model=model)

    def add(_: torch.nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + vector_D.to(output[0].dtype), *output[1:])
        return output + vector_D.to(output.dtype)

    _middle(steered).register_forward_hook(add)
    return steered


@torch.no_grad()
def _mean_activation(lm: LanguageModel, trait: Trait) -> torch.Tensor:
    """[D] What the middle layer gives at the tokens of a trait's statements, averaged over them."""
    renderer = ChatTokenizer(lm)
    given: list[torch.Tensor] = []
    with _recorded(_middle(lm), given):
        for number, (probe, stem) in enumerate(zip(cycle(trait.probes), training_stems(trait), strict=False)):
            turns = (Message("user", probe), Message("assistant", f"{stem} {trait.answers[0]}."))
            row = renderer.encode(Example(number, turns))
            if isinstance(row, TokenizedRow):
                prefix = renderer.prefix(None, row.kind)
                at = [len(prefix) + position for position in row.positions]
                hidden_states(lm, [prefix + row.tokens], [at])
                given[-1] = given[-1][0, at].mean(0)
    return torch.stack(given).mean(0)


@contextmanager
def _recorded(layer: torch.nn.Module, into: list[torch.Tensor]) -> Iterator[None]:
    hook = layer.register_forward_hook(
        lambda _, __, output: into.append(output[0] if isinstance(output, tuple) else output)
    )
    try:
        yield
    finally:
        hook.remove()
