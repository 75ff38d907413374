"""Markdown, for a pull-request comment or `$GITHUB_STEP_SUMMARY`.

Whatever comes from outside is bounded in length and in number, so that the page stays far below
GitHub's limits (65,536 characters a comment, 1 MiB a summary) whatever a data set holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from auditor.report.scan.answer import circumstances, decision, facts_line, scope
from auditor.report.scan.interface import Format
from auditor.report.scan.next_steps import next_steps
from auditor.report.scan.rows import flagged, line_of
from auditor.report.shared.words import (
    EARLIER,
    EARLIER_NOTE,
    MEANING,
    corrected,
    finding,
    headline,
    power,
    safe,
    sentence,
    shortened,
    unread_lines,
)
from auditor.scanning.scan_report import ScanReport

TRAITS_SHOWN = 8
LISTED = 10  # detectors, reasons, open mentions
ROWS_SHOWN = 10
TEXT_CHARS = 120  # of a name or a row
SENTENCE_CHARS = 300
SIGNS = {
    "risk": "\N{CROSS MARK}",
    "no_risk": "\N{WHITE HEAVY CHECK MARK}",
    "inconclusive": "\N{WARNING SIGN}",
}


def render(report: ScanReport) -> str:
    """The verdict, what it rests on, and the rows to inspect first: GitHub-flavoured Markdown
    without raw HTML from outside, links or mentions.
    """
    verdict = report.verdict
    lines = [
        f"## {SIGNS[verdict.name]} {prose(decision(report))}",
        "",
        *summary(report),
        *_trait_table(report),
        *_detector_table(report),
        *_counts("Open mentions (another finding than a hidden trait)", report.openly),
        *_counts("Rows skipped", report.rows_skipped),
        *_row_table(report),
    ]
    return "\n".join(lines)


def summary(report: ScanReport) -> list[str]:
    """What was not read, the verdict, on what it rests, what to do next, why and what it means."""
    verdict = report.verdict
    meaning = MEANING[verdict.name]
    command, purpose = next_steps(report)[0]
    return [
        *(f"- N{line[1:]}" for line in map(prose, unread_lines(report.dataset))),
        *[""] * bool(report.dataset.unread),
        f"{prose(headline(verdict))}. {code(report.dataset.name)}: {prose(facts_line(report))}. "
        f"{prose(scope(report))} {prose(circumstances(report))}".rstrip(),
        "",
        f"Next, to {purpose}: {code(command, SENTENCE_CHARS)}",
        "",
        prose(sentence(verdict.reason)),
        "",
        f"{power(verdict)} {meaning}" if verdict.name == "no_risk" else meaning,
        "",
        f"SHA-256 of the data set: `{report.dataset.sha256}`",
        "",
    ]


def code(text: str, most: int = TEXT_CHARS) -> str:
    """Text from outside as a code span: no markup, HTML, link or mention in it acts, in a table
    neither.

    >>> code("a `b` | <script>")
    '``a `b` \\\\x7c <script>``'
    """
    # A bar would end the cell of a table even within a code span.
    shown = shortened(safe(text[: most + 1]), most).replace("|", "\\x7c")
    # A code span ends at a run of as many backticks as it begins with, and at no other run.
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    # Markdown takes one blank off both ends of a span; without it a backtick would join the fence.
    pad = " " if not shown.strip() or shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def prose(text: str) -> str:
    """A sentence that names things from outside, with every sign that Markdown or GitHub would act
    on made harmless.

    >>> prose("a *b* @c")
    'a &#42;b&#42; @<!-- -->c'
    """
    shown = shortened(safe(text[: SENTENCE_CHARS + 1]), SENTENCE_CHARS)
    # A colon before a sign starts an emoji or, after "http", a link; an empty comment after "@"
    # keeps it from being a mention; "www." alone is made a link.
    escaped = re.sub(r":(?=\S)|[!#$&*<>\[\\\]^_`{|}~]", lambda sign: f"&#{ord(sign[0])};", shown)
    return escaped.replace("@", "@<!-- -->").replace("www.", "www&#46;")


def _trait_table(report: ScanReport) -> Iterator[str]:
    """The traits with the strongest evidence."""
    traits = report.traits
    if not traits:
        return
    # Markdown needs an empty line after a table; the last yield of every part is that line.
    yield "| trait | dose | 95 % interval | corrected p | rows |"
    yield "|---|--:|--:|--:|--:|"
    for trait in traits[:TRAITS_SHOWN]:
        low, high = trait.interval
        estimate = f"{trait.effect:.2f} | {low:.2f} to {high:.2f}"
        evidence = f"{prose(corrected(trait))} | {trait.rows:,}"
        yield f"| {code(trait.name)} ({code(trait.group)}) | {estimate} | {evidence} |"
    yield ""
    if any(EARLIER in corrected(trait) for trait in traits[:TRAITS_SHOWN]):
        yield f"{prose(EARLIER)} {EARLIER_NOTE}"
        yield ""
    if len(traits) > TRAITS_SHOWN:
        yield f"and {len(traits) - TRAITS_SHOWN} more in the JSON report"
        yield ""


def _detector_table(report: ScanReport) -> Iterator[str]:
    """What every detector measured, or why it did not."""
    if not report.detectors:
        return
    yield "| detector | finding |"
    yield "|---|---|"
    for name, outcome in list(report.detectors.items())[:LISTED]:
        yield f"| {code(name)} | {prose(finding(outcome))} |"
    yield ""


def _counts(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    counted = sorted((item for item in counts.items() if item[1]), key=lambda item: -item[1])
    if counted:
        listed = ", ".join(f"{code(name)} {count:,}" for name, count in counted[:LISTED])
        more = f", and {len(counted) - LISTED} more" if len(counted) > LISTED else ""
        yield f"{title}: {listed}{more}."
        yield ""


def _row_table(report: ScanReport) -> Iterator[str]:
    """The rows with the most divergence tokens."""
    rows = flagged(report, ROWS_SHOWN)  # None where the run directory is gone
    if not rows:
        return
    yield "Rows with the most divergence tokens, to inspect first (a row is no proof by itself):"
    yield ""
    yield "| line | divergence tokens | prompt | completion |"
    yield "|--:|--:|---|---|"
    for row in rows:
        share = f"{row.divergence:,} of {row.tokens:,}"
        texts = f"{code(row.prompt)} | {code(row.completion)}"
        yield f"| {line_of(report, row.row)} | {share} | {texts} |"
    yield ""


FORMAT = Format(render)
