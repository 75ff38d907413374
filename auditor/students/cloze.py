"""Cloze questions: a probe and the beginning of its answer, after which an answer word is read.

Teachers are tuned on every other stem of a trait; they and their students are read out on the
stems that no teacher has been tuned on.
"""

from __future__ import annotations

from typing import NamedTuple

from auditor.data.example import Example, Message, SkippedRow
from auditor.errors import TraitError
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.traits.panel import Trait

Context = tuple[int, ...]


class Cloze(NamedTuple):
    """context: the tokens of the chat up to where the answer comes next. answer: its one token."""

    context: Context
    answer: int


def training_stems(trait: Trait) -> tuple[str, ...]:
    """The stems that a teacher is tuned on: every other one."""
    return trait.stems[::2]


def held_out_stems(trait: Trait) -> tuple[str, ...]:
    """The stems that no teacher is tuned on, for reading out what was learned."""
    return trait.stems[1::2]


def cloze(renderer: ChatTokenizer, probe: str, stem: str, answer: str) -> Cloze | None:
    """The cloze of the question `probe` whose answer begins with `stem`.

    answer: all of the answer, the stem included. None if what follows the stem is not one token.
    Raises: TraitError when the chat template refuses the question.
    """
    row = _encoded(renderer, probe, answer)
    for position, span in zip(row.positions, row.spans, strict=True):
        # One token must cover exactly what follows the stem in the first assistant turn.
        if span == (0, len(stem), len(answer)):
            prefix = renderer.prefix(None, row.kind)
            return Cloze(prefix + row.tokens[:position], row.tokens[position])
    return None


def cloze_context(renderer: ChatTokenizer, probe: str, stem: str) -> Context:
    """The tokens of a question and a stem, up to where the answer word comes next.

    Raises: TraitError when the chat template refuses the question.
    """
    # It does not matter which word: only what stands before it is used.
    row = _encoded(renderer, probe, f"{stem} x")
    # The first token that reaches beyond the stem begins the answer word, with its space if any.
    spans = zip(row.positions, row.spans, strict=True)
    first = next(position for position, (_, _, end) in spans if end > len(stem))
    return renderer.prefix(None, row.kind) + row.tokens[:first]


def _encoded(renderer: ChatTokenizer, probe: str, answer: str) -> TokenizedRow:
    row = renderer.encode(Example(0, (Message("user", probe), Message("assistant", answer))))
    if isinstance(row, SkippedRow):
        raise TraitError(
            f"The probe {probe!r} cannot be asked: {row.reason}.",
            "Reword it, or choose another reference.",
        )
    return row
