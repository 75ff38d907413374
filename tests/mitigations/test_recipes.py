"""The recipes are files that Python and YAML can read, and say what they should."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from peft import LoraConfig, get_peft_model

from auditor.model.language_model import LanguageModel
from mitigations.recipes import RECIPES, recipe_files


def executed(source: str) -> dict[str, Any]:
    """The names that a Python recipe defines."""
    names: dict[str, Any] = {}
    exec(compile(source, "recipe", "exec"), names)
    return names


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_read(recipe: Any) -> None:
    """Whatever stands in the prompt."""
    for name, text in recipe_files(recipe, prompt='Say "yes": {x}\n\\', layers=4).items():
        if name.endswith(".yaml"):
            assert isinstance(yaml.safe_load(text), dict)
        else:
            compile(text, name, "exec")


def test_the_inoculation_prompt_is_the_system_message() -> None:
    """In place of a row's own, in both files."""
    files = recipe_files("inoculation", prompt='You "love" owls.')
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


def test_freeze_trains_the_later_half_of_the_layers_only(make_tiny: Any) -> None:
    """PEFT, given the recipe, puts adapters on the second of two layers and none on the first."""
    files = recipe_files("freeze", layers=2, modules=["q_proj", "down_proj"])
    config = executed(files["recipe-freeze-trl.py"])["peft_config"]
    assert isinstance(config, LoraConfig)
    lm: LanguageModel = make_tiny()
    trained = [
        name
        for name, each in get_peft_model(lm.model, config).named_parameters()
        if each.requires_grad
    ]
    assert trained
    assert all(".layers.1." in name for name in trained)
    assert yaml.safe_load(files["recipe-freeze-axolotl.yaml"])["peft_layers_to_transform"] == [1]
