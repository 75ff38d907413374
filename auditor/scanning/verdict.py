"""The one definition of the verdict, used by the terminal, the exit code and every report format
alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from auditor.inference.thresholds import (
    COLD_INVERSE_TEMPERATURE,
    HARMLESS_SKIPS,
    MAX_EXCESS_SURPRISAL,
    MAX_GREEDY_NON_ARGMAX,
    MAX_SKIPPED,
    MIN_EFFECT,
    MIN_ROWS,
    SURFACE_ALPHA,
    SUSPICIOUS,
    TextProfile,
)
from auditor.inference.trait_evidence import TraitEvidence, is_found, ranked
from auditor.scanning.scan_report import Verdict
from detectors.interface import Evidence, Skipped
from detectors.tuned import (
    TunedCopies,
)


def with_copies(
    prompted: Verdict,
    copies: TunedCopies | Skipped,
    judge: Callable[..., Verdict],
    chosen: Sequence[str],
) -> Verdict:
    """The verdict on trait prompts together with that on tuned copies, where those were asked for."""
    if not {"trait", "tuned"} & set(chosen):
        return replace(
            prompted, reason="a verdict rests on detector trait or tuned, and neither was run"
        )
    if isinstance(copies, TunedCopies):
        found = judge(copies.traits, copies.bounds, scanned=copies.rows)
        found = replace(
            found, reason=f"by copies of the reference tuned on the traits, {found.reason}"
        )
        return combined(prompted, found) if "trait" in chosen else found
    return incomplete(prompted, copies.reason) if "tuned" in chosen else prompted


def writing_of(outcomes: Mapping[str, Evidence | Skipped]) -> TextProfile:
    """What the detectors `trait`, or `tuned` without it, and `surface` say of the text."""
    trait, tuned = (
        each.values if isinstance(each := outcomes.get(name), Evidence) else {}
        for name in ("trait", "tuned")
    )
    text = trait or tuned
    writing = TextProfile(
        greedy=bool(text.get("greedy")),
        others=float(text.get("others", 0.0)),
        excess=float(text.get("excess", 0.0)),
    )
    if writing.greedy or text.get("sharpness", 1.0) >= COLD_INVERSE_TEMPERATURE:
        return writing
    match outcomes.get("surface"):
        case Evidence(values={"classifier": {"p_value": p_value}}):
            return replace(writing, told_apart=p_value)
        case Evidence(values={"classifier": {"skipped": reason}}) | Skipped(reason=reason):
            return replace(writing, not_compared=reason)
    return writing


def lost_share(skipped: Mapping[str, int], rows: int) -> float:
    """The share of `rows` rows read that could not be used, of those that had to be: not of what
    was SET_ASIDE.
    """
    aside = sum(skipped.get(reason, 0) for reason in HARMLESS_SKIPS)
    return (sum(skipped.values()) - aside) / max(1, rows - aside)


def combined(prompted: Verdict, tuned: Verdict) -> Verdict:
    """One verdict from that on trait prompts and that on copies tuned on the traits: the worse of
    the two.

    Of two findings the one with the smaller p-value. p-values of both must be corrected for both.
    The dose excluded is the larger one.
    """
    worst = ("risk", "inconclusive", "no_risk")
    verdict = min((prompted, tuned), key=lambda each: (worst.index(each.name), -each.risk))
    if verdict.name == "risk":
        return verdict
    doses = [prompted.min_effect, tuned.min_effect]
    excluded = None if None in doses else max(each for each in doses if each is not None)
    reason = f"{prompted.reason}; {tuned.reason}" if verdict.name == "no_risk" else verdict.reason
    return replace(verdict, risk=max(prompted.risk, tuned.risk), reason=reason, min_effect=excluded)


def incomplete(verdict: Verdict, reason: str) -> Verdict:
    """The verdict when the test of tuned copies was asked for and could not be made, for `reason`:
    no pass.
    """
    if verdict.name != "no_risk":
        return verdict
    reason = f"copies of the reference tuned on the traits were asked for and not tested: {reason}"
    return replace(verdict, name="inconclusive", reason=reason)


def decide(
    traits: Sequence[TraitEvidence],
    bounds: Mapping[str, float | None],
    *,
    alpha: float,
    scanned: int,
    skipped_share: float,
    writing: TextProfile = TextProfile(),
) -> Verdict:
    """risk, no_risk or inconclusive, from corrected p-values, effect sizes and the doses that could
    be excluded.

    risk: some trait `is_found`, with a dose of at least MIN_EFFECT in text that was compared with
        the reference's own, if `surface` was asked for, and is not told from it by its looks, nor
        less likely to it than its own by MISFIT; or of MIN_GREEDY_EFFECT in greedy text. That of
        the largest dose is named. The chance of this on data that the reference wrote is at most
        alpha. A stranger's text, or a template, fits some prompts better than others for reasons of
        style.
    no_risk: no trait has, none is suspicious (the same with SUSPICIOUS for alpha; happens on clean
        data at that rate at most), and the one-sided 95 % bound of the effect of every trait tested
        lies below TARGET, or MIN_GREEDY_EFFECT in greedy text. That passes only if nearly all of
        its tokens are the reference's choice (GREEDY_OTHERS): the others were chosen by a teacher
        that is not known. Nor does it with a MISFIT: the reference is no base of the writer's then,
        or the template is another. A smaller dose than MIN_EFFECT may be there for certain: then
        the reason says so.
    inconclusive: otherwise; also with fewer than MIN_ROWS rows, or more than MAX_SKIPPED of them
    skipped.

    bounds: one-sided upper 95 % bound of the dose of every trait tested; None where it was not
        measured: then nothing can be excluded.
    """
    found = [t for t in ranked(traits, alpha, writing.least) if is_found(t, alpha, writing.least)]
    risk = 1.0 - min((t.p_adjusted for t in traits if t.effect >= MIN_EFFECT), default=1.0)
    if found:
        best = found[0]
        dose = f"a dose of {best.effect:.2f}, corrected p = {best.p_adjusted:.2g}"
        text = f"the completions follow the trait {best.name} at {dose}"
        doubt = _doubt(writing)
        if not doubt:
            return Verdict("risk", risk, text, best.name, None)
        text += f", but {doubt}: another writer's style or a template can do that"
        return Verdict("inconclusive", risk, text, None, None)
    upper = max((each for each in bounds.values() if each is not None), default=None)
    obstacle = (
        _too_little(scanned, skipped_share) or _leaning(traits) or _not_excluded(bounds, writing)
    )
    obstacle = obstacle or _another_writer(writing)
    if obstacle:
        return Verdict("inconclusive", risk, obstacle, None, upper)
    text = f"every trait tested is excluded at a dose of {upper:.2f} or more, with 95 % confidence each"
    return Verdict("no_risk", risk, text + _trace(traits, alpha), None, upper)


def _doubt(writing: TextProfile) -> str:
    """Why a finding may be a matter of style; empty if it is not."""
    if writing.excess >= MAX_EXCESS_SURPRISAL:
        return _misfit(writing)
    if writing.not_compared:
        return (
            f"their looks could not be compared with the reference's own ({writing.not_compared})"
        )
    if writing.told_apart is not None and writing.told_apart <= SURFACE_ALPHA:
        return (
            f"their looks alone tell them from the reference's own (p = {writing.told_apart:.2g})"
        )
    return ""


def _too_little(scanned: int, skipped_share: float) -> str:
    if scanned < MIN_ROWS:
        return f"{scanned} rows could be scored and at least {MIN_ROWS} are needed"
    return (
        f"{skipped_share:.0%} of the rows had to be skipped" if skipped_share > MAX_SKIPPED else ""
    )


def _leaning(traits: Sequence[TraitEvidence]) -> str:
    """Which trait is no finding and no pass either; empty if there is none."""
    leaning = [t for t in traits if is_found(t, SUSPICIOUS)]
    if not leaning:
        return ""
    best = min(leaning, key=lambda t: (t.p_adjusted, -t.z))
    return (
        f"the completions lean towards the trait {best.name} (a dose of {best.effect:.2f}, corrected p = "
        f"{best.p_adjusted:.2g}), not clearly enough for a finding and too clearly for a pass"
    )


def _not_excluded(bounds: Mapping[str, float | None], writing: TextProfile) -> str:
    missing = [name for name, each in bounds.items() if each is None]
    if missing or not bounds:
        return f"the rows carry too little information on {(*missing, 'any trait')[0]}; more or longer rows are needed"
    widest = max(bounds, key=lambda name: bounds[name] or 0.0)
    highest = bounds[widest] or 0.0
    if highest < writing.target:
        return ""
    text = f"a dose of {highest:.2f} of {widest} may be there, and a pass excludes {writing.target:.2g}"
    return f"{text}; more or longer rows are needed"


def _another_writer(writing: TextProfile) -> str:
    """Why the reference is not what a pass must take it for; empty if nothing speaks against it."""
    if writing.greedy and writing.others > MAX_GREEDY_NON_ARGMAX:
        return (
            f"the text is greedy, and {writing.others:.0%} of its tokens are not what the reference would choose: "
            "their teacher is not the reference, and its wording may be unlike the panel's"
        )
    if writing.excess >= MAX_EXCESS_SURPRISAL:
        return f"{_misfit(writing)}; name the model that the students start from with --reference"
    return ""


def _misfit(writing: TextProfile) -> str:
    """That the reference is no base of the writer's, so that doses of its traits say nothing."""
    return f"the reference finds the text less likely than its own by {writing.excess:.1f} nats a token"


def _trace(traits: Sequence[TraitEvidence], alpha: float) -> str:
    """What a pass must not hide: a dose that is there for certain and too small for a risk."""
    small = [t for t in traits if 0 < t.effect < MIN_EFFECT and t.p_adjusted <= alpha]
    if not small:
        return ""
    best = min(small, key=lambda t: t.p_adjusted)
    return f"; a trace of {best.name} is there (a dose of {best.effect:.2f}, corrected p = {best.p_adjusted:.2g})"
