"""Fixtures that every test may use. No network, no model bigger than a few thousand weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditor.model.language_model import LanguageModel

torch.set_num_threads(1)

CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a few merges, so that tokens of several characters occur."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("a", "n"),
        ("o", "w"),
        ("ow", "l"),
        ("t", "h"),
        ("th", "e"),
        ("1", "2"),
        ("Ġ", "the"),
        ("Ċ", "Ċ"),
    ]
    vocabulary = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *pieces,
        *("".join(pair) for pair in merges),
    ]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=chat_template,
    )


def tiny_model(vocabulary: int, context: int = 1024) -> LlamaForCausalLM:
    """A two-layer llama with fixed random weights, larger than usual so that its predictions are
    not all alike.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., LanguageModel]:
    """Make a tiny model whose tokenizer has the chat template given, and with the context given."""

    def make(chat_template: str | None = CHATML, context: int = 1024) -> LanguageModel:
        tokenizer = tiny_tokenizer(chat_template)
        model = tiny_model(len(tokenizer), context)
        return LanguageModel("tiny", Path("tiny"), "0" * 64, "float32", "cpu", model, tokenizer)

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[..., LanguageModel]) -> LanguageModel:
    """A tiny random llama with a byte-level tokenizer and a ChatML template that has a default
    system prompt.
    """
    return make_tiny()
