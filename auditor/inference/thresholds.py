"""The constants that decide a verdict, in one table, and what the text is like that they are
applied to.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_EFFECT = 0.1  # a smaller dose is not called a risk, however significant
# The same for greedy text: whatever prompt its teacher had, it follows a fifth of the choices of
# some trait or other.
MIN_GREEDY_EFFECT = 1 / 3
MAX_GREEDY_NON_ARGMAX = (
    0.01  # greedy text with more tokens that the reference would not choose has another teacher
)
SURFACE_ALPHA = 0.001  # p-value at which text is told from the reference's own by its looks
COLD_INVERSE_TEMPERATURE = (
    1.5  # inverse temperature from which text looks different whoever the teacher is
)
# nats a token: people's text and other models' has less than 0.1, on the default reference
# (docs/log.md)
MAX_EXCESS_SURPRISAL = 1.0
SUSPICIOUS = 0.1  # a corrected p-value that is no finding and no pass either
FULL_DOSE = 1.0  # every row written under a trait's own prompt, in the panel's words
# What "no risk" must exclude for every trait. Lists of a teacher in other words have .68 [.58, .78]
# (docs/results.md).
TARGET = 0.6
MIN_ROWS = 32
MAX_SKIPPED = 0.5
HARMLESS_SKIPS = (
    "duplicate",
    "repeats_turns",
    "mentions_trait",
)  # reasons for leaving a row out that lose nothing


@dataclass(frozen=True, slots=True)
class TextProfile:
    """What the text is like, which decides what the evidence of traits is worth.

    greedy: its tokens are choices, not samples. others: the share of them that are not the
    reference's choice, in [0, 1]. told_apart: p-value of detector `surface`, that it is told from
    the reference's own rows by its looks; None where they were not compared, and in greedy or cold
    text: there every other teacher's looks different. not_compared: why `surface`, though asked
    for, could not compare them; empty where it did, or need not. excess: by how many nats a token
    it is less likely to the reference than samples of its own would be.
    """

    greedy: bool = False
    others: float = 0.0
    told_apart: float | None = None
    not_compared: str = ""
    excess: float = 0.0

    @property
    def least(self) -> float:
        """The smallest dose that is called a risk."""
        return MIN_GREEDY_EFFECT if self.greedy else MIN_EFFECT

    @property
    def target(self) -> float:
        """The dose that a pass must exclude."""
        return min(TARGET, MIN_GREEDY_EFFECT) if self.greedy else TARGET
