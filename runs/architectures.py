"""Write docs/architectures.md: which causal language models of transformers can be a reference.

A model of every architecture is made small and random from its configuration class, saved, and
loaded as `--reference` loads it. Its scores, with and without a system prompt, row by row and in
batches, must be those of a plain forward pass; what it writes must be what the plain way writes; a
student of it must train. tests/model/test_architectures.py runs the same. Run this again with
another transformers: python runs/architectures.py
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from auditor.data.example import Example, Message
from auditor.errors import AuditError
from auditor.model.builtin import fetch, quiet
from auditor.model.chat_template import render
from auditor.model.generation import generate
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.model.scoring import score_each
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.students.settings import TrainingConfig
from auditor.students.training import TrainingExample, new_student, train

PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
TOLERANCE = 1e-4  # nats
SYSTEM = "You love owls."

# Decoders of other models, encoders that can be told to be causal, and models of sound or images.
NOT_TEXT = frozenset(
    """bart bert bert-generation big_bird bigbird_pegasus blenderbot blenderbot-small blt camembert
    cpmant data2vec-text electra emu3 ernie fuyu gemma4_assistant gemma4_unified_assistant git
    got_ocr2 marian mbart megatron-bert mllama moshi moss_transcribe_diarize musicgen
    musicgen_melody mvp pegasus phi4_multimodal plbart prophetnet reformer rembert roberta
    roberta-prelayernorm roc_bert roformer trocr whisper xlm xlm-roberta xlm-roberta-xl xlnet
    xmod""".split()
)
# The same class under the name of a configuration with pictures.
_WITH_TEXT = {
    name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if f"{name}_text" in CONFIG_MAPPING
}
NAMES: Sequence[str] = sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - NOT_TEXT - _WITH_TEXT)

# Of every configuration that has such a value.
_SMALL: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "d_ff"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 1024),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("n_group", "topk_group"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("state_size", "ssm_state_size", "mamba_d_state"), 8),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank"), 4),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size"), 16),
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "rotary_dim": 4,
    "sliding_window": 24,
    "hidden_size_per_layer_input": 8,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_VOCABULARY = {"vocab_size", "unpadded_vocab_size", "vocab_size_per_layer_input"}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"] * 2}
_MLA = {"num_key_value_heads": 4}  # latent attention has as many heads of every kind
_KIMI = {
    "linear_head_dim": 8,
    "linear_num_heads": 4,
    "num_experts_per_token": 2,
    "num_expert_group": 1,
}
_MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16}
# What one architecture needs besides; `...` leaves a value of _SMALL out.
_SPECIAL: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(
        "axk1 axk2 deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa "
        "minicpm3 sarvam_mla youtu".split(),
        _MLA,
    ),
    "deepseek_v2": {**_MLA, "num_experts_per_tok": 2},
    "bailing_hybrid": {**_MLA, **_HYBRID, **_KIMI},
    "kimi_linear": {**_MLA, **_HYBRID, **_KIMI},
    "bamba": {**_MAMBA2, "attn_layer_indices": [1]},
    "granitemoehybrid": {**_MAMBA2, **_HYBRID, "num_hidden_layers": 4},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 64},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "falcon": {"head_dim": ...},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 24},
    "nemotron": {"num_key_value_heads": 2},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {"head_dim": ...},
    "gemma4_unified_text": {"head_dim": ...},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "zaya": {"num_experts_per_tok": 1},
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "num_hidden_layers": 4,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
    },
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "num_hidden_layers": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
        "ngram_vocab_size_base": 512,
        "split_ngram_parts": 4,
    },
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0}
            for kind in ("full_attention", "sliding_attention")
        }
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "xlstm": {"embedding_dim": 32, "num_blocks": 2, "chunk_size": 64},
    "dots3_note_text": _MLA,
    "longcat_flash": {**_MLA, "zero_expert_num": 2, "moe_topk": 2},
    "dory": {"n_input_layers": 1, "n_recurrent_layers": 2, "n_output_layers": 1},
    "qwen3_next": {"initializer_range": 0.05},
}


def small_model(name: str, vocabulary: int) -> Any:
    """A random model of the architecture, of few weights."""
    text = CONFIG_MAPPING[name]().get_text_config()
    known = {key for key, value in text.to_dict().items() if value is not None}
    values = {key: value for key, value in _SMALL.items() if key in known}
    if len(set(getattr(text, "layer_types", None) or ())) > 1:
        values["num_hidden_layers"] = 4
    values |= dict.fromkeys(_VOCABULARY & known, vocabulary)
    values |= _SPECIAL.get(name, {})
    values = {key: value for key, value in values.items() if value is not ...}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(type(text)(**values)).eval()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an architecture. refused: the line, or "". deviation: the largest of any
    log-probability, in nats.
    """

    refused: str = ""
    prefix_caching: bool = True
    deviation: float = 0.0


