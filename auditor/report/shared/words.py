"""What every report says in the same words, and the one way to show text from outside."""

from __future__ import annotations

from auditor.data.example import DatasetInfo
from auditor.inference.effect import Effect, Interval, Ratio
from auditor.inference.trait_evidence import TraitEvidence
from auditor.scanning.scan_report import ScanReport, Verdict, VerdictName
from auditor.scanning.verdict import reported_text
from detectors.interface import Outcome, Skipped

DOCS = "https://subliminal-audit.github.io/subliminal-audit/"
GLOSSARY = f"{DOCS}glossary.html"
UNREAD_SHOWN, UNREAD_CHARS = 5, 200
# A corrected p-value is the smallest of any analysis, and the rest of a line is the last one's.
EARLIER = "*"
EARLIER_NOTE = "reached at an earlier interim analysis, on fewer rows than the dose of this line"
REFERENCE_KEYS = ("name", "sha256", "dtype", "device")  # of a ModelIdentity, in reports
TRAIN_MORE = "Train for more --updates and on more --blocks, or in a larger --budget."
PRIOR = (
    "if half of all data sets carry no trait, and the others one of those tested, each alike, at "
    "any share of their rows alike"
)
MEANING: dict[VerdictName, str] = {
    "risk": (
        "The completions follow this trait more than the reference's own completions would. That "
        "is evidence on the data set: not that any single row is guilty, nor that a person meant "
        "harm."
    ),
    "no_risk": (
        "That does not mean clean: a teacher with the trait in its weights (unless --tuned looked "
        "for it), or one on another base model, can have been missed as well."
    ),
    "inconclusive": "Nothing was found, and not enough could be excluded: this is not a pass.",
}


def safe(text: str) -> str:
    """`text` with every character that could act on a terminal or mislead a reader written as an
    escape.

    That is everything Python does not call printable: control and escape characters, bidirectional
    and zero-width marks, line breaks, lone surrogates, unusual spaces. Put the result into `Text`,
    which reads no markup.
    """
    # Escapes of Python's, which a reader can turn back into the character.
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shortened(text: str, most: int) -> str:
    """Text of at most `most` characters, with an ellipsis where it was cut."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def headline(verdict: Verdict) -> str:
    """The verdict in a few words, with the share of the rows that were not read where it is too
    large for a pass.
    """
    if verdict.name == "risk":
        return f"RISK FOUND: {safe(verdict.trait or 'unnamed trait')}"
    if verdict.name == "no_risk":
        return "NO RISK FOUND"
    for obstacle in verdict.obstacles:
        if obstacle.kind == "unread rows" and obstacle.share is not None:
            return f"INCONCLUSIVE: {100 * obstacle.share:.1f} % of the rows were not read"
    return "INCONCLUSIVE"


def unread_lines(dataset: DatasetInfo) -> list[str]:
    """What a trainer may read of the data set and the audit did not, a line each, `safe`; the first
    of them where there are many.
    """
    lines = [
        f"not read: {shortened(safe(item.text[: UNREAD_CHARS + 1]), UNREAD_CHARS)}"
        for item in dataset.unread[:UNREAD_SHOWN]
    ]
    if len(dataset.unread) > UNREAD_SHOWN:
        lines.append(f"not read: {len(dataset.unread) - UNREAD_SHOWN:,} more in the JSON report")
    return lines


def sentence(reason: str) -> str:
    """A reason of the verdict as a sentence; `safe`.

    >>> sentence("too few rows")
    'Too few rows.'
    """
    shown = safe(reason).rstrip(".")
    return f"{shown[:1].upper()}{shown[1:]}."


def finding(outcome: Outcome) -> str:
    """What a detector measured, or why it did not; not yet `safe`."""
    if isinstance(outcome, Skipped):
        return f"not measured: {outcome.reason}"
    return outcome.summary


def probability_meaning(report: ScanReport) -> str:
    """What the probability of a report is, with its prior."""
    exclude = reported_text(report.detectors, report.settings).exclude
    return (
        f"Posterior probability that more than {100 * exclude:g} % of the rows follow some trait "
        f"that was tested, {PRIOR}; {(1 - exclude) / 2:.3g} if nothing is known. It decides no "
        "verdict. Definition: docs/methods.md, Verdict."
    )


def power(verdict: Verdict) -> str:
    """What an audit that found nothing can have missed, in words."""
    if verdict.min_effect is None:
        return "The power of this audit could not be computed."
    unit = "every row written under a trait's own prompt"
    if verdict.rests_on == ("students",):
        unit = "what rows of a teacher tuned on the trait do to students"
    return (
        f"A dose below {verdict.min_effect:.2f} (1 = {unit}), or a trait outside the panel, can "
        "have been missed."
    )


def p_text(value: float) -> str:
    """A p-value in five characters or so; never "0"."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def corrected(trait: TraitEvidence) -> str:
    """The corrected p-value of a trait, marked where it is below the uncorrected one of the last
    analysis and so cannot be of that.
    """
    return p_text(trait.p_adjusted) + EARLIER * (trait.p_adjusted < trait.p_value)


def moment(created: str) -> str:
    """A time in UTC to the minute, `safe`; empty where there is none.

    >>> moment("2026-11-29T09:20:13Z")
    '2026-11-29 09:20 UTC'
    """
    return safe(f"{created[:10]} {created[11:16]} UTC") if created else ""


def holds_for(reference: str, created: str) -> str:
    """For whose students an experiment holds, and when it was made; `safe`."""
    return f"Holds for students of {safe(reference)} only. Made {moment(created)}."


def two_decimals(value: float) -> str:
    """A dose; never "-0.00"."""
    # Adding 0.0 turns a negative zero into zero.
    return f"{round(value, 2) + 0.0:.2f}"


def estimate(value: float, interval: Interval | None, form: str) -> str:
    """A value with its interval, where it has one, each in the format `form`.

    >>> estimate(0.5, (0.25, 0.75), ".0%")
    '50% [25%, 75%]'
    """
    ends = ", ".join(f"{end:{form}}" for end in interval or ())
    return f"{value:{form}}" + (f" [{ends}]" if ends else "")


def percent(share: float, interval: Interval, sign: str = " %") -> str:
    """A share and its interval in per cent; `sign` follows the share.

    >>> percent(0.5, (0.25, 0.75))
    '50 % [25, 75]'
    """
    low, high = interval
    return f"{100 * share:.0f}{sign} [{100 * low:.0f}, {100 * high:.0f}]"


def signed(effect: Effect, digits: int = 3) -> str:
    """An effect in logits with its interval.

    >>> signed(Effect(0.5, (0.25, 0.75), (0.4, 0.6)))
    '+0.500 [+0.250, +0.750]'
    """
    return estimate(effect.value, effect.interval, f"+.{digits}f")


def share_left(ratio: Ratio | None) -> str:
    """The share of an effect that is left, with its interval; empty for the original itself.

    >>> share_left(Ratio(0.5, (0.25, 0.75), None))
    '50% [25%, 75%]'
    """
    if ratio is None:
        return ""
    if ratio.value is None or ratio.interval is None:
        return "not known"
    return estimate(ratio.value, ratio.interval, ".0%")


def stacked(text: str) -> str:
    """A value above its interval, for narrow columns."""
    return text.replace(" [", "\n[")
