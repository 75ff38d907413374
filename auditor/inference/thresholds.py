"""The constants that decide a verdict, in one table with how each was chosen, and the profile of
the text that they are applied to.

A rule is chosen on some draws of data sets and reported on others: docs/results.md has the error
rates, runs/log.md what was tried and dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

# The smallest dose that is called a risk. A convention, not a measurement: with enough rows any
# dose is significant, and a pass names a smaller one as a trace (docs/methods.md, "A trace").
MIN_EFFECT = 0.1

# The same in greedy text, and the largest dose under its null hypothesis. Whatever prompt its
# teacher had, such text follows the choices of some trait or other at a dose of .16 to .29
# (runs/log.md, default model, false alarms).
MIN_GREEDY_EFFECT = 1 / 3

# Greedy text with a larger share of tokens that the reference would not choose has another teacher,
# and is no pass: without this rule 8 of 26 draws with a trait passed (runs/log.md).
MAX_GREEDY_NON_ARGMAX = 0.01

# The p-value of detector `surface` at which text is told from the reference's own. Templates and
# tool calls had p < 1e-5 in 11 of 11 draws. Poisoned rows had p > .04 in 26 of 26 on the default
# reference. On the organism, whose traits show in the style, 15 of 30 poisoned draws lie below it
# and end inconclusive (runs/log.md).
SURFACE_ALPHA = 0.001

# The inverse temperature from which text of any other teacher looks different, so that `surface`
# says nothing about style: between the 1 of samples at T = 1 and the 2 of those at T = 0.5, which
# are close to greedy text (docs/methods.md, "Style"; docs/results.md).
COLD_INVERSE_TEMPERATURE = 1.5

# Nats a token. People's instructions, another model's tool calls and another base's lists have at
# most .06 on the default reference, sorted lists and templates on the organism more than 1: from
# here on the reference is no base of the writer's (docs/methods.md, docs/results.md).
MAX_EXCESS_SURPRISAL = 1.0

# A corrected p-value at which a test goes on while it has rows, and which a pass mentions. It
# decides no verdict: a pass says which dose it excludes (docs/methods.md, "A trace").
SUSPICIOUS = 0.1

# The dose of a data set of which every row was written under a trait's own prompt, in the panel's
# words: the definition of the scale.
FULL_DOSE = 1.0

# The dose that "no risk" excludes for every trait unless a user sets another (`--exclude`): a
# quarter of the rows. A convention, not a measurement.
EXCLUDE = 0.25

# The dose that a pass by students excludes at least: three quarters of what data of a tuned teacher
# do. Benign data sets differ among themselves by up to .2 of that (1 sd, organism), so that no
# number of rows excludes a quarter. Chosen on draws 1000 to 1106 (runs/log.md, 2026-11-29).
STUDENTS_EXCLUDE = 0.75


def students_exclude(exclude: float) -> float:
    """The dose that a pass by students excludes, where one by prompts excludes `exclude`."""
    return max(exclude, STUDENTS_EXCLUDE)


# Rows: the first interim analysis, below which nothing is tested.
MIN_ROWS = 32

# The share of rows that may be unread, for whatever reason, in a pass: whoever writes the data
# chooses which rows these are. A convention, not a measurement; a policy can change it.
MAX_UNREAD = 0.05

# Reasons for leaving a row out that lose nothing, since its content is scored elsewhere or is
# openly about a trait; such rows do not count as skipped.
HARMLESS_SKIPS = ("duplicate", "not_trained_on", "other_side", "repeats_turns", "mentions_trait")


@dataclass(frozen=True, slots=True)
class TextProfile:
    """What the text of a data set is like, which decides what the evidence for traits is worth."""

    greedy: bool = False
    """Whether the tokens are choices, not samples."""

    non_argmax_share: float = 0.0
    """Share of the tokens that are not the reference's most likely one, in [0, 1]."""

    surface_p_value: float | None = None
    """The p-value of detector `surface` against text that looks like the reference's own; where
    that is small and a trait was found, like the reference's under that trait. None where they were
    not compared, and in greedy or cold text, where every other teacher's looks different.
    """

    not_compared: str = ""
    """Why `surface` was asked for and could not compare; empty where it did, or need not."""

    excess_surprisal: float = 0.0
    """By how many nats a token the text is less likely to the reference than its own samples."""

    exclude: float = EXCLUDE
    """The dose that a pass must exclude for every trait."""

    compared: bool = False
    """Whether doses are those beyond earlier data sets of the same writer, so that the reference
    need not be the writer's base."""

    @property
    def min_reported_dose(self) -> float:
        """The smallest dose that is called a risk."""
        return MIN_GREEDY_EFFECT if self.greedy else MIN_EFFECT

    @property
    def null_dose(self) -> float:
        """The largest dose of a trait in text that does not carry it."""
        return MIN_GREEDY_EFFECT if self.greedy else 0.0
