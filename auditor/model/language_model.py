"""A causal language model, ready for scoring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast

Origin = Literal["built-in", "hub", "local"]

# The name under which a body takes keys and values and gives them back: `cache` since transformers
# 5.24, and `past_key_values` before.
CACHE = "cache" if "cache" in BaseModelOutputWithPast.__annotations__ else "past_key_values"


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model ready for scoring, with its tokenizer.

    name: as the user wrote it. path: the folder or GGUF file it was loaded from. sha256: of
    everything that plays a part in what the model says: the digests of its weights, configuration,
    tokenizer and chat template. dtype, device: torch's names, e.g. "float32", "cuda:0". model: in
    eval mode, no gradients. tokenizer: a fast one. origin: "built-in"; "hub", for a name that was
    looked up there; else "local", and then the name is whatever the user called the folder.
    """

    name: str
    path: Path
    sha256: str
    dtype: str
    device: str
    model: Any
    tokenizer: Any
    origin: Origin = "local"

    @property
    def context(self) -> int:
        """Most tokens of one sequence."""
        # A model without learned or rotary positions names no limit.
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 2**31)

    @property
    def body(self) -> Any:
        """The model without its head: token ids in, hidden states out."""
        return self.model.get_decoder()

    def head(self, hidden: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Float32 logits [N, V] of the body's last hidden states [N, D], as the whole model gives
        them.

        tokens: which logits to compute, [K] the same for all rows or [N, K] for each its own; all
        of the vocabulary when None.
        """
        layer = self.model.get_output_embeddings()
        logits: torch.Tensor
        if tokens is None:
            logits = layer(hidden).float()
        else:
            # Rows of the weight matrix alone cost a fraction of the product with all of it.
            weights = layer.weight[tokens]
            if tokens.dim() == 1:
                logits = hidden @ weights.T
            else:
                logits = torch.einsum("nkd,nd->nk", weights, hidden)
            logits = logits.float()
            if getattr(layer, "bias", None) is not None:
                logits = logits + layer.bias[tokens].float()
        config = self.model.config.get_text_config()
        # A scale of 1.0 is not applied: it would be one more pass over all logits.
        if scale := getattr(config, "logit_scale", None):  # Cohere
            logits = logits * scale
        if scale := getattr(config, "logits_scaling", None):  # Granite
            logits = logits / scale
        if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
            logits = cap * torch.tanh(logits / cap)
        return logits
