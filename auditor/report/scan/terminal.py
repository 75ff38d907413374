"""The page that a scan shows at a terminal: verdict, traits, evidence, examples, next steps.

Text that comes from outside goes through `safe` and into `Text`, never into markup. Flags are
marked by signs as well as by colour, so that the page says the same without colour.
"""

from __future__ import annotations

import shlex

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from auditor.data.example import DatasetInfo
from auditor.inference.trait_evidence import TraitEvidence
from auditor.model.builtin import BASE
from auditor.report.shared.words import headline, p_text, power, safe, two_decimals
from auditor.scanning.scan_report import ExampleRow, ScanReport, TokenSpan, VerdictName
from auditor.traits.panel import built_in
from detectors.interface import Evidence, Skipped

TRAITS_SHOWN = 8
EXAMPLES_SHOWN = 3
PROMPT_CHARS = 120
TOKENS_SHOWN = 90
TOKENS_BEFORE_FLAG = 12

STYLES: dict[VerdictName, str] = {"risk": "red", "no_risk": "green", "inconclusive": "yellow"}
MARKS = {"divergence": ("«", "»", "bold red"), "tie": ("‹", "›", "yellow"), "": ("", "", "")}

# What to do next, as (command, what it is for).
NEXT_STEPS: dict[VerdictName, tuple[tuple[str, str], ...]] = {
    "risk": (
        (
            "audit scan DATASET --seed 1",
            "hold the release, and see whether another draw of rows says the same",
        ),
        (
            "audit mitigate --paraphrase --mix 0.5",
            "write a defended data set, and check it by training students",
        ),
        (
            "audit scan DATASET --rows all",
            "score every row, to inspect the scores in tokens.parquet",
        ),
    ),
    "no_risk": (
        ("audit scan DATASET --output json=report.json", "keep the report with the data set"),
        ("audit traits", "see which traits this verdict covers"),
        (
            "audit scan DATASET --tuned",
            "if the teacher's weights may carry a trait: test tuned copies as well",
        ),
        (
            "audit verify DATASET --trait none",
            "or train students on the data, and see what they like",
        ),
    ),
    "inconclusive": (
        ("audit scan DATASET --rows all", "use every row; if that is too few, give more rows"),
        (
            "audit scan DATASET --reference MODEL",
            "name the base model that the students will start from",
        ),
        (
            "audit verify DATASET --trait none",
            "or train students on the data, and see what they like",
        ),
    ),
}


def render(report: ScanReport) -> RenderableType:
    """The whole page. Opens no console; readable from 80 columns on."""
    parts = [
        _verdict(report),
        _traits(report.traits),
        _evidence(report),
        _open_mentions(report.openly),
        _skipped_rows(report),
        *_examples(report.examples),
        _next_steps(report),
    ]
    return Group(*(part for part in parts if part is not None))


def _verdict(report: ScanReport) -> RenderableType:
    verdict, style = report.verdict, STYLES[report.verdict.name]
    body = Text(headline(verdict), style=f"bold {style}")
    body.append(f"\n{safe(verdict.reason)}", style="not bold default")
    if verdict.name == "no_risk":
        body.append(f"\n{power(verdict.min_effect)}", style="not bold default")
    body.append(f"\n{_read_as(report.dataset)}", style="not bold dim default")
    body.append(
        f"\nrisk {verdict.risk:.2f}   {safe(report.dataset.name)}   {report.rows_scanned:,} of "
        f"{report.dataset.total:,} rows   reference {safe(str(report.reference.get('name', 'unknown')))}",
        style="not bold dim default",
    )
    return Panel(body, border_style=style)


def _read_as(dataset: DatasetInfo) -> str:
    """The format that was detected, under the name that forces it, and how rows were chosen."""
    renamed = ", ".join(
        f"{role} {column}" for role, column in dataset.columns.items() if role != column
    )
    text = f"format {dataset.format}" + f" ({renamed})" * bool(renamed)
    if dataset.format == "text":
        text += ": no prompts, so each row is scored as one completion"
    return safe(f"{text}; {dataset.sampling}")


def _traits(traits: tuple[TraitEvidence, ...]) -> RenderableType | None:
    if not traits:
        return None
    table = _table("Traits, strongest evidence first")
    table.add_column("trait", overflow="fold")
    for name in ("dose", "95 % interval", "z", "p adjusted", "rows"):
        table.add_column(name, justify="right", no_wrap=True)
    for trait in traits[:TRAITS_SHOWN]:
        low, high = trait.interval
        numbers = (
            two_decimals(trait.effect),
            f"{two_decimals(low)} to {two_decimals(high)}",
            f"{trait.z:+.1f}",
            p_text(trait.p_adjusted),
        )
        table.add_row(
            Text(f"{safe(trait.name)} ({safe(trait.group)})"), *numbers, f"{trait.rows:,}"
        )
    if len(traits) > TRAITS_SHOWN:
        table.caption = Text(
            f"and {len(traits) - TRAITS_SHOWN} more in the JSON report", style="dim"
        )
        table.caption_justify = "left"
    return table


