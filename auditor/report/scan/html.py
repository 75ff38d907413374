"""The report of a scan as one HTML file, which says what it leaves out of a large report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from auditor.report.scan.answer import circumstances, decision, facts, scope
from auditor.report.scan.charts import (
    Analysis,
    divergence_plot,
    exclusion_plot,
    forest,
    forest_scale,
)
from auditor.report.scan.interface import Format
from auditor.report.scan.next_steps import next_steps
from auditor.report.shared.banner import Banner, Fact
from auditor.report.shared.page import html_page
from auditor.report.shared.words import (
    EARLIER,
    EARLIER_NOTE,
    corrected,
    headline,
    power,
    sentence,
    shortened,
    unread_lines,
)
from auditor.scanning.scan_report import ExampleRow, ScanReport, TokenSpan
from auditor.scanning.verdict import reported_text
from detectors.interface import Evidence, Skipped

ROWS_SHOWN = 200
TOKENS_SHOWN = 400  # of a row
PROMPT_SHOWN = 2_000  # characters
TRAITS_SHOWN = 200
TRAITS_OPEN = 12  # traits and rows after these are folded away
ROWS_OPEN = 5


def render(report: ScanReport) -> str:
    """The page, which stands alone."""
    return html_page("scan.html", page_values(report))


def banner(report: ScanReport) -> Banner:
    """Its first screen."""
    is_default = report.is_reference_named is False
    label = "reference, not named by you" if is_default else "reference"
    reference = Fact(str(report.reference.get("name", "unknown")), label, is_default)
    return Banner(
        style=report.verdict.name,
        word=headline(report.verdict),
        decision=decision(report),
        about=f"{scope(report)} {circumstances(report)}",
        facts=[*facts(report), reference],
        subject=report.dataset.name,
        warnings=unread_lines(report.dataset),
        steps=next_steps(report),
    )


def page_values(report: ScanReport) -> dict[str, object]:
    """What its template shows."""
    verdict, settings = report.verdict, report.settings
    traits = report.traits[:TRAITS_SHOWN]
    by_prompts = report.detectors.get("trait")
    values = by_prompts.values if isinstance(by_prompts, Evidence) else {}
    analyses: Sequence[Analysis] = values.get("looks", ())
    limit, scale = reported_text(report.detectors, report.settings).exclude, forest_scale(traits)
    projected = projection(report, analyses, limit)
    # The page says nothing of divergence tokens that were not looked for; the table of detectors
    # has the reason.
    divergence = report.divergence if isinstance(report.divergence, dict) else {}
    level = f"{100 * settings['alpha']:g} %" if "alpha" in settings else "the level asked for"
    power_plot = tenths_plot = None
    if analyses:
        power_plot = Markup(exclusion_plot(analyses, limit, projected))
    if divergence.get("places") and divergence["flagged"]:
        tenths_plot = Markup(divergence_plot(divergence["places"]))
    is_marked = any(EARLIER in corrected(trait) for trait in traits)
    unmeasured = {
        name: outcome.reason
        for name, outcome in report.detectors.items()
        if isinstance(outcome, Skipped)
    }
    return {
        "title": f"{headline(verdict)} · {report.dataset.name}",
        "banner": banner(report),
        "report": report,
        "reason": sentence(verdict.reason),
        "power": power(verdict),
        "traits": traits[:TRAITS_OPEN],
        "more_traits": traits[TRAITS_OPEN:],
        "traits_left_out": len(report.traits) - len(traits),
        "level": level,
        "earlier": f"{EARLIER} {EARLIER_NOTE}" if is_marked else "",
        "unmeasured": unmeasured,
        "forest": lambda trait: Markup(forest(trait.effect, trait.interval, scale)),
        "looks": analyses,
        "looks_plot": power_plot,
        "limit": limit,
        "projected": projected[-1][0] if projected else None,
        "divergence": divergence,
        "places_plot": tenths_plot,
        "rows_open": ROWS_OPEN,
        "rows": [_shown_row(row) for row in report.examples[:ROWS_SHOWN]],
        "rows_left_out": max(0, len(report.examples) - ROWS_SHOWN),
    }


def projection(
    report: ScanReport, analyses: Sequence[Analysis], limit: float
) -> list[tuple[float, float]]:
    """How the excluded dose would go on to fall, as points (rows, dose) from the last interim
    analysis to the one at `limit`.

    By the standard errors alone: with estimates that stay, the bound's distance to the estimate
    falls with the square root of the trait's rows. Only for an inconclusive verdict, and empty
    where it cannot be said: no bound, an estimate that is itself at the limit, or a weakest trait
    that is not scored any more.
    """
    if report.verdict.name != "inconclusive" or not analyses:
        return []
    rows, bound = float(analyses[-1]["rows"]), analyses[-1]["excluded"]
    names = {trait.name: trait for trait in report.traits}
    weakest = names.get(analyses[-1]["weakest"] or "")
    if bound is None or weakest is None or weakest.eliminated_at is not None:
        return []
    if weakest.effect >= limit or bound < limit:
        return []
    gap = bound - weakest.effect
    # The gap shrinks to limit - effect when the rows have grown by the square of that ratio.
    more = weakest.rows * ((gap / (limit - weakest.effect)) ** 2 - 1)
    # A curve: nine points are smooth enough at the size of the drawing.
    steps = [more * eighths / 8 for eighths in range(9)]
    return [
        (rows + step, weakest.effect + gap * (weakest.rows / (weakest.rows + step)) ** 0.5)
        for step in steps
    ]


def _shown_row(row: ExampleRow) -> dict[str, object]:
    """A row as the page shows it. parts: its tokens, of which consecutive ones without a flag are
    joined, since a page of one element a token is slow to open and to search.
    """
    # The counts are of the whole row, also where its tokens are cut.
    flags = [token.flag for token in row.tokens]
    shown = row.tokens[:TOKENS_SHOWN]
    parts: list[TokenSpan] = []
    for flagged, group in groupby(shown, key=lambda token: bool(token.flag)):
        tokens = list(group)
        parts += tokens if flagged else [TokenSpan("".join(token.text for token in tokens), "")]
    return {
        "index": row.index,
        "prompt": shortened(row.prompt, PROMPT_SHOWN),
        "parts": parts,
        "tokens": len(flags),
        "flagged": flags.count("divergence"),
        "ties": flags.count("tie"),
        "left_out": len(flags) - len(shown),
    }


FORMAT = Format(render)
