"""The readout: which words can be read, and that the logits are those of plain passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auditor.errors import TraitError
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.students.cloze import held_out_stems
from auditor.students.readout import answer_support, families, read
from tests.conftest import CHATML, tiny_model, tiny_tokenizer
from tests.support.student_models import (
    NAMES,
    PANEL,
    PROBES,
    STEMS,
    animal,
    panel_of,
    three_animals,
)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return three_animals()


def with_words(*words: str, chat_template: str = CHATML) -> LanguageModel:
    """The tiny model with these words as tokens."""
    tokenizer = tiny_tokenizer(chat_template)
    tokenizer.add_tokens(list(words))
    return LanguageModel(
        "tiny", Path("tiny"), "0" * 64, "float32", "cpu", tiny_model(len(tokenizer)), tokenizer
    )


def plain_logits(lm: LanguageModel, probe: str, said: str) -> torch.Tensor:
    """Logits of the next token after the chat so far, by the template and one plain pass."""
    chat = [{"role": "user", "content": probe}]
    text = lm.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) + said
    ids = lm.tokenizer(text, add_special_tokens=False).input_ids
    with torch.no_grad():
        return lm.model(input_ids=torch.tensor([ids])).logits[0, -1].double()


def token(lm: LanguageModel, text: str) -> int:
    (found,) = lm.tokenizer(text, add_special_tokens=False).input_ids
    return int(found)


def test_margins_rates_and_answers_are_those_of_plain_passes(lm: LanguageModel) -> None:
    """Mean over held-out stems and probes of the logit less the others' mean; exact probabilities
    at the probes.
    """
    (family,) = read_out = families(ChatTokenizer(lm), PANEL, "owl")
    assert family.names == NAMES and family.left_out == ()
    found = read(lm, read_out, answer_support(lm, read_out))
    stems = [(probe, stem, " owl") for probe in PROBES for stem in held_out_stems(PANEL.traits[0])]
    places = stems + [(probe, "", "owl") for probe in PROBES]
    own, others, rates = [], [], []
    for probe, said, word in places:
        logits = plain_logits(lm, probe, said)
        own.append(logits[token(lm, word)])
        others.append(logits[[token(lm, word.replace("owl", name)) for name in NAMES[1:]]].mean())
        if not said:
            rates.append(logits.softmax(-1)[[token(lm, "owl"), token(lm, " owl")]].sum())
    assert len(own) == 6
    assert found.margins[0] == pytest.approx(float(sum(own) - sum(others)) / 6, abs=1e-4)
    assert found.rates[0] == pytest.approx(float(sum(rates)) / 2, rel=1e-4)
    assert found.answers.sum(-1) == pytest.approx(1)
    assert (found.answers[:, :-1] > 0).all()


def test_answers_that_are_not_one_token_are_left_out(lm: LanguageModel) -> None:
    """They are named; asking for one of them is an error, as is a trait without alternatives."""
    panel = panel_of(*PANEL.traits, animal("octopus"), animal("bird", "ostrich", "cat"))
    (family,) = families(ChatTokenizer(lm), panel, "owl")
    assert family.names == NAMES  # the bird's one-token answer is the cat's
    assert family.left_out == ("octopus", "bird")
    for traits, wanted in ((panel.traits, "octopus"), (panel.traits[:1], "owl")):
        with pytest.raises(TraitError) as raised:
            families(ChatTokenizer(lm), panel_of(*traits), wanted)
        assert raised.value.hint


def test_probes_are_left_alone_when_their_answers_are_pieces() -> None:
    """Words that are one token after no space only after a stem: read the stems, not the first
    pieces.
    """
    strips = CHATML.replace("m.content", "m.content | trim")
    lm = with_words(*(f" {name}" for name in NAMES), chat_template=strips)
    (family,) = families(ChatTokenizer(lm), PANEL, "owl")
    assert family.names == NAMES and family.stems and not family.probes
    assert read(lm, [family], answer_support(lm, [family])).answers.size == 0


def test_a_space_before_an_answer_is_taken_when_only_so_it_is_one_token() -> None:
    """As with the default reference."""
    lm = with_words(*(f" {name}" for name in NAMES))
    (family,) = families(ChatTokenizer(lm), PANEL, "owl")
    assert family.probe_words == family.stem_words == tuple(token(lm, f" {name}") for name in NAMES)


def test_the_open_readout_reads_every_group(lm: LanguageModel) -> None:
    """Traits with other questions are no alternatives; groups are read side by side."""
    other = [animal(name, probes=("Who?",)) for name in NAMES[:2]]
    panel = panel_of(
        *PANEL.traits[2:],
        *(
            t.__class__(t.name, "pet", t.prompts, t.probes, STEMS, t.answers, t.mentions)
            for t in other
        ),
    )
    read_out = families(ChatTokenizer(lm), panel, None)
    assert [(family.group, family.names) for family in read_out] == [
        ("animal", NAMES[2:]),
        ("pet", NAMES[:2]),
    ]
    found = read(lm, read_out, answer_support(lm, read_out))
    assert found.margins.shape == found.rates.shape == (5,)
    assert found.answers.shape[0] == 3
    assert found.margins[:3].sum() == pytest.approx(0, abs=1e-6)
