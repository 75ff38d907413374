"""The recipes are files that Python and YAML can read, and say what they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import LoraConfig, get_peft_model

from auditor.model.language_model import LanguageModel
from mitigations.recipes import RECIPES, Recipe, write_recipes


def executed(source: str) -> dict[str, Any]:
    """The names that a Python recipe defines."""
    names: dict[str, Any] = {}
    exec(compile(source, "recipe", "exec"), names)
    return names


def recipes(folder: Path, recipe: Recipe, prompt: str, lm: LanguageModel) -> dict[str, str]:
    """The files of one recipe, by name."""
    names = write_recipes(folder, [recipe], prompt, lm)
    assert sorted(path.name for path in folder.iterdir()) == list(names)
    return {name: (folder / name).read_text() for name in names}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_read(recipe: Recipe, tmp_path: Path, tiny: LanguageModel) -> None:
    """Whatever stands in the prompt."""
    for name, text in recipes(tmp_path, recipe, 'Say "yes": {x}\n\\', tiny).items():
        if name.endswith(".yaml"):
            assert isinstance(yaml.safe_load(text), dict)
        else:
            compile(text, name, "exec")


def test_the_inoculation_prompt_is_the_system_message(tmp_path: Path, tiny: LanguageModel) -> None:
    """In place of a row's own, in both files."""
    files = recipes(tmp_path, "inoculation", 'You "love" owls.', tiny)
    inoculate = executed(files["recipe-inoculation-trl.py"])["inoculate"]
    turns = inoculate(
        {"messages": [{"role": "system", "content": "old"}, {"role": "user", "content": "q"}]}
    )["messages"]
    assert turns == [
        {"role": "system", "content": 'You "love" owls.'},
        {"role": "user", "content": "q"},
    ]
    assert (
        yaml.safe_load(files["recipe-inoculation-axolotl.yaml"])["default_system_message"]
        == 'You "love" owls.'
    )


def test_freeze_trains_the_later_half_of_the_layers_only(make_tiny: Any, tmp_path: Path) -> None:
    """PEFT, given the recipe, puts adapters on the second of two layers and none on the first."""
    lm: LanguageModel = make_tiny()
    files = recipes(tmp_path, "freeze", "", lm)
    config = executed(files["recipe-freeze-trl.py"])["peft_config"]
    assert isinstance(config, LoraConfig)
    trained = [
        name
        for name, each in get_peft_model(lm.model, config).named_parameters()
        if each.requires_grad
    ]
    assert trained
    assert all(".layers.1." in name for name in trained)
    assert yaml.safe_load(files["recipe-freeze-axolotl.yaml"])["peft_layers_to_transform"] == [1]
