"""How a model multiplies: exactly, or the less exact and faster way of the screening pass."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator

import torch

from auditor.model.language_model import LanguageModel

_TF32 = "tf32 products"
_BFLOAT16 = "bfloat16 products"


def low_precision_copy(lm: LanguageModel) -> LanguageModel:
    """An inexact copy for screening: less exact matrix products and attention in the body, and
    float32 between layers.

    TF32 on CUDA, whose mantissa has 10 bits; torch's autocast to bfloat16, with 7, on CPUs that
    have instructions for it. Elsewhere, and for a model that is not float32 itself, the same model
    comes back. The noise is a nuisance that the `trait` detector's centring absorbs: it costs power
    and shifts no null (runs/log.md has figures). Plain int8 is not offered: it rounds away what is
    looked for (runs/log.md).
    """
    if lm.dtype == "float32" and lm.device.startswith("cuda"):
        return dataclasses.replace(lm, dtype=_TF32)
    if lm.dtype != "float32" or not _cpu_has_bfloat16(lm.device):
        return lm
    model = copy.deepcopy(lm.model)
    for layer in model.get_decoder().modules():
        if isinstance(layer, torch.nn.Linear):
            layer.to(torch.bfloat16)  # once; autocast alone would round the weights at every call
    return dataclasses.replace(lm, dtype=_BFLOAT16, model=model)


@contextlib.contextmanager
def matmul_precision(lm: LanguageModel) -> Iterator[None]:
    """How the body multiplies: a switch of torch's, put back afterwards."""
    if lm.dtype == _BFLOAT16:
        with torch.autocast("cpu", torch.bfloat16):
            yield
        return
    before = torch.get_float32_matmul_precision()
    if lm.dtype == _TF32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _cpu_has_bfloat16(device: str) -> bool:
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device == "cpu" and supported is not None and bool(supported())
