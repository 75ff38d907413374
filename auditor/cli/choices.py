"""What the options of `audit mitigate` may say together, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from auditor.errors import AuditError

T = TypeVar("T", bound=str)


def read_out(traits: Sequence[str]) -> str | None:
    """The trait that students are asked for: the one named, None for what the scan found."""
    return traits[0] if len(traits) == 1 and traits[0] != "all" else None


def choose(option: str, values: Sequence[str], known: Sequence[T]) -> list[T]:
    """The values of a repeatable option, each once. Raises AuditError for one that is not known."""
    if unknown := [value for value in values if value not in known]:
        raise AuditError(f"{option} {unknown[0]!r} is not known.", f"Known: {', '.join(known)}.")
    return [name for name in known if name in values]


def check_not_suspect(model: str, suspect: str | None) -> None:
    """Raise AuditError when the model that may have the trait would write prompts or clean
    completions.
    """
    name = model.partition("#")[2] if "://" in model else model
    if suspect is not None and same_model(name, suspect):
        raise AuditError(
            f"The suspect teacher {suspect} must not write for the defence: "
            "its trait may come along.",
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