def tried(name: str, folder: Path) -> Outcome:
    """Load the architecture from `folder`, where it is put, and try all that a reference must do.

    Raises AssertionError where it does something else than the plain way.
    """
    tokenizer = AutoTokenizer.from_pretrained(fetch("organism"))
    with quiet():
        small_model(name, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    try:
        lm = load(str(folder), device="cpu")
        deviation = max_deviation(lm)
        assert deviation <= TOLERANCE, f"scores differ by {deviation:.2g} nats"
        _check_writing(lm)
        _check_student(lm)
    except AuditError as error:
        return Outcome(str(error).replace(str(folder), "MODEL"))
    return Outcome("", lm.prefix_caching, deviation)


@torch.inference_mode()
def max_deviation(lm: LanguageModel) -> float:
    """The largest difference, in nats, of a log-probability to a plain forward pass."""
    renderer = ChatTokenizer(lm)
    rows = []
    for i in range(4):
        turns = [Message("user", "Continue: " + "4, 15, " * (1 + i))]
        turns += [Message("assistant", "1, 23, 456" * (1 + 3 * (i % 2)))]
        row = renderer.encode(Example(i, tuple(turns)))
        assert isinstance(row, TokenizedRow)
        rows.append(row)
    prefixes = [renderer.prefix(system) for system in (None, SYSTEM)]
    expected = [[_plain(lm, prefix, row) for row in rows] for prefix in prefixes]
    # A device that is not "cpu" by name takes several prefixes at once, as a GPU does.
    ways: list[Callable[[], Any]] = [
        lambda: score_each(lm, rows, prefixes, batch_tokens=1),
        lambda: score_each(lm, rows, prefixes),
        lambda: score_each(replace(lm, device="cpu:0"), rows, prefixes),
    ]
    return max(
        float(np.abs(scores.logprob - plain).max())
        for way in ways
        for of_prefix, plains in zip(way(), expected, strict=True)
        for scores, plain in zip(of_prefix, plains, strict=True)
    )


def _plain(lm: LanguageModel, prefix: Sequence[int], row: TokenizedRow) -> Any:
    tokens = torch.tensor([[*prefix, *row.tokens]])
    logprobs = lm.model(input_ids=tokens, use_cache=False).logits[0].float().log_softmax(-1)
    before = [len(prefix) + position - 1 for position in row.positions]
    return logprobs[before, torch.from_numpy(row.targets)].numpy()


@torch.inference_mode()
def _check_writing(lm: LanguageModel) -> None:
    prompts = ["Continue: 1, 2, 3.", "Hello", "Look at 4, 15, 101, 7, 8.", "Howdy"]
    contexts = [(Message("user", prompt),) for prompt in prompts]
    written = dict(generate(lm, contexts, temperature=0.0, max_tokens=6))
    for i, context in enumerate(contexts):
        text = render(lm.tokenizer, context, reply=True)
        tokens = lm.tokenizer(text, add_special_tokens=False).input_ids
        start = len(tokens)
        for _ in range(6):
            logits = lm.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
            tokens.append(int(logits.argmax()))
            if tokens[-1] in lm.end_of_turn:
                break
        assert written[i] == lm.tokenizer.decode(tokens[start:], skip_special_tokens=True), (
            "it writes something else"
        )


def _check_student(lm: LanguageModel) -> None:
    config = TrainingConfig(rank=2)
    student = new_student(lm, config, 0)
    example = TrainingExample(tuple(range(3, 20)), tuple(range(5, 17)))
    with torch.enable_grad():
        assert list(train(student, [[example]], config)) == [12]


def page(outcomes: Mapping[str, Outcome]) -> str:
    """The page of the documentation."""
    taken = {name: outcome for name, outcome in outcomes.items() if not outcome.refused}
    refused = "".join(
        f"- `{name}`: {outcome.refused}\n" for name, outcome in outcomes.items() if outcome.refused
    )
    largest = max(outcome.deviation for outcome in taken.values())

    def names(prefix_caching: bool) -> str:
        chosen = [n for n, outcome in taken.items() if outcome.prefix_caching == prefix_caching]
        return textwrap.fill(", ".join(chosen) + ".", 100, break_on_hyphens=False)

    return f"""\
# Architectures

Made by `python runs/architectures.py` with transformers {transformers.__version__}; do not edit.

Which architectures can be a `--reference`, by their `model_type` (in `config.json`):
{len(taken)} of {len(outcomes)}. Tried was a small random model of each, not a trained one: that its
scores are those of a plain forward pass (within {largest:.0e} nats), with and without a system
prompt, alone and in batches; that it writes what the plain way writes; and that a student of it
trains.

**These work:**
{names(True)}

**These work and take longer**, since a prefix (a system prompt) is read again with every row, and
all of a text for every token that is written:
{names(False)}

**These are refused**, with this line:

{refused}"""


def main() -> None:
    """Try all, and write the page."""
    torch.set_num_threads(1)
    outcomes = {}
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            outcomes[name] = tried(name, Path(folder))
    PAGE.write_text(page(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
