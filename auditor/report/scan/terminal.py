"""The page that a scan shows at a terminal: verdict, traits, evidence, examples, next steps.

Flags are marked by signs as well as by colour, so that the page says the same without colour.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from auditor.report.scan.next_steps import next_steps
from auditor.report.shared.terminal import (
    VERDICT_STYLES,
    answer_panel,
    paragraph,
    section_table,
)
from auditor.report.shared.words import (
    finding,
    headline,
    p_text,
    power,
    probability,
    safe,
    shortened,
    two_decimals,
    unread_lines,
)
from auditor.scanning.scan_report import ExampleRow, ScanReport
from detectors.interface import Skipped

TRAITS_SHOWN = 8
EXAMPLES_SHOWN = 3
PROMPT_CHARS = 120
TOKENS_SHOWN = 90
TOKENS_BEFORE_FLAG = 12

# Before a token, after it, and its style, by the token's flag.
MARKS = {"divergence": ("«", "»", "bold red"), "tie": ("‹", "›", "yellow"), "": ("", "", "default")}


def terminal_page(report: ScanReport) -> RenderableType:
    """The page. A part that has nothing to show is left out."""
    verdict = report.verdict
    reasons = [*unread_lines(report.dataset), safe(verdict.reason)]
    if verdict.name == "no_risk":
        reasons.append(power(verdict.min_effect))
    # The format under the name that forces it, and how rows were drawn: a wrong guess about either
    # shows here first.
    dataset = report.dataset
    columns = [f"{role} {column}" for role, column in dataset.columns.items() if role != column]
    how_read = f"format {dataset.format}" + f" ({', '.join(columns)})" * bool(columns)
    if dataset.format == "text":
        how_read += ": no prompts, so each row is scored as one completion"
    reference = safe(str(report.reference.get("name", "unknown")))
    circumstances = (
        f"{safe(dataset.name)}   {report.rows_scanned:,} of {dataset.total:,} rows   "
        f"reference {reference}"
    )
    basis = [safe(f"{how_read}; {dataset.sampling}"), circumstances, probability(report)]
    style = VERDICT_STYLES[verdict.name]
    parts: list[RenderableType] = [answer_panel(headline(verdict), style, reasons, basis)]
    if report.traits:
        parts.append(_trait_table(report))
    if report.detectors:
        parts.append(_detector_table(report))
    parts += _counts(report)
    if report.examples:
        title = Text("\nExample rows: ", style="bold")
        for flag, meaning in (("divergence", " divergence token   "), ("tie", " near-tie")):
            opening, closing, flag_style = MARKS[flag]
            title.append(f"{opening}…{closing}", style=f"not bold {flag_style}")
            title.append(meaning, style="not bold")
        parts += [title, *(_example(row) for row in report.examples[:EXAMPLES_SHOWN])]
    steps = Text("\nNext:", style="bold")
    for command, purpose in next_steps(report):
        steps.append(f"\n  {command}", style="not bold default")
        steps.append(f"\n      {purpose}", style="not bold dim default")
    return Group(*parts, steps)


def _trait_table(report: ScanReport) -> RenderableType:
    """The traits with the strongest evidence."""
    traits = report.traits
    more = len(traits) - TRAITS_SHOWN
    caption = f"and {more} more in the JSON report" if more > 0 else ""
    table = section_table("Traits, strongest evidence first", caption)
    table.add_column("trait", overflow="fold")
    for name in ("dose", "95 % interval", "z", "p adjusted", "rows"):
        table.add_column(name, justify="right", no_wrap=True)
    for trait in traits[:TRAITS_SHOWN]:
        low, high = trait.interval
        table.add_row(
            Text(f"{safe(trait.name)} ({safe(trait.group)})"),
            two_decimals(trait.effect),
            f"{two_decimals(low)} to {two_decimals(high)}",
            f"{trait.z:+.1f}",
            p_text(trait.p_adjusted),
            f"{trait.rows:,}",
        )
    return table


def _detector_table(report: ScanReport) -> RenderableType:
    """What every detector measured, or why it did not."""
    table = section_table("Evidence, one row a detector")
    table.add_column("detector", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for name, outcome in report.detectors.items():
        style = "dim" if isinstance(outcome, Skipped) else ""
        table.add_row(Text(safe(name), style=style), Text(safe(finding(outcome)), style=style))
    return table


def _counts(report: ScanReport) -> list[RenderableType]:
    """Rows that mention a trait openly, and rows that were skipped."""
    parts: list[RenderableType] = []
    open_mentions = sorted(report.openly.items(), key=lambda item: -item[1])
    if listed := ", ".join(f"{safe(name)} {rows:,}" for name, rows in open_mentions if rows):
        text = f"{listed}. Open bias is a different finding from a hidden one."
        parts.append(paragraph("Open mentions (rows)", text))
    if report.rows_skipped:
        skipped = report.rows_skipped.items()
        listed = ", ".join(f"{rows:,} {safe(why.replace('_', ' '))}" for why, rows in skipped)
        text = f"{sum(report.rows_skipped.values()):,} ({listed})."
        parts.append(paragraph("Rows skipped", text))
    return parts


def _example(row: ExampleRow) -> Text:
    """A row with its tokens marked, from shortly before the first flag where that comes late."""
    text = Text(f"row {row.index:,}  ", style="cyan")
    # Escapes are longer than what they stand for, so that the text is cut after they are made.
    prompt = shortened(safe(row.prompt), PROMPT_CHARS)
    text.append(prompt, style="dim default").append("\n  ")
    # A flag that is shown keeps some tokens before it, by which a reader can see what it is about.
    first = next((number for number, token in enumerate(row.tokens) if token.flag), 0)
    start = max(0, first - TOKENS_BEFORE_FLAG) if first >= TOKENS_SHOWN else 0
    shown = row.tokens[start : start + TOKENS_SHOWN]
    text.append("…" if start else "", style="default")
    for token in shown:
        opening, closing, style = MARKS[token.flag]
        text.append(f"{opening}{safe(token.text)}{closing}", style=style)
    return text.append("…" if start + len(shown) < len(row.tokens) else "", style="default")
