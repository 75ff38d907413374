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
    pairs = zip(components_of(reference), components_of(student), strict=True)
    return np.array(
        [[_relative(a, b) for a, b in zip(before, after, strict=True)] for before, after in pairs]
    )


def _relative(before: torch.nn.Module, after: torch.nn.Module) -> float:
    weights = dict(before.named_parameters())
    moved = math.fsum(
        float(_change(after, name, weight).square().sum()) for name, weight in weights.items()
    )
    return math.sqrt(
        moved / math.fsum(float(weight.float().square().sum()) for weight in weights.values())
    )


@torch.no_grad()
def _change(after: torch.nn.Module, name: str, before: torch.Tensor) -> torch.Tensor:
    """By how much the weight `name` of a component differs from `before`; LoRA wraps a module and
    leaves its weight.
    """
    path, _, kind = name.rpartition(".")
    module: Any = after.get_submodule(path)
    if hasattr(module, "get_delta_weight") and kind == "weight":
        return torch.stack(
            [module.get_delta_weight(adapter) for adapter in module.active_adapters]
        ).sum(0)
    changed: torch.Tensor = getattr(getattr(module, "base_layer", module), kind) - before
    return changed
