"""Bases that are not one folder of a language model: adapters, and models that read pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from auditor.errors import ModelError
from auditor.model.builtin import quiet
from auditor.model.identity import identity_of
from auditor.model.language_model import LanguageModel
from auditor.model.load import digest_of_local, load
from tests.conftest import tiny_tokenizer

IDS = torch.arange(3, 20)[None]


@pytest.fixture
def adapter(make_tiny: Callable[..., LanguageModel], tmp_path: Path) -> Path:
    """A folder with a LoRA of the tiny model, which lies beside it."""
    lm, base = make_tiny(), tmp_path / "base"
    with quiet():
        lm.model.save_pretrained(base)
        lm.tokenizer.save_pretrained(base)
        model = transformers.LlamaForCausalLM.from_pretrained(base)
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_is_merged_into_its_base(adapter: Path) -> None:
    """Its logits are those of peft; its identity names the base, and follows the files of both."""
    base = str(adapter.parent / "base")
    with quiet():
        plain = transformers.LlamaForCausalLM.from_pretrained(base)
        expected = load(base, device="cpu").model(IDS).logits
    lm = load(str(adapter), device="cpu")
    identity = identity_of(lm).as_dict()
    assert identity["base"] == f"{base} {digest_of_local(base)}"
    assert lm.sha256 == digest_of_local(str(adapter))
    assert float((lm.model(IDS).logits - expected).abs().max()) > 0.01
    from peft import PeftModel

    with torch.no_grad():
        adapted = PeftModel.from_pretrained(plain, str(adapter)).eval()
        torch.testing.assert_close(lm.model(IDS).logits, adapted(IDS).logits, rtol=0, atol=1e-4)
    config = adapter.parent / "base" / "generation_config.json"
    config.write_text(config.read_text() + "\n")
    assert digest_of_local(str(adapter)) != lm.sha256
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        load(str(adapter), device="cpu")


def test_the_digest_of_an_adapter_asks_no_hub(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the files of a reference changed is asked offline, too; its base goes by the digest
    that it had.
    """
    file = adapter / "adapter_config.json"
    base = str(adapter.parent / "base")
    known = digest_of_local(base)
    expected = digest_of_local(str(adapter))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "a/b"}))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it looks on the hub")

    monkeypatch.setattr("auditor.model.load.snapshot_download", refuse)
    # The adapter's own configuration is part of its digest, and names another base now.
    now = digest_of_local(str(adapter), f"a/b {known}")
    assert now == digest_of_local(str(adapter), f"a/b {known}") != expected
    assert now != digest_of_local(str(adapter), f"a/b {'0' * 64}")


def test_text_models_inside_models_that_read_pictures(tmp_path: Path) -> None:
    """Gemma 3, Qwen 3.5 and Mistral 3 as they are published: text is scored as by the whole."""
    tokenizer = tiny_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    sight = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    linear = dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8)
    linear |= dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2)
    layers = ["linear_attention", "full_attention"]
    configs = {
        transformers.Gemma3ForConditionalGeneration: transformers.Gemma3Config(
            text_config=text, vision_config=sight, mm_tokens_per_image=4
        ),
        transformers.Qwen3_5ForConditionalGeneration: transformers.Qwen3_5Config(
            text_config={**text, **linear, "layer_types": layers},
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 32,
                "num_position_embeddings": 16,
            },
        ),
        transformers.Mistral3ForConditionalGeneration: transformers.Mistral3Config(
            text_config=transformers.MistralConfig(**text),
            vision_config=transformers.PixtralVisionConfig(**sight, head_dim=8),
        ),
    }
    for cls, config in configs.items():
        folder = tmp_path / cls.__name__
        with quiet():
            model = cls(config).eval()
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        lm = load(str(folder), device="cpu")
        with torch.no_grad():
            torch.testing.assert_close(lm.model(IDS).logits, model(input_ids=IDS).logits)
