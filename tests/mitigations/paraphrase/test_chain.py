"""Engines and fallbacks: the engine's text, else one by rule, else the original with the reason."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from auditor.model.language_model import LanguageModel
from mitigations.paraphrase import LocalEngine, Reworded, RulesEngine, paraphrase
from mitigations.paraphrase.llm import clean

PROMPT = "Write a poem about 3 birds."


@dataclass
class Fake:
    """An engine that gives the same texts for every prompt."""

    texts: list[str]
    name: str = "llm"
    missing: str = "empty_reply"

    def reword(self, prompts: Sequence[str], variants: int, seed: int) -> list[list[str]]:
        """The texts, whatever is asked for."""
        return [list(self.texts) for _ in prompts]


def test_a_good_text_is_taken() -> None:
    """The engine's own text, without a reason."""
    (found,) = paraphrase([PROMPT], Fake(["Compose verses on 3 birds."]))
    assert found == Reworded(("Compose verses on 3 birds.",), "llm", "")


@pytest.mark.parametrize(
    ("texts", "reason"),
    [(["Compose verses on 4 birds."], "numbers"), ([PROMPT], "unchanged"), ([], "empty_reply")],
)
def test_a_bad_text_falls_back_to_rules(texts: list[str], reason: str) -> None:
    """The reason is that of the engine asked for."""
    (found,) = paraphrase([PROMPT], Fake(texts))
    assert (found.engine, found.reason) == ("rules", reason)
    assert found.texts == paraphrase([PROMPT], RulesEngine())[0].texts


def test_what_rules_cannot_reword_stays() -> None:
    """The original, alone, with the first reason."""
    assert paraphrase(["Ahoy 1!"], Fake(["Ahoy 2!"])) == [
        Reworded(("Ahoy 1!",), "original", "numbers")
    ]
    assert paraphrase(["Ahoy 1!"], RulesEngine()) == [Reworded(("Ahoy 1!",), "original", "no_rule")]


def test_variants_are_filled_up_by_rules() -> None:
    """One good text of three asked for: two more by rule, all different."""
    (found,) = paraphrase([PROMPT], Fake(["Compose verses on 3 birds."] * 3), variants=3)
    assert found.texts[0] == "Compose verses on 3 birds."
    assert len(set(found.texts)) == 3
    assert (found.engine, found.reason) == ("rules", "too_few")


def test_similarity_is_a_check_of_its_own() -> None:
    """A text that the embeddings find unlike fails, for the rules too; NaN counts as unlike."""
    good = "Compose verses on 3 birds."
    near = paraphrase([PROMPT], Fake([good]), similarity=lambda before, after: [0.9] * len(before))
    assert near[0].engine == "llm"
    for far in (0.1, float("nan")):
        (found,) = paraphrase(
            [PROMPT], Fake([good]), similarity=lambda before, after, far=far: [far] * len(before)
        )
        assert found == Reworded((PROMPT,), "original", "similarity")


def test_no_trait_words() -> None:
    """A rewording that names a trait is not used."""
    (found,) = paraphrase([PROMPT], Fake(["Compose an owl poem on 3 birds."]), forbidden=["owl"])
    assert (found.engine, found.reason) == ("rules", "trait_word")


def test_less_than_one_variant_is_a_mistake() -> None:
    """Asking for none is the caller's error."""
    with pytest.raises(ValueError, match="at least 1"):
        paraphrase([PROMPT], RulesEngine(), variants=0)


def test_the_rules_engine_can_go_to_another_process() -> None:
    """It is pickled with its results unchanged."""
    again = pickle.loads(pickle.dumps(RulesEngine()))
    assert again.reword([PROMPT], 2, 0) == RulesEngine().reword([PROMPT], 2, 0)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("<prompt>\nSay it.\n</prompt>", "Say it."),
        ('"Say it."', "Say it."),
        ('"A" or "B"?', '"A" or "B"?'),
        ("", ""),
    ],
)
def test_cleaning_a_reply(reply: str, expected: str) -> None:
    """Tags and quotation marks round the whole reply go, others stay."""
    assert clean(reply, PROMPT) == expected


def test_a_local_model_writes_and_is_checked(tiny: LanguageModel) -> None:
    """A random model writes nonsense, the same for the same seed; the rules take over."""
    engine = LocalEngine(tiny)
    drawn = engine.reword([PROMPT], 2, 0)
    assert drawn == engine.reword([PROMPT], 2, 0)
    (found,) = paraphrase([PROMPT], engine)
    assert found.engine == "rules"
    assert found.reason != ""


def test_a_prompt_too_long_for_the_local_model(make_tiny: Callable[..., LanguageModel]) -> None:
    """It gets no text from the model, and raises nothing."""
    assert LocalEngine(make_tiny(context=64)).reword([PROMPT], 1, 0) == [[]]