def _evidence(report: ScanReport) -> RenderableType | None:
    if not report.detectors:
        return None
    table = _table("Evidence, one row a detector")
    table.add_column("detector", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for name, outcome in report.detectors.items():
        if isinstance(outcome, Skipped):
            table.add_row(
                Text(safe(name), style="dim"),
                Text(f"not measured: {safe(outcome.reason)}", style="dim"),
            )
        else:
            table.add_row(Text(safe(name)), Text(safe(outcome.summary)))
    return table


def _open_mentions(openly: dict[str, int]) -> RenderableType | None:
    found = {name: rows for name, rows in openly.items() if rows}
    if not found:
        return None
    listed = ", ".join(
        f"{safe(name)} {rows:,}" for name, rows in sorted(found.items(), key=lambda item: -item[1])
    )
    text = Text("\nOpen mentions (rows): ", style="bold")
    return text.append(
        f"{listed}. Open bias is a different finding from a hidden one.", style="not bold"
    )


def _skipped_rows(report: ScanReport) -> RenderableType | None:
    if not report.rows_skipped:
        return None
    listed = ", ".join(
        f"{rows:,} {safe(reason.replace('_', ' '))}" for reason, rows in report.rows_skipped.items()
    )
    text = Text("\nRows skipped: ", style="bold")
    return text.append(f"{sum(report.rows_skipped.values()):,} ({listed}).", style="not bold")


def _examples(examples: tuple[ExampleRow, ...]) -> list[RenderableType]:
    if not examples:
        return []
    title = Text("\nExample rows: ", style="bold")
    for flag, meaning in (("divergence", " divergence token   "), ("tie", " near-tie")):
        opening, closing, style = MARKS[flag]
        title.append(f"{opening}…{closing}", style=f"not bold {style}").append(
            meaning, style="not bold"
        )
    return [title, *(_example(row) for row in examples[:EXAMPLES_SHOWN])]


def _example(row: ExampleRow) -> Text:
    text = Text(f"row {row.index:,}  ", style="cyan")
    prompt = safe(row.prompt)
    text.append(
        prompt if len(prompt) <= PROMPT_CHARS else f"{prompt[: PROMPT_CHARS - 1]}…",
        style="dim default",
    )
    text.append("\n  ")
    first = next((place for place, token in enumerate(row.tokens) if token.flag), 0)
    start = max(0, first - TOKENS_BEFORE_FLAG) if first >= TOKENS_SHOWN else 0
    shown = row.tokens[start : start + TOKENS_SHOWN]
    text.append("…" if start else "", style="default")
    for token in shown:
        _append_token(text, token)
    return text.append("…" if start + len(shown) < len(row.tokens) else "", style="default")


def _append_token(text: Text, token: TokenSpan) -> None:
    opening, closing, style = MARKS[token.flag]
    text.append(f"{opening}{safe(token.text)}{closing}", style=style or "default")


def next_steps(report: ScanReport) -> tuple[tuple[str, str], ...]:
    """What to do next, as (command, what it is for), with the reference and the panel of the scan,
    less what it did.
    """
    tuned = isinstance(report.detectors.get("tuned"), Evidence)
    done = ("--tuned",) * tuned + ("--rows all",) * (report.settings.get("rows") == "all")
    steps = [each for each in NEXT_STEPS[report.verdict.name] if not each[0].endswith(done)]
    return tuple((command + _same(report, command), purpose) for command, purpose in steps)


def _same(report: ScanReport, command: str) -> str:
    """What a command on the data set needs besides, to ask the same of it."""
    if "DATASET" not in command:
        return ""
    name, panels = (
        str(report.reference.get("name", BASE)),
        str(report.settings.get("panel", "")).split("+"),
    )
    reference = (
        "" if name == BASE or "--reference" in command else f" --reference {shlex.quote(name)}"
    )
    chosen = (
        panels if set(panels) < set(built_in()) else []
    )  # a file's name is not kept, and all are the default
    return safe(reference + "".join(f" --panel {each}" for each in chosen))


def _next_steps(report: ScanReport) -> RenderableType:
    text = Text("\nNext:", style="bold")
    for command, purpose in next_steps(report):
        text.append(f"\n  {command}", style="not bold default")
        text.append(f"\n      {purpose}", style="not bold dim default")
    return text


def _table(title: str) -> Table:
    return Table(
        title=Text(f"\n{title}", style="bold"),
        title_justify="left",
        box=None,
        header_style="dim",
        pad_edge=False,
    )
