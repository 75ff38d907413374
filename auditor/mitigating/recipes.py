"""Write the recipes of `mitigations.recipes` for one trait and one reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from auditor.errors import ModelError
from auditor.model.language_model import LanguageModel
from mitigations.recipes import Recipe, recipe_files


def write_recipes(
    folder: Path,
    recipes: Sequence[Recipe],
    prompt: str,
    lm: LanguageModel | None,
    train: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """Write the recipes' files into `folder` and return their names.

    prompt: the trait prompt, for inoculation. lm: the reference, and train: the layers to train
    (None: the later half), for freeze. Raises ModelError for one of one layer.
    """
    layers, modules = 0, set[str]()
    if lm is not None:
        layers = int(lm.model.config.get_text_config().num_hidden_layers)
        for path, module in lm.body.named_modules():
            if isinstance(module, torch.nn.Linear):
                modules.add(path.rpartition(".")[2])
    if "freeze" in recipes and layers < 2:
        raise ModelError("The reference has a single layer.", "Leave out --recipe freeze.")
    files: dict[str, str] = {}
    for recipe in recipes:
        files |= recipe_files(
            recipe, prompt=prompt, layers=layers, modules=sorted(modules), train=train
        )
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return tuple(sorted(files))
