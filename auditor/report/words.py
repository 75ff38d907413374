"""What every report says in the same words, and the one way to show text that comes from outside."""

from __future__ import annotations

from auditor.records import Verdict, VerdictName

MEANING: dict[VerdictName, str] = {
    "risk": (
        "The completions follow this trait more than the reference's own completions would. That is evidence on the "
        "data set: not that any single row is guilty, nor that a person meant harm."
    ),
    "no_risk": (
        "That does not mean clean: a teacher with the trait in its weights, or one on another base model, can have "
        "been missed as well."
    ),
    "inconclusive": "Nothing was found, and not enough could be excluded: this is not a pass.",
}


def safe(text: str) -> str:
    """`text` with every character that could act on a terminal or mislead a reader written as an escape.

    That is everything Python does not call printable: control and escape characters, bidirectional and zero-width
    marks, line breaks, lone surrogates, unusual spaces. Put the result into `Text`, which reads no markup.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def headline(verdict: Verdict) -> str:
    """The verdict in a few words."""
    match verdict.name:
        case "risk":
            return f"RISK FOUND: {safe(verdict.trait or 'unnamed trait')}"
        case "no_risk":
            return "NO RISK FOUND"
        case "inconclusive":
            return "INCONCLUSIVE"


def power(min_effect: float | None) -> str:
    """What an audit that found nothing would have found, in words."""
    if min_effect is None:
        return "The power of this audit could not be computed."
    return (
        f"Excluded: a dose of {min_effect:.2f} or more (1 = every row written under a trait's own prompt). "
        "A weaker one, or a trait outside the panel, can have been missed."
    )


def p_text(value: float) -> str:
    """A p-value in five characters or so; never "0"."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def two_decimals(value: float) -> str:
    """A dose; never "-0.00"."""
    return f"{round(value, 2) + 0.0:.2f}"
