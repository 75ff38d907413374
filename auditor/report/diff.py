"""What `audit diff` shows and writes: both verdicts, the traits that changed, rows, and what makes
it unfair.
"""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from auditor.inference.trait_evidence import TraitEvidence
from auditor.release.comparison import Diff, RowChanges, TraitChange
from auditor.report.shared.banner import Banner, Fact
from auditor.report.shared.page import html_page
from auditor.report.shared.terminal import VERDICT_STYLES, paragraph, section_table, sentences
from auditor.report.shared.words import headline, moment, p_text, safe, sentence, two_decimals
from auditor.scanning.scan_report import VerdictName
from auditor.scanning.verdict import ORDER
from detectors.interface import Skipped

SCHEMA_VERSION = 1
UNCHANGED_SHOWN = 5
NAMES_SHOWN = 3


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


def decision(diff: Diff) -> str:
    """What it comes to, in a sentence; `safe`."""
    if answer(diff) == "NOT COMPARABLE":
        return f"Cannot tell: {safe(diff.unfair[0])}"
    before, after = headline(diff.before.verdict), headline(diff.after.verdict)
    verdicts = f"both say {before}" if before == after else f"A says {before}, and B {after}"
    changes = () if isinstance(diff.traits, Skipped) else diff.traits
    names = [safe(change.name) for change in changes if change.kind == "appeared"]
    names = [name for name in names if name != safe(diff.after.verdict.trait or "")]
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    appeared = f"; {', '.join(names[:NAMES_SHOWN])}{more} appeared" if names else ""
    return f"B is {answer(diff).lower()} than A: {verdicts}{appeared}"


def style(diff: Diff) -> VerdictName:
    """Whose colours it has: green is a B that is not worse and that a scan passes."""
    if diff.worse:
        return "risk"
    return "inconclusive" if diff.unfair or diff.after.verdict.name == "risk" else "no_risk"


def advice(diff: Diff) -> str:
    """What to do next, in a sentence."""
    match answer(diff):
        case "WORSE":
            return "Stay with A, and look at the rows that were added or changed since."
        case "NOT COMPARABLE":
            return "Scan both data sets with the same --reference and --panel, and compare again."
    return "Decide about B by its verdict, as audit gate does: not worse than A is no pass."


def to_html(diff: Diff) -> str:
    """The comparison as a page that stands alone."""
    traits = () if isinstance(diff.traits, Skipped) else diff.traits
    kinds = [change.kind for change in traits]
    banner = Banner(
        style=style(diff),
        word=answer(diff),
        decision=decision(diff),
        about=f"A is {safe(diff.before.dataset.name)}, B is {safe(diff.after.dataset.name)}.",
        facts=[
            Fact(f"{len(traits):,}", "traits compared", not traits),
            Fact(f"{kinds.count('appeared')}", "appeared", "appeared" in kinds),
            Fact(f"{kinds.count('vanished')}", "vanished"),
            Fact(f"{kinds.count('moved')}", "moved"),
            *(
                []
                if isinstance(diff.rows, Skipped)
                else [
                    Fact(f"{diff.rows.added + diff.rows.changed:,}", "rows added or changed"),
                    Fact(f"{diff.rows.kept:,}", "rows as they were"),
                ]
            ),
        ],
        advice=advice(diff),
    )
    names = ("data set", "verdict", "why", "rows scored", "audited", "SHA-256")
    before, after = (
        (
            side.dataset.name,
            headline(side.verdict),
            sentence(side.verdict.reason),
            f"{side.rows_scanned:,} of {side.dataset.total:,}",
            moment(side.created) or "not known",
            side.dataset.sha256,
        )
        for side in (diff.before, diff.after)
    )
    values = {
        "title": f"{answer(diff)} · {diff.after.dataset.name}",
        "banner": banner,
        "diff": diff,
        "sides": list(zip(names, before, after, strict=True)),
        "traits": traits,
        "changed": [change for change in traits if change.kind != "same"],
        "unchanged": [change for change in traits if change.kind == "same"],
        "change_word": change_word,
        "counts": counted(diff.rows),
    }
    return html_page("diff.html", values)


def change_word(change: TraitChange) -> str:
    """What became of a trait, and whether that may be noise."""
    is_noise = change.within_noise and change.kind != "same"
    return f"{change.kind} (within noise)" if is_noise else change.kind


def counted(rows: RowChanges | Skipped) -> str:
    """How many rows differ, as a sentence; `safe`."""
    if isinstance(rows, Skipped):
        return f"not compared, since {safe(rows.reason)}."
    return (
        f"{rows.added:,} added, {rows.removed:,} removed, {rows.changed:,} with another "
        f"completion, {rows.kept:,} as they were."
    )


def terminal_page(diff: Diff) -> RenderableType:
    """The page: the answer with both verdicts, then what it rests on."""
    colour = VERDICT_STYLES[style(diff)]
    body = Text(decision(diff), style=f"bold {colour}")
    for name, side in (("A", diff.before), ("B", diff.after)):
        scope = f"{side.rows_scanned:,} of {side.dataset.total:,} rows"
        digest = safe(side.dataset.sha256[:12])
        body.append(f"\n{name}  {safe(side.dataset.name)}: ", style="not bold default")
        body.append(headline(side.verdict), style=f"bold {VERDICT_STYLES[side.verdict.name]}")
        made = f", {moment(side.created)}" if side.created else ""
        body.append(f"  ({scope}, sha256 {digest}{made})", style="not bold dim default")
    body.append(f"\nNext: {advice(diff)}", style="not bold default")
    heading = Text(answer(diff), style=f"bold {colour}")
    return Group(
        Panel(body, title=heading, title_align="left", border_style=colour),
        *sentences("Not a fair comparison", diff.unfair),
        _trait_table(diff.traits),
        paragraph("Rows", counted(diff.rows)),
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
    for name in ("A", "B", "B - A", "corrected\np"):
        table.add_column(name, justify="right", no_wrap=True)
    for change in [*changed, *unchanged[:UNCHANGED_SHOWN]]:
        difference = p_adjusted = ""
        if change.difference is not None:
            low, high = change.difference.interval
            difference = f"{change.difference.value:+.2f}\n{low:+.2f} to {high:+.2f}"
            p_adjusted = p_text(change.difference.p_adjusted)
        table.add_row(
            Text(f"{safe(change.name)}\n({safe(change.group)})"),
            change_word(change).replace(" ", "\n"),
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
