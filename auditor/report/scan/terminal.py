"""The page that a scan shows at a terminal: the decision, the next step, then what they rest on.

Flags are marked by signs as well as by colour, so that the page says the same without colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from auditor.data.example import DatasetInfo
from auditor.report.scan.answer import circumstances, decision, facts_line, scope
from auditor.report.scan.next_steps import next_steps, shell_lines
from auditor.report.shared.terminal import (
    VERDICT_STYLES,
    answer_panel,
    paragraph,
    section_table,
)
from auditor.report.shared.words import (
    EARLIER,
    EARLIER_NOTE,
    GLOSSARY,
    corrected,
    finding,
    headline,
    power,
    safe,
    sentence,
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
COMMAND_WIDTH = 78  # of 80 columns, after the indent

# Before a token, after it, and its style, by the token's flag.
MARKS = {"divergence": ("«", "»", "bold red"), "tie": ("‹", "›", "yellow"), "": ("", "", "default")}


def terminal_page(report: ScanReport) -> RenderableType:
    """The page. A part that has nothing to show is left out."""
    verdict = report.verdict
    basis = [f"{safe(report.dataset.name)}: {facts_line(report)}", scope(report)]
    about = [line] if (line := circumstances(report)) else []
    lines, style = [*unread_lines(report.dataset), *basis], VERDICT_STYLES[verdict.name]
    parts: list[RenderableType] = [
        answer_panel(decision(report), style, lines, about, headline(verdict))
    ]
    first, *more = next_steps(report)
    parts += _steps("Next", [first])
    why = sentence(verdict.reason)
    parts.append(paragraph("Why", f"{why} {power(verdict)}" if verdict.name == "no_risk" else why))
    parts.append(paragraph("How the rows were read", _how_read(report.dataset)))
    if report.traits:
        parts.append(_trait_table(report))
    if report.detectors:
        parts.append(_detector_table(report))
    parts += _counts(report)
    # Clean data has divergence tokens too, so that they are shown of a finding only.
    if report.examples and verdict.name == "risk":
        title = Text("\nExample rows: ", style="bold")
        for flag, meaning in (("divergence", " divergence token   "), ("tie", " near-tie")):
            opening, closing, flag_style = MARKS[flag]
            title.append(f"{opening}…{closing}", style=f"not bold {flag_style}")
            title.append(meaning, style="not bold")
        parts += [title, *(_example(row) for row in report.examples[:EXAMPLES_SHOWN])]
    parts += _steps("More to do", more)
    where = f"Scores of every row and token: {safe(report.run)}\n" if report.run else ""
    parts.append(Text(f"\n{where}Words: {GLOSSARY}", style="dim", overflow="ignore", no_wrap=True))
    return Group(*parts)


def _how_read(dataset: DatasetInfo) -> str:
    """The format under the name that forces it, and how rows were drawn: a wrong guess about either
    shows here first.
    """
    columns = [f"{role} {column}" for role, column in dataset.columns.items() if role != column]
    how_read = f"format {dataset.format}" + f" ({', '.join(columns)})" * bool(columns)
    if dataset.format == "text":
        how_read += ": no prompts, so each row is scored as one completion"
    return safe(f"{how_read}; {dataset.sampling}")


def _steps(title: str, steps: Sequence[tuple[str, str]]) -> Iterator[RenderableType]:
    """Commands with what they are for, ready to paste: no line of them is broken by wrapping."""
    if not steps:
        return
    yield Text(f"\n{title}:", style="bold")
    for command, purpose in steps:
        for line in shell_lines(command, COMMAND_WIDTH):
            yield Text(f"  {line}", no_wrap=True, overflow="ignore")
        yield Text(f"      {purpose}", style="dim")


def _trait_table(report: ScanReport) -> RenderableType:
    """The traits with the strongest evidence."""
    traits = report.traits
    more = len(traits) - TRAITS_SHOWN
    notes = [f"and {more} more in the JSON report"] if more > 0 else []
    if any(EARLIER in corrected(trait) for trait in traits[:TRAITS_SHOWN]):
        notes.append(f"{EARLIER} {EARLIER_NOTE}")
    caption = "\n".join(notes)
    table = section_table("Traits, strongest evidence first", caption)
    table.add_column("trait", overflow="fold")
    for name in ("dose", "95 % interval", "corrected p", "rows"):
        table.add_column(name, justify="right", no_wrap=True)
    for trait in traits[:TRAITS_SHOWN]:
        low, high = trait.interval
        table.add_row(
            Text(f"{safe(trait.name)} ({safe(trait.group)})"),
            two_decimals(trait.effect),
            f"{two_decimals(low)} to {two_decimals(high)}",
            corrected(trait),
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
