"""The frames of the pages at a terminal: the panel with the answer, tables, lists of sentences.

Text that comes from outside goes through `safe` and into `Text`, never into markup. The pages open
no console, and are readable from 80 columns on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from auditor.report.shared.words import safe
from auditor.scanning.scan_report import VerdictName

VERDICT_STYLES: dict[VerdictName, str] = {
    "risk": "red",
    "no_risk": "green",
    "inconclusive": "yellow",
}


def answer_panel(
    answer: str, style: str, reasons: Iterable[str], circumstances: Iterable[str], title: str = ""
) -> Panel:
    """The answer in the colour of `style`; why below it, and dimmed on what it rests. The title
    stands in the frame.
    """
    # What is appended inherits the style of the first text, unless it says "not bold default".
    body = Text(answer, style=f"bold {style}")
    for line in reasons:
        body.append(f"\n{line}", style="not bold default")
    for line in circumstances:
        body.append(f"\n{line}", style="not bold dim default")
    heading = Text(title, style=f"bold {style}") if title else None
    return Panel(body, title=heading, title_align="left", border_style=style)


def section_table(title: str, caption: str = "", *, pad_edge: bool = False) -> Table:
    """An empty table without lines, with its title above and its caption below."""
    return Table(
        title=Text(f"\n{title}", style="bold"),
        title_justify="left",
        caption=Text(caption, style="dim") if caption else None,
        caption_justify="left",
        box=None,
        header_style="dim",
        pad_edge=pad_edge,
    )


def paragraph(title: str, text: str) -> Text:
    """Text after its title, on one line; the text is `safe` already."""
    return Text(f"\n{title}: ", style="bold").append(text, style="not bold")


def sentences(title: str, lines: Sequence[str]) -> list[RenderableType]:
    """Sentences under a title, one a line; nothing where there are none."""
    if not lines:
        return []
    return [Text(f"\n{title}:", style="bold"), *(Text(f"  {safe(line)}") for line in lines)]
