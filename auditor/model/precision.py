"""How a model multiplies: exactly, or the less exact and faster way of the screening pass."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from collections.abc import Iterator

import torch

from auditor.model.language_model import LanguageModel

LOG = logging.getLogger(__name__)

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
    # An older torch cannot say what the CPU has.
    has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    if lm.dtype != "float32" or lm.device != "cpu" or not has_bfloat16():
        LOG.info("no fast copy of %s: every score is exact", lm.name)
        return lm
    LOG.info("a copy of %s multiplies in bfloat16 for what need not be exact", lm.name)
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
