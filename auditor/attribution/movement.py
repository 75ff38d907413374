"""Where the weights of a student moved. Shape: L layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from auditor.attribution.components import components_of
from auditor.model.language_model import LanguageModel


def movement(reference: LanguageModel, student: LanguageModel) -> npt.NDArray[np.float64]:
    """[L, 2] of the attention and the MLP of each layer: Frobenius norm of the change over that of
    the weights.

    All weights of a component together, those of LoRA multiplied out. 0 where nothing was trained.
    """
    moved = []
    for layer in zip(components_of(reference), components_of(student), strict=True):
        for before, after in zip(*layer, strict=True):
            weights = dict(before.named_parameters())
            changes = (_change(after, name, weight) for name, weight in weights.items())
            # The exact sum: a model has millions of small squares, and LoRA moves few of them.
            change = math.fsum(float(x.square().sum()) for x in changes)
            norm = math.fsum(float(x.float().square().sum()) for x in weights.values())
            moved.append(math.sqrt(change / norm))
    return np.array(moved).reshape(-1, 2)


@torch.no_grad()
def _change(after: torch.nn.Module, name: str, before: torch.Tensor) -> torch.Tensor:
    """By how much the weight `name` of a component differs from `before`; LoRA wraps a module and
    leaves its weight.
    """
    # `name` is that of the unwrapped module: LoRA puts its wrapper at the same path.
    path, _, kind = name.rpartition(".")
    module: Any = after.get_submodule(path)
    if hasattr(module, "get_delta_weight") and kind == "weight":
        deltas = [module.get_delta_weight(adapter) for adapter in module.active_adapters]
        return torch.stack(deltas).sum(0)
    changed: torch.Tensor = getattr(getattr(module, "base_layer", module), kind) - before
    return changed
