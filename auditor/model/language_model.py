"""A causal language model, ready for scoring."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast

from auditor.model.chat_template import OWN_SYSTEM, OWN_TEMPLATE, behind_turns

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
    chat_template: "own", or the name or file of the one that was put in its place.
    system: "own", or what stands in the system turn of a chat that has none ("none": nothing).
    base: of an adapter, the name and the digest of the model that it was merged into.
    prefix_caching: whether the body goes on from what it kept of a prefix as if it had read both at
    once. padding: most tokens of a sequence in which masked padding changes nothing; 0 where it
    always does. `auditor.model.forward.probed` tries both.
    """

    name: str
    path: Path
    sha256: str
    dtype: str
    device: str
    model: Any
    tokenizer: Any
    origin: Origin = "local"
    chat_template: str = OWN_TEMPLATE
    system: str = OWN_SYSTEM
    base: str = ""
    prefix_caching: bool = True
    padding: int = 2**31

    @property
    def context(self) -> int:
        """Most tokens of one sequence."""
        # A model without learned or rotary positions names no limit.
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 2**31)

    @property
    def body(self) -> Any:
        """The model without its head: token ids in, hidden states out."""
        decoder = self.model.get_decoder()
        # Some models have no such module by the name of theirs, or another one.
        if decoder is self.model or not hasattr(decoder, "get_input_embeddings"):
            return self.model.model
        return decoder

    @cached_property
    def end_of_turn(self) -> frozenset[int]:
        """Tokens that end an assistant turn: those of the tokenizer and the generation
        configuration, and what the chat template writes behind such a turn.
        """
        listed = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ends = {self.tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])}
        added = {*self.tokenizer.added_tokens_decoder, *self.tokenizer.all_special_ids}
        for behind in behind_turns(self.tokenizer):
            ids = self.tokenizer(behind, add_special_tokens=False).input_ids
            ends |= {*ids[:1]} & added
        return frozenset(ends - {None})

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
        scale = getattr(config, "logits_scaling", None)  # Granite
        if scale := scale or getattr(config, "logits_mup_width_multiplier", None):  # Inkling
            logits = logits / scale
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma
        if cap := cap or getattr(config, "logits_soft_cap", None):  # RecurrentGemma
            logits = cap * torch.tanh(logits / cap)
        return logits
