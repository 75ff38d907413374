"""What the options of `audit mitigate` may say together, and what they mean."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from auditor.errors import AuditError

T = TypeVar("T", bound=str)


def read_out(traits: Sequence[str]) -> str | None:
    """The trait that students are asked for: the one named, None for what the scan found."""
    return traits[0] if len(traits) == 1 and traits[0] != "all" else None


def third_party_settings(names: Sequence[str], ours: Collection[str]) -> dict[str, dict[str, Any]]:
    """Mitigations of other packages, each without settings.

    Raises AuditError for a name of ours.
    """
    for name in names:
        if name in ours:
            raise AuditError(f"{name!r} is one of our own mitigations.", f"Write --{name}.")
    return {name: {} for name in names}


def choose(option: str, values: Sequence[str], known: Sequence[T]) -> list[T]:
    """The values of a repeatable option, each once. Raises AuditError for one that is not known."""
    if unknown := [value for value in values if value not in known]:
        raise AuditError(f"{option} {unknown[0]!r} is not known.", f"Known: {', '.join(known)}.")
    return [each for each in known if each in values]


def check_share(option: str, value: float | None) -> None:
    """Raise AuditError for a share outside [0, 1]."""
    if value is not None and not 0 <= value <= 1:
        raise AuditError(f"{option} {value} is not between 0 and 1.", "0.25 means a quarter.")


def choose_engine(engine: str | None, paraphraser: str | None) -> str:
    """Which engine rewords. Raises AuditError when the options contradict each other."""
    if engine == "llm" and paraphraser is None:
        raise AuditError(
            "--engine llm needs a model.", "Name it with --paraphraser, or use --engine rules."
        )
    if engine == "rules" and paraphraser is not None:
        raise AuditError(
            "--engine rules and --paraphraser contradict each other.", "Give one of them."
        )
    if paraphraser is not None and "://" in paraphraser and not paraphraser.partition("#")[2]:
        raise AuditError(
            "The endpoint's model is not named.", "Write --paraphraser https://host/v1#MODEL."
        )
    return engine or ("rules" if paraphraser is None else "llm")


def choose_embeddings(value: str | None, engine: str) -> str | None:
    """The embedding model that checks rewordings; by default none for rules, which are checked word
    by word.
    """
    if value is None:
        return "packaged" if engine == "llm" else None
    return None if value == "none" else value


def check_not_suspect(model: str | None, suspect: str | None) -> None:
    """Raise AuditError when the model that may have the trait would write prompts or clean
    completions.
    """
    if model is None or suspect is None:
        return
    if same_model(model.partition("#")[2] if "://" in model else model, suspect):
        raise AuditError(
            f"The suspect teacher {suspect} must not write for the defence: its trait may come along.",
            "Name another model, or leave it to the rules and the reference.",
        )


def same_model(one: str, other: str) -> bool:
    """Whether two names mean one model: the same name, the same folder, or a hub name without and
    with its owner.
    """
    if Path(one).exists() and Path(other).exists():
        return Path(one).resolve() == Path(other).resolve()
    one, other = one.casefold().rstrip("/"), other.casefold().rstrip("/")
    return one == other or one.rsplit("/", 1)[-1] == other.rsplit("/", 1)[-1]
