"""Markdown, for a pull-request comment or `$GITHUB_STEP_SUMMARY`.

Whatever comes from outside is bounded in length and in number, so that the page stays far below
GitHub's limits (65,536 characters a comment, 1 MiB a summary) whatever a data set holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from auditor.inference.trait_evidence import TraitEvidence
from auditor.report.scan.rows import RowSummary, flagged, line_of
from auditor.report.shared.words import MEANING, headline, p_text, power, safe
from auditor.scanning.scan_report import ScanReport
from detectors.interface import Skipped

TRAITS_SHOWN = 8
LISTED = 10  # detectors, reasons, open mentions
ROWS_SHOWN = 10
TEXT_CHARS = 120
SENTENCE_CHARS = 300
SIGNS = {
    "risk": "\N{CROSS MARK}",
    "no_risk": "\N{WHITE HEAVY CHECK MARK}",
    "inconclusive": "\N{WARNING SIGN}",
}


def render(report: ScanReport) -> str:
    """The report as GitHub-flavoured Markdown without raw HTML from outside, links or mentions."""
    verdict = report.verdict
    return "\n".join(
        [
            f"## {SIGNS[verdict.name]} {prose(headline(verdict))}",
            "",
            *summary(report),
            *_traits(report),
            *_evidence(report),
            *_counts("Open mentions (another finding than a hidden trait)", report.openly),
            *_counts("Rows skipped", report.rows_skipped),
            *_rows(report),
        ]
    )


def summary(report: ScanReport) -> list[str]:
    """The reason, what it means, and on what it rests."""
    verdict = report.verdict
    meaning = MEANING[verdict.name]
    return [
        f"{prose(verdict.reason)}.",
        "",
        f"{power(verdict.min_effect)} {meaning}" if verdict.name == "no_risk" else meaning,
        "",
        f"- Data set: {code(report.dataset.name)}, {report.rows_scanned:,} of {report.dataset.total:,} rows scored, "
        f"SHA-256 `{report.dataset.sha256}`",
        f"- Reference: {code(str(report.reference.get('name', 'unknown')))}; results hold for students of this model",
        f"- Risk: {verdict.risk:.2f} (strength of evidence, not a probability of poisoning)",
        "",
    ]


def code(text: str) -> str:
    """Text from outside as a code span: no markup, HTML, link or mention in it acts, in a table
    neither.

    >>> code("a `b` | <script>")
    '``a `b` \\\\x7c <script>``'
    """
    shown = _shown(text, TEXT_CHARS).replace("|", "\\x7c")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if not shown.strip() or shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def prose(text: str) -> str:
    """A sentence that names things from outside, with every sign that Markdown or GitHub would act
    on made harmless.

    >>> prose("a *b* @c")
    'a &#42;b&#42; @<!-- -->c'
    """
    kept = _shown(text, SENTENCE_CHARS)
    escaped = re.sub(r":(?=\S)|[!#$&*<>\[\\\]^_`{|}~]", lambda sign: f"&#{ord(sign[0])};", kept)
    return escaped.replace("@", "@<!-- -->").replace("www.", "www&#46;")


def _shown(text: str, most: int) -> str:
    text = safe(text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _traits(report: ScanReport) -> Iterator[str]:
    if not report.traits:
        return
    ranked = report.traits
    yield "| trait | dose | 95 % interval | p adjusted | rows |"
    yield "|---|--:|--:|--:|--:|"
    for trait in ranked[:TRAITS_SHOWN]:
        yield _trait(trait)
    yield ""
    if len(ranked) > TRAITS_SHOWN:
        yield f"and {len(ranked) - TRAITS_SHOWN} more in the JSON report"
        yield ""


def _trait(trait: TraitEvidence) -> str:
    low, high = trait.interval
    numbers = f"{trait.effect:.2f} | {low:.2f} to {high:.2f} | {prose(p_text(trait.p_adjusted))} | {trait.rows:,}"
    return f"| {code(trait.name)} ({code(trait.group)}) | {numbers} |"


def _evidence(report: ScanReport) -> Iterator[str]:
    if not report.detectors:
        return
    yield "| detector | finding |"
    yield "|---|---|"
    for name, found in list(report.detectors.items())[:LISTED]:
        text = f"not measured: {found.reason}" if isinstance(found, Skipped) else found.summary
        yield f"| {code(name)} | {prose(text)} |"
    yield ""


def _counts(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    found = sorted((item for item in counts.items() if item[1]), key=lambda item: -item[1])
    if found:
        listed = ", ".join(f"{code(name)} {count:,}" for name, count in found[:LISTED])
        more = f", and {len(found) - LISTED} more" if len(found) > LISTED else ""
        yield f"{title}: {listed}{more}."
        yield ""


def _rows(report: ScanReport) -> Iterator[str]:
    rows = flagged(report, ROWS_SHOWN)
    if not rows:
        return
    yield "Rows with the most divergence tokens, to inspect first (a row is no proof by itself):"
    yield ""
    yield "| line | divergence tokens | prompt | completion |"
    yield "|--:|--:|---|---|"
    for row in rows:
        yield _row(report, row)
    yield ""


def _row(report: ScanReport, row: RowSummary) -> str:
    found = f"{row.divergence:,} of {row.tokens:,}"
    return f"| {line_of(report, row.row)} | {found} | {code(row.prompt)} | {code(row.completion)} |"
