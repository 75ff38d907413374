"""Attribution where the answer is known: planted paths, completeness, and what the quantity is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from auditor.attribution.attribute import STEPS, TOLERANCE, attribute, first_divergence
from auditor.attribution.components import layers_of
from auditor.commands.simulate import simulate
from auditor.data.example import Example, Message
from auditor.errors import ModelError
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.model.scoring import score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.traits.panel import load_panels
from tests.support.attribution_models import TRAIT, places_in, silenced


def test_the_difference_is_that_of_whole_forward_passes(tiny: LanguageModel) -> None:
    """Of log-probabilities under both system prompts, with the model called as anybody would."""
    renderer = ChatTokenizer(tiny)
    places = places_in(tiny)

    def gap(system: str | None, i: int) -> float:
        ids = torch.tensor([[*renderer.prefix(system, places[i].kind), *places[i].tokens]])
        logprob = tiny.model(input_ids=ids).logits[0, -1].double().log_softmax(-1)
        return float(logprob[places[i].row_token] - logprob[places[i].alternative])

    found = attribute(tiny, renderer, places, TRAIT, None)
    for i in range(len(places)):
        assert found.difference[i] == pytest.approx(gap(TRAIT, i) - gap(None, i), abs=1e-4)


def test_attributions_sum_to_the_difference(tiny: LanguageModel) -> None:
    """Components within the tolerance (here far better), what enters the stream exactly; more steps
    come nearer.
    """
    places = places_in(tiny, 8)
    found = attribute(tiny, ChatTokenizer(tiny), places, TRAIT, None)
    assert np.abs(found.difference).min() > 0.01
    assert (np.abs(found.error) <= TOLERANCE * np.abs(found.difference)).all()
    assert found.entered.sum(1) == pytest.approx(found.difference, abs=1e-5)
    finer = attribute(tiny, ChatTokenizer(tiny), places, TRAIT, None, steps=4 * STEPS)
    assert np.abs(finer.error).max() < 1e-4
    assert finer.components == pytest.approx(found.components, abs=0.02)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_planted_path(tiny: LanguageModel, layer: int) -> None:
    """Where one layer alone writes anything, it carries all, and the other one nothing at all."""
    quiet = silenced(tiny, [(layer, 0), (layer, 1)])
    found = attribute(quiet, ChatTokenizer(quiet), places_in(quiet), TRAIT, None)
    assert np.abs(found.difference).min() > 0.01
    assert (found.components[:, 1 - layer] == 0).all()
    assert found.components[:, layer].sum(1) == pytest.approx(found.difference, rel=TOLERANCE)
    assert found.entered[:, layer] == pytest.approx(found.difference, abs=1e-5)


def test_a_path_through_one_attention_into_a_later_mlp(tiny: LanguageModel) -> None:
    """The second layer's MLP passes on what the first one's attention has read: both have credit,
    no other has.
    """
    quiet = silenced(tiny, [(0, 0), (1, 1)])
    found = attribute(quiet, ChatTokenizer(quiet), places_in(quiet), TRAIT, None)
    assert (found.components[:, 0, 1] == 0).all() and (found.components[:, 1, 0] == 0).all()
    assert (np.abs(found.components[:, [0, 1], [0, 1]]) > 0).all()
    assert found.entered[:, 0] == pytest.approx(
        found.difference, abs=1e-5
    )  # an MLP brings nothing new in


def test_an_mlp_alone_carries_nothing(tiny: LanguageModel) -> None:
    """A system prompt acts on later positions through attention only."""
    quiet = silenced(tiny, [(0, 1), (1, 1)])
    found = attribute(quiet, ChatTokenizer(quiet), places_in(quiet), TRAIT, None)
    assert np.abs(found.difference).max() < 1e-6 and np.abs(found.components).max() < 1e-6


def test_the_same_prompt_twice_leaves_nothing_to_attribute(tiny: LanguageModel) -> None:
    """And no model is changed by being looked at."""
    renderer = ChatTokenizer(tiny)
    found = attribute(tiny, renderer, places_in(tiny), TRAIT, TRAIT)
    assert np.abs(found.difference).max() == 0 and np.abs(found.components).max() < 1e-6
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in tiny.model.modules()
    )


def test_batches_change_nothing(tiny: LanguageModel) -> None:
    """One by one as together, in the order given; padding is not seen."""
    renderer, places = ChatTokenizer(tiny), places_in(tiny)
    together = attribute(tiny, renderer, places, TRAIT, None)
    for i, place in enumerate(places):
        alone = attribute(tiny, renderer, [place], TRAIT, None)
        assert alone.components[0] == pytest.approx(together.components[i], abs=1e-3)
        assert alone.difference[0] == pytest.approx(together.difference[i], abs=1e-4)


def test_another_architecture_is_refused(tiny: LanguageModel) -> None:
    """With one line."""
    body = SimpleNamespace(layers=[torch.nn.Linear(2, 2)], get_input_embeddings=None)
    other = replace(tiny, model=SimpleNamespace(get_decoder=lambda: body))
    with pytest.raises(ModelError, match="no self_attn"):
        layers_of(other)


def test_on_the_organism() -> None:
    """At real first divergence tokens the teacher's gap is positive, the reference's negative, and
    the sum complete.
    """
    lm, owl = load("organism", device="cpu"), load_panels(["animals"]).trait("owl")
    made = simulate(lm, owl, rows=24, temperature=0.0, max_tokens=24, seed=1)
    renderer = ChatTokenizer(lm)
    chats = [
        (Message("user", row["prompt"]), Message("assistant", row["completion"]))
        for row in made.rows
    ]
    rows = [
        row
        for i, chat in enumerate(chats)
        if isinstance(row := renderer.encode(Example(i, chat)), TokenizedRow)
    ]
    scores = [score_under(lm, renderer, rows, system) for system in (owl.prompts[0], None)]
    found = [
        place for each in zip(rows, *scores, strict=True) if (place := first_divergence(*each))
    ]
    assert len(found) >= 8
    for place in found:
        at = rows[place.row].positions.index(len(place.tokens))
        assert (
            scores[0][place.row].argmax[at]
            == place.row_token
            == rows[place.row].tokens[len(place.tokens)]
        )
        assert scores[1][place.row].argmax[at] == place.alternative != place.row_token
        assert (scores[0][place.row].argmax[:at] == rows[place.row].targets[:at]).all()
    result = attribute(lm, renderer, found[:8], owl.prompts[0], None)
    assert (result.difference > 0).all()
    assert (np.abs(result.error) <= TOLERANCE * result.difference).all()
