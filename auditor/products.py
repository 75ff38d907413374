"""How a model multiplies: exactly, or the less exact and faster way of the screening pass."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator

import torch

from auditor.lm import LanguageModel

_TF32 = "tf32 products"


def fast(lm: LanguageModel) -> LanguageModel:
    """An inexact copy for screening: less exact matrix products in the body, everything else in float32.

    TF32 products on CUDA, whose mantissa has 10 bits; bfloat16 ones, with 7, on CPUs that have instructions for them.
    Elsewhere, and for a model that is not float32 itself, the same model comes back. The noise is a nuisance that the
    `trait` detector's centring absorbs: it costs power and shifts no null (docs/log.md has figures).
    Plain int8 is not offered: it rounds away what is looked for (docs/log.md).
    """
    if lm.dtype == "float32" and lm.device.startswith("cuda"):
        return dataclasses.replace(lm, dtype=_TF32)
    if lm.dtype != "float32" or not _cpu_has_bfloat16(lm.device):
        return lm
    model = copy.deepcopy(lm.model)
    for parent in list(model.get_decoder().modules()):
        for name, child in parent.named_children():
            if isinstance(child, torch.nn.Linear):
                setattr(parent, name, _BFloat16Linear(child))
    return dataclasses.replace(lm, dtype="bfloat16 products", model=model)


@contextlib.contextmanager
def products(lm: LanguageModel) -> Iterator[None]:
    """How the body multiplies: torch has a switch for the whole process, so it is put back."""
    before = torch.get_float32_matmul_precision()
    if lm.dtype == _TF32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _BFloat16Linear(torch.nn.Module):
    """A linear layer that multiplies in bfloat16 and hands float32 on, so that the residual stream is not rounded."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight.to(torch.bfloat16)
        self.bias = None if linear.bias is None else linear.bias.to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x.to(torch.bfloat16), self.weight, self.bias).float()


def _cpu_has_bfloat16(device: str) -> bool:
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device == "cpu" and supported is not None and bool(supported())
