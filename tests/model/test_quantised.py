"""Quantised weights: plain numbers where transformers can make them so, else one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from auditor.errors import ModelError
from auditor.model.builtin import quiet
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.students.settings import TrainingConfig
from auditor.students.training import new_student
from tests.conftest import tiny_tokenizer

IDS = torch.arange(3, 20)[None]
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "format": "float-quantized",
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
        }
    },
    "ignore": ["lm_head"],
}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}


def saved(model: Any, folder: Path, quantised: Mapping[str, object] | None = None) -> str:
    with quiet():
        model.save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
    if quantised:
        file = folder / "config.json"
        settings = json.loads(file.read_text()) | {"quantization_config": quantised}
        file.write_text(json.dumps(settings))
    return str(folder)


@pytest.mark.parametrize(
    ("settings", "package", "says"),
    [
        ({"quant_method": "gptq", "bits": 4}, "optimum", "`pip install optimum gptqmodel`"),
        ({"quant_method": "awq", "bits": 4, "group_size": 32}, "gptqmodel", "by awq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes", "by bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes", "by bitsandbytes"),
        (COMPRESSED, "compressed_tensors", "by compressed-tensors"),
        ({"quant_method": "modelopt"}, "", "that its weights were made from"),
        ({"bits": 4}, "", "Check that the folder"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    settings: dict[str, object], package: str, says: str, tiny: LanguageModel, tmp_path: Path
) -> None:
    """It names the method, what to install, and what to give in its place."""
    if package and find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ModelError) as caught:
        load(saved(tiny.model, tmp_path, settings), device="cpu")
    assert says in caught.value.hint
    assert package.split("_")[0] in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint


def _expected(lm: LanguageModel, plain: Mapping[str, torch.Tensor], model: Any) -> None:
    """`lm` has the weights `plain` and predicts what `model` does with them; students train."""
    model.load_state_dict(plain, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(lm.model(IDS).logits, model(IDS).logits, rtol=0, atol=1e-4)
    assert {weight.dtype for weight in lm.model.parameters()} == {torch.float32}
    student = new_student(lm, TrainingConfig(), seed=0)
    assert any(weight.requires_grad for weight in student.model.parameters())


@pytest.mark.parametrize("settings", [FP8, COMPRESSED], ids=["fp8", "compressed-tensors"])
def test_weights_of_eight_bits(
    settings: dict[str, object], tiny: LanguageModel, tmp_path: Path
) -> None:
    if settings is COMPRESSED:
        pytest.importorskip("compressed_tensors")
    folder = saved(tiny.model, tmp_path, settings)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    plain = dict(weights)
    for name in [name for name in weights if "_proj" in name]:
        # A scale for each block of 16 by 16, or for each row.
        rows, columns = weights[name].shape
        size = (16, 16) if settings is FP8 else (1, columns)
        blocks = weights[name].reshape(rows // size[0], size[0], columns // size[1], size[1])
        scales = blocks.abs().amax((1, 3)) / 448
        eight_bits = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
        plain[name] = (eight_bits.float() * scales[:, None, :, None]).reshape(rows, columns)
        weights[name] = eight_bits.reshape(rows, columns)
        weights[name + ("_scale_inv" if settings is FP8 else "_scale")] = scales
    save_file(weights, file, metadata={"format": "pt"})
    model = transformers.LlamaForCausalLM(tiny.model.config).eval()
    _expected(load(folder, device="cpu"), plain, model)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_bitsandbytes(bits: int, tiny: LanguageModel, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    plain = saved(tiny.model, tmp_path / "plain")
    settings = transformers.BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            plain, quantization_config=settings, dtype=torch.float32
        )
        folder = saved(model, tmp_path / "quantised")
        lm = load(folder, device="cpu")
        _expected(lm, {}, model.dequantize(torch.float32))
    # They are not those that were quantised.
    loss = (lm.model(IDS).logits - tiny.model(IDS).logits).abs().max()
    assert 0.01 < float(loss) < 4


def test_weights_of_four_bits(tmp_path: Path) -> None:
    """MXFP4, as gpt-oss is published: 32 numbers of four bits share an exponent."""
    config = transformers.GptOssConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=2,
        num_experts_per_tok=1,
    )
    torch.manual_seed(0)
    model = transformers.GptOssForCausalLM(config).eval()
    folder = saved(model, tmp_path, {"quant_method": "mxfp4", "modules_to_not_convert": []})
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    plain = dict(weights)
    magnitudes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    numbers = torch.cat([magnitudes, -magnitudes])
    for name in [name for name in weights if name.endswith(("down_proj", "gate_up_proj"))]:
        experts, inputs, outputs = weights.pop(name).shape
        codes = torch.randint(0, 16, (experts, outputs, inputs // 32, 32), dtype=torch.uint8)
        exponents = torch.randint(120, 125, codes.shape[:3], dtype=torch.uint8)
        weights[f"{name}_blocks"] = codes[..., ::2] | codes[..., 1::2] << 4
        weights[f"{name}_scales"] = exponents
        values = numbers[codes.long()] * torch.exp2(exponents.float() - 127)[..., None]
        plain[name] = values.reshape(experts, outputs, inputs).transpose(1, 2)
    save_file(weights, file, metadata={"format": "pt"})
    _expected(load(folder, device="cpu"), plain, model)
