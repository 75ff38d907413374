"""Every causal language model of transformers, made small: it works as a reference, or is refused.

What is compared stands in runs/architectures.py, which also writes the page of the documentation.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import BertGenerationConfig, BertGenerationDecoder

from auditor.errors import ModelError
from auditor.model.load import load
from runs.architectures import NAMES, tried
from tests.conftest import tiny_tokenizer

# One of each kind: full, sliding, latent and linear attention, states, ALiBi, experts.
SAMPLE = (
    "deepseek_v3 falcon gemma3_text gpt_oss jamba lfm2 llama4_text mamba mamba2 minimax mpt "
    "qwen3_5_text"
).split()
PREFIX_READ_AGAIN = set(
    "bamba falcon_mamba jamba mamba openai-gpt recurrent_gemma rwkv zamba".split()
)
REFUSED = {"modernbert-decoder", "xlstm"}


@pytest.mark.parametrize(
    "name",
    [
        *SAMPLE,
        *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name not in SAMPLE),
    ],
)
def test_works_or_is_refused(name: str, tmp_path: Path) -> None:
    """Scores and texts are those of the plain way, and a student trains."""
    outcome = tried(name, tmp_path)
    assert bool(outcome.refused) == (name in REFUSED), outcome.refused
    if not outcome.refused:
        assert outcome.prefix_caching == (name not in PREFIX_READ_AGAIN)


def test_a_model_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    """An encoder under the name of a decoder is no causal language model."""
    tokenizer = tiny_tokenizer()
    config = BertGenerationConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.2,
    )
    BertGenerationDecoder(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="depends on the tokens after it"):
        load(str(tmp_path), device="cpu")
