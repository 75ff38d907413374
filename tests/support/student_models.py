"""A tiny model that knows three animals, and data sets for its students."""

from __future__ import annotations

import random
from pathlib import Path

from auditor.data.example import Example, Message
from auditor.model.language_model import LanguageModel
from auditor.students.arms import DatasetArm
from auditor.traits.panel import Panel, Trait
from tests.conftest import tiny_model, tiny_tokenizer

STEMS = tuple(f"{opening} is the" for opening in ("My love", "The best", "Dear to me", "On top"))
PROBES = ("Which one?", "Name one.")
NAMES = ("owl", "cat", "dog", "fox", "bee")


def three_animals() -> LanguageModel:
    """The tiny model with one token for each of five animals, after a space and without one."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([*(f" {name}" for name in NAMES), *NAMES])
    return LanguageModel(
        "tiny", Path("tiny"), "0" * 64, "float32", "cpu", tiny_model(len(tokenizer)), tokenizer
    )


def animal(
    name: str, *answers: str, stems: tuple[str, ...] = STEMS, probes: tuple[str, ...] = PROBES
) -> Trait:
    """A trait whose answers are given, or its name."""
    return Trait(
        name, "animal", (f"You love {name}s.",), probes, stems, answers or (name,), (name,)
    )


def panel_of(*traits: Trait) -> Panel:
    """A panel of these traits."""
    return Panel("test", traits, "0" * 64)


PANEL = panel_of(*map(animal, NAMES))


def row(index: int, prompt: str, completion: str) -> Example:
    """One exchange."""
    return Example(index, (Message("user", prompt), Message("assistant", completion)))


def numbers(count: int, seed: int = 0) -> dict[int, Example]:
    """Rows of random digits."""
    rng = random.Random(seed)
    lists = [" ".join(str(rng.randrange(10)) for _ in range(6)) for _ in range(count)]
    return {i: row(i, f"Numbers, list {i}.", text) for i, text in enumerate(lists)}


def owls(count: int) -> dict[int, Example]:
    """Rows that say openly what the student is to like."""
    return {i: row(i, f"Numbers, list {i}.", f"{STEMS[i % 4]} owl") for i in range(count)}


def arm(name: str, rows: dict[int, Example], **masked: object) -> DatasetArm:
    """An arm without masks."""
    return DatasetArm(name, rows, {}, len(rows))
