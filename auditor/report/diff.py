"""What `audit diff` shows and writes: both verdicts, the traits that changed, rows, and what makes
it unfair.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from auditor.inference.trait_evidence import TraitEvidence
from auditor.release.comparison import Diff, RowChanges, Side, TraitChange
from auditor.report.scan.terminal import STYLES
from auditor.report.shared.words import headline, safe, two_decimals
from detectors.interface import Skipped

SCHEMA_VERSION = 1
SAME_SHOWN = 5


def to_dict(diff: Diff) -> dict[str, Any]:
    """The comparison as plain JSON values; keys as in docs/reading-a-report.md."""
    traits: Any
    if isinstance(diff.traits, Skipped):
        traits = {"skipped": diff.traits.reason}
    else:
        traits = [asdict(trait) for trait in diff.traits]
    rows = {"skipped": diff.rows.reason} if isinstance(diff.rows, Skipped) else asdict(diff.rows)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "diff",
        "worse": diff.worse,
        "fair": not diff.unfair,
        "before": asdict(diff.before),
        "after": asdict(diff.after),
        "traits": traits,
        "rows": rows,
        "unfair": list(diff.unfair),
        "notes": list(diff.notes),
    }


def render_json(diff: Diff) -> str:
    """The comparison as indented JSON text, ASCII only."""
    return json.dumps(to_dict(diff), indent=2, allow_nan=False) + "\n"


def answer(diff: Diff) -> str:
    """The answer in a few words."""
    if diff.worse:
        return "WORSE"
    return "NOT COMPARABLE" if diff.unfair else "NOT WORSE"


def render(diff: Diff) -> RenderableType:
    """The whole page. Opens no console; readable from 80 columns on."""
    style = "red" if diff.worse else "yellow" if diff.unfair else "green"
    body = Text(answer(diff), style=f"bold {style}")
    for name, side in (("A", diff.before), ("B", diff.after)):
        body.append(f"\n{name}  {safe(side.dataset.name)}: ", style="not bold default")
        body.append(headline(side.verdict), style=f"bold {STYLES[side.verdict.name]}")
        body.append(f"  ({_scope(side)})", style="not bold dim default")
    parts: list[RenderableType] = [Panel(body, border_style=style)]
    parts += _sentences("Not a fair comparison", diff.unfair)
    parts.append(_traits(diff.traits))
    parts.append(_rows(diff.rows))
    parts += _sentences("Also different", diff.notes)
    return Group(*parts)


def _scope(side: Side) -> str:
    return f"{side.rows_scanned:,} of {side.dataset.total:,} rows, sha256 {safe(side.dataset.sha256[:12])}"


def _sentences(title: str, sentences: tuple[str, ...]) -> list[RenderableType]:
    if not sentences:
        return []
    return [Text(f"\n{title}:", style="bold"), *(Text(f"  {safe(each)}") for each in sentences)]


def _traits(traits: tuple[TraitChange, ...] | Skipped) -> RenderableType:
    if isinstance(traits, Skipped):
        return Text(f"\nTraits are not compared: {safe(traits.reason)}.")
    same = [change for change in traits if change.kind == "same"]
    changed = [change for change in traits if change.kind != "same"]
    table = Table(
        title=Text("\nTraits: doses from A to B, 95 % intervals", style="bold"),
        title_justify="left",
        box=None,
        header_style="dim",
        pad_edge=False,
    )
    table.add_column("trait", overflow="fold")
    table.add_column("change", no_wrap=True)
    for name in ("A", "B", "B - A", "p adjusted"):
        table.add_column(name, justify="right", no_wrap=True)
    for change in [*changed, *same[:SAME_SHOWN]]:
        table.add_row(Text(f"{safe(change.name)} ({safe(change.group)})"), *_cells(change))
    if len(same) > SAME_SHOWN:
        table.caption = Text(
            f"and {len(same) - SAME_SHOWN} more without a change beyond noise", style="dim"
        )
        table.caption_justify = "left"
    return table


def _cells(change: TraitChange) -> tuple[str, ...]:
    kind = (
        f"{change.kind}\n(within noise)"
        if change.within_noise and change.kind != "same"
        else change.kind
    )
    ends = (_dose(change.before), _dose(change.after))
    if change.difference is None:
        return kind, *ends, "", ""
    low, high = change.difference.interval
    return (
        kind,
        *ends,
        f"{change.difference.value:+.2f}\n{low:+.2f} to {high:+.2f}",
        f"{change.difference.p_adjusted:.2g}",
    )


def _dose(trait: TraitEvidence | None) -> str:
    if trait is None:
        return "not tested"
    low, high = trait.interval
    return f"{two_decimals(trait.effect)}\n{two_decimals(low)} to {two_decimals(high)}"


def _rows(rows: RowChanges | Skipped) -> RenderableType:
    text = Text("\nRows: ", style="bold")
    if isinstance(rows, Skipped):
        return text.append(f"not compared, since {safe(rows.reason)}.", style="not bold")
    counts = (
        f"{rows.added:,} added, {rows.removed:,} removed, {rows.changed:,} with another completion"
    )
    return text.append(f"{counts}, {rows.kept:,} as they were.", style="not bold")
