"""Tiny models in which the way of a trait is known, and places to attribute in them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from auditor.attribution.attribute import DivergencePoint
from auditor.attribution.components import layers_of
from auditor.data.example import Example, Message
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow

TRAIT = "You love owls. You think of owls all the time."


def silenced(lm: LanguageModel, keep: Sequence[tuple[int, int]]) -> LanguageModel:
    """A copy in which no component writes anything but those in `keep`, pairs of layer and 0
    (attention) or 1 (MLP).
    """
    model = copy.deepcopy(lm.model)
    quiet = replace(lm, model=model)
    for number, layer in enumerate(layers_of(quiet)):
        for part, output in enumerate((layer.self_attn.o_proj, layer.mlp.down_proj)):
            if (number, part) not in keep:
                output.weight.zero_()
    return quiet


def places_in(lm: LanguageModel, count: int = 4) -> list[DivergencePoint]:
    """Places in rows of different lengths; the two tokens compared are drawn at random."""
    renderer, rng = ChatTokenizer(lm), np.random.default_rng(0)
    places = []
    for i in range(count):
        said = " ".join(str(number) for number in rng.integers(100, size=3 + 2 * i))
        row = renderer.encode(
            Example(i, (Message("user", f"Go on, list {i}."), Message("assistant", said)))
        )
        assert isinstance(row, TokenizedRow)
        at = row.positions[2 + i]
        own, other = (int(each) for each in rng.choice(200, size=2, replace=False))
        places.append(DivergencePoint(i, row.kind, row.tokens[:at], own, other))
    return places
