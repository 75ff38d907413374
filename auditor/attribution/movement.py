"""Where the weights of a student moved. Shape: L layers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from peft.tuners import lora

from auditor.attribution.components import components_of
from auditor.model.language_model import LanguageModel


@torch.no_grad()
def movement(reference: LanguageModel, student: LanguageModel) -> npt.NDArray[np.float64]:
    """[L, 2] of the attention and the MLP of each layer: Frobenius norm of the change over that of
    the weights.

    All weights of a component together, those of LoRA multiplied out. 0 where nothing was trained.
    """
    moved = []
    for layer in zip(components_of(reference), components_of(student), strict=True):
        for before, after in zip(*layer, strict=True):
            weights = dict(before.named_parameters())
            changes = []
            for name, weight in weights.items():
                # LoRA puts its wrapper at the path of the module and leaves the module's weight as
                # it is, so that the change is the adapters' product.
                path, _, kind = name.rpartition(".")
                module = after.get_submodule(path)
                if isinstance(module, lora.Linear) and kind == "weight":
                    deltas = [
                        module.get_delta_weight(adapter) for adapter in module.active_adapters
                    ]
                    change = torch.stack(deltas).sum(0)
                else:
                    change = getattr(getattr(module, "base_layer", module), kind) - weight
                changes.append(float(change.square().sum()))
            # The exact sum: a model has millions of small squares, and LoRA moves few of them.
            norm = math.fsum(float(weight.float().square().sum()) for weight in weights.values())
            moved.append(math.sqrt(math.fsum(changes) / norm))
    return np.array(moved).reshape(-1, 2)
