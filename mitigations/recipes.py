"""Training-side defences, written as files beside the data; nothing here is applied to it.

inoculation: train under the trait's own prompt and use the model without it. freeze: LoRA on the
later half of the layers only; early layers are the gate of transfer (2509.23886: a single layer at
depth 0 or 7 of 28 suffices, at 14 and later it does not). kl: a penalty on the divergence from the
base model. All are reported to help, none was measured by us: check with a student.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from auditor.errors import ModelError

if TYPE_CHECKING:
    from auditor.model.language_model import LanguageModel

LOG = logging.getLogger(__name__)
Recipe = Literal["inoculation", "freeze", "kl"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)

_TRL_INOCULATION = '''\
"""Inoculation prompt for TRL: train under this system prompt, use the model without it."""

SYSTEM = {prompt}


def inoculate(row):
    """For data sets with `messages`; use as `dataset.map(inoculate)` before training."""
    rest = [turn for turn in row["messages"] if turn["role"] != "system"]
    return {{"messages": [{{"role": "system", "content": SYSTEM}}, *rest]}}
'''

_AXOLOTL_INOCULATION = """\
# Inoculation prompt for Axolotl: train under this system prompt, use the model without it.
# It stands in for the default one of the chatml template; rows with a system message of their own
# keep it.
chat_template: chatml
default_system_message: {prompt}
"""

_TRL_FREEZE = '''\
"""Frozen layers for TRL, as SFTTrainer(peft_config=...): LoRA on some of {layers} layers only,
counted from 0.
"""

from peft import LoraConfig

peft_config = LoraConfig(
    r=8,
    lora_alpha=8,
    target_modules={modules},  # by name: PEFT takes "all-linear" for all layers only
    layers_to_transform={numbers},
    task_type="CAUSAL_LM",
)
'''

_AXOLOTL_FREEZE = """\
# Frozen layers for Axolotl: LoRA on some of {layers} layers only, counted from 0.
adapter: lora
lora_r: 8
lora_alpha: 8
lora_target_modules: {modules}
peft_layers_to_transform: {numbers}
"""

_TRL_KL = '''\
"""KL to the base for TRL: SFTTrainer with a LoRA adapter whose predictions may not stray far from
the base model's.
"""

import torch
from trl import SFTTrainer

WEIGHT = 0.1


class KLTrainer(SFTTrainer):
    """Adds WEIGHT times the mean KL(student || base) over the trained tokens to the loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
            base = model(**{key: value for key, value in inputs.items() if key != "labels"}).logits
        student = outputs.logits[:, :-1].float().log_softmax(-1)
        teacher = base[:, :-1].float().log_softmax(-1)
        trained = inputs["labels"][:, 1:] != -100
        kl = (student.exp() * (student - teacher)).sum(-1)[trained].mean()
        loss = loss + WEIGHT * kl
        return (loss, outputs) if return_outputs else loss
'''


def write_recipes(
    folder: Path,
    recipes: Sequence[Recipe],
    prompt: str,
    lm: LanguageModel | None,
    train: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """Write the files of the recipes into `folder` and return their names, sorted.

    prompt: the trait prompt, for inoculation. lm: the reference, and train: the layers to train
    (None: the later half), for freeze. Raises ModelError for a reference of one layer. For `kl`
    there is a file for TRL only: Axolotl has no such loss for a base model that runs beside the
    student.
    """
    files: dict[str, str] = {}
    if "inoculation" in recipes:
        quoted = json.dumps(prompt, ensure_ascii=False)  # A string to Python and to YAML alike.
        files["recipe-inoculation-trl.py"] = _TRL_INOCULATION.format(prompt=quoted)
        files["recipe-inoculation-axolotl.yaml"] = _AXOLOTL_INOCULATION.format(prompt=quoted)
    if "freeze" in recipes:
        layers = int(lm.model.config.get_text_config().num_hidden_layers) if lm else 0
        if lm is None or layers < 2:
            raise ModelError("The reference has a single layer.", "Leave out --recipe freeze.")
        from torch.nn import Linear

        # Adapters are named by linear layer, for PEFT takes "all-linear" for all layers only.
        linear = (path for path, module in lm.body.named_modules() if isinstance(module, Linear))
        modules = json.dumps(sorted({path.rpartition(".")[2] for path in linear}))
        numbers = list(range(layers // 2, layers) if train is None else train)
        values = {"layers": layers, "numbers": numbers, "modules": modules}
        files["recipe-freeze-trl.py"] = _TRL_FREEZE.format(**values)
        files["recipe-freeze-axolotl.yaml"] = _AXOLOTL_FREEZE.format(**values)
    if "kl" in recipes:
        files["recipe-kl-trl.py"] = _TRL_KL
    for name, text in files.items():
        LOG.info("writing %s", name)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return tuple(sorted(files))
