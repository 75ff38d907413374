"""What `audit diff` shows and writes: both verdicts, the traits that changed, rows, and what makes
it unfair.
"""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from auditor.inference.trait_evidence import TraitEvidence
from auditor.release.comparison import Diff, TraitChange
from auditor.report.shared.terminal import VERDICT_STYLES, paragraph, section_table, sentences
from auditor.report.shared.words import headline, p_text, safe, two_decimals
from auditor.scanning.verdict import ORDER
from detectors.interface import Skipped

SCHEMA_VERSION = 1
UNCHANGED_SHOWN = 5


def to_dict(diff: Diff) -> dict[str, object]:
    """The comparison as plain JSON values; keys as in docs/reading-a-report.md."""
    traits: object
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


def answer(diff: Diff) -> str:
    """The answer in a few words."""
    # Verdicts can be compared, and be worse, where the doses of two audits cannot.
    if diff.worse:
        return "WORSE"
    if diff.unfair:
        return "NOT COMPARABLE"
    before, after = (ORDER.index(side.verdict.name) for side in (diff.before, diff.after))
    return "BETTER" if after > before else "NOT WORSE"


def terminal_page(diff: Diff) -> RenderableType:
    """The page: the answer with both verdicts, then what it rests on."""
    style = "red" if diff.worse else "yellow" if diff.unfair else "green"
    body = Text(answer(diff), style=f"bold {style}")
    for name, side in (("A", diff.before), ("B", diff.after)):
        scope = f"{side.rows_scanned:,} of {side.dataset.total:,} rows"
        digest = safe(side.dataset.sha256[:12])
        body.append(f"\n{name}  {safe(side.dataset.name)}: ", style="not bold default")
        body.append(headline(side.verdict), style=f"bold {VERDICT_STYLES[side.verdict.name]}")
        body.append(f"  ({scope}, sha256 {digest})", style="not bold dim default")
    rows = diff.rows
    if isinstance(rows, Skipped):
        counts = f"not compared, since {safe(rows.reason)}."
    else:
        counts = (
            f"{rows.added:,} added, {rows.removed:,} removed, {rows.changed:,} with another "
            f"completion, {rows.kept:,} as they were."
        )
    return Group(
        Panel(body, border_style=style),
        *sentences("Not a fair comparison", diff.unfair),
        _trait_table(diff.traits),
        paragraph("Rows", counts),
        *sentences("Also different", diff.notes),
    )


def _trait_table(traits: tuple[TraitChange, ...] | Skipped) -> RenderableType:
    """The traits that changed, and a few of those that did not."""
    if isinstance(traits, Skipped):
        return Text(f"\nTraits are not compared: {safe(traits.reason)}.")
    # A panel has dozens of traits; those that changed are all shown, the others are examples.
    unchanged = [change for change in traits if change.kind == "same"]
    changed = [change for change in traits if change.kind != "same"]
    more = len(unchanged) - UNCHANGED_SHOWN
    caption = f"and {more} more without a change beyond noise" if more > 0 else ""
    table = section_table("Traits: doses from A to B, 95 % intervals", caption)
    table.add_column("trait", overflow="fold")
    table.add_column("change", no_wrap=True)
    for name in ("A", "B", "B - A", "corrected p"):
        table.add_column(name, justify="right", no_wrap=True)
    for change in [*changed, *unchanged[:UNCHANGED_SHOWN]]:
        noise = "\n(within noise)" if change.within_noise and change.kind != "same" else ""
        difference = p_adjusted = ""
        if change.difference is not None:
            low, high = change.difference.interval
            difference = f"{change.difference.value:+.2f}\n{low:+.2f} to {high:+.2f}"
            p_adjusted = p_text(change.difference.p_adjusted)
        table.add_row(
            Text(f"{safe(change.name)} ({safe(change.group)})"),
            f"{change.kind}{noise}",
            _dose(change.before),
            _dose(change.after),
            difference,
            p_adjusted,
        )
    return table


def _dose(trait: TraitEvidence | None) -> str:
    """A dose above its interval."""
    if trait is None:
        return "not tested"
    low, high = trait.interval
    return f"{two_decimals(trait.effect)}\n{two_decimals(low)} to {two_decimals(high)}"
