"""What `audit verify` shows and writes: a table, a small dose-response plot, warnings; and the same
as JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from auditor.inference.effect import Effect
from auditor.report.shared.words import safe, share_left, signed, stacked
from auditor.students.result import ArmResult, Training, TransferResult, VerifyReport

SCHEMA_VERSION = 1
REFERENCE_KEYS = ("name", "sha256", "dtype", "device")  # of a ModelIdentity, in reports
WIDTH = 34  # columns of the plot
STYLES = {
    "removed": "green",
    "reduced": "yellow",
    "not reduced": "red",
    "no transfer shown": "yellow",
}


def to_dict(report: VerifyReport) -> dict[str, Any]:
    """The report as plain JSON values; keys as in docs/verify-schema.md."""
    result = report.result
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "verify",
        "trait": result.trait,
        "transferred": result.transferred,
        "arms": [_arm(arm) for arm in result.arms],
        "control": asdict(result.control),
        "blocks": result.blocks,
        "blocks_planned": result.blocks_planned,
        "rows_per_block": result.rows_per_block,
        "updates": result.updates,
        "reference_loss": list(result.reference_loss),
        "warnings": list(result.warnings),
        "datasets": dict(report.datasets),
        "reference": report.reference.as_dict(REFERENCE_KEYS),
        "settings": dict(report.settings),
        "versions": dict(report.versions),
    }


def render_json(report: VerifyReport) -> str:
    """The report as indented JSON text, ASCII only.

    Raises ValueError for a number that is NaN or infinite.
    """
    return json.dumps(to_dict(report), indent=2, allow_nan=False) + "\n"


def _arm(arm: ArmResult) -> dict[str, Any]:
    values = asdict(arm)
    values["left"] = values.pop("effect_ratio")
    return {**values.pop("training"), **values}


def render(report: VerifyReport) -> RenderableType:
    """The whole page. Opens no console; readable from 80 columns on."""
    result = report.result
    parts: list[RenderableType] = [_headline(report)]
    parts.append(_open_table(result) if result.trait is None else _table(result))
    if result.trait is not None:
        parts.append(_plot(result))
    if result.warnings:
        parts.append(Text("\nWarnings:", style="bold"))
        parts += [Text(f"  {safe(warning)}") for warning in result.warnings]
    return Group(*parts)


def headline(result: TransferResult) -> str:
    """The answer in a few words."""
    if not result.transferred:
        return "NO TRANSFER SHOWN"
    return f"TRANSFER SHOWN: {safe(result.trait or result.arms[0].traits[0].name)}"


def _headline(report: VerifyReport) -> RenderableType:
    result = report.result
    style = "red" if result.transferred else "yellow"
    body = Text(headline(result), style=f"bold {style}")
    body.append(f"\n{sentence(result)}", style="not bold default")
    stopped = (
        "" if result.blocks == result.blocks_planned else f" (of {result.blocks_planned}: settled)"
    )
    body.append(
        f"\n{result.blocks} blocks{stopped} of {result.rows_per_block:,} rows, {result.updates:,} updates a student   "
        f"reference {safe(report.reference.name)}",
        style="not bold dim default",
    )
    return Panel(body, border_style=style)


def sentence(result: TransferResult) -> str:
    """What the students of the original show, in a sentence."""
    original = result.arms[0]
    if result.trait is None:
        best = original.traits[0]
        return f"Of {len(original.traits)} traits students of {safe(original.name)} move most to {safe(best.name)}."
    effect = original.curve[-1].effect
    moved = "" if effect is None else f" by {signed(effect)} logits"
    if result.transferred:
        return f"{safe(original.name)} moves its students to the trait{moved}."
    return f"{safe(original.name)} moves its students{moved}: nothing can be said about a defence."


def _table(result: TransferResult) -> RenderableType:
    table = _frame(result, "Students, against those of the clean control")
    for name in ("effect", "rank", "left", "task loss", "verdict"):
        table.add_column(name, justify="right")
    for arm in result.arms:
        effect = arm.curve[-1].effect
        table.add_row(
            *_trained(arm.training),
            Text("" if effect is None else stacked(signed(effect))),
            f"{arm.rank} of {family_size(arm, result.trait)}",
            Text(stacked(share_left(arm.effect_ratio))),
            f"{arm.training.task_loss:.3f}",
            Text(arm.verdict or "", style=STYLES.get(arm.verdict or "", "default")),
        )
    clean = result.control
    table.add_row(*_trained(clean), "", "", "", f"{clean.task_loss:.3f}", "", style="dim")
    return table


def _open_table(result: TransferResult) -> RenderableType:
    table = _frame(result, "Largest effect on any trait, against students of the clean control")
    for name in ("trait", "effect", "p adjusted", "answers moved", "task loss"):
        table.add_column(name, justify="right")
    for arm in result.arms:
        best, moved = arm.traits[0], arm.curve[-1].total_variation
        table.add_row(
            *_trained(arm.training),
            Text(safe(best.name)),
            Text(stacked(signed(best.effect))),
            "not known" if best.p_adjusted is None else f"{best.p_adjusted:.2g}",
            "not read" if moved is None else f"{moved:.1%}",
            f"{arm.training.task_loss:.3f}",
        )
    return table


def _frame(result: TransferResult, title: str) -> Table:
    table = Table(
        title=Text(f"\n{title}", style="bold"),
        title_justify="left",
        box=None,
        header_style="dim",
        pad_edge=False,
    )
    note = f"brackets: 95 % intervals over blocks; task loss without training {result.reference_loss[0]:.3f} nats a token"
    table.caption, table.caption_justify = Text(note, style="dim"), "left"
    table.add_column("data set", overflow="fold")
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    return table


def _trained(training: Training) -> tuple[Text, str, str]:
    return Text(safe(training.name)), f"{training.rows:,}", f"{training.tokens:,}"


def family_size(arm: ArmResult, trait: str | None) -> int:
    """How many traits the rank of `trait` is among."""
    group = next(each.group for each in arm.traits if each.name == trait)
    return sum(each.group == group for each in arm.traits)


def _plot(result: TransferResult) -> RenderableType:
    """One line an arm and dose: the effect as a dot on its interval, with a bar where there is no
    effect.
    """
    text = Text("\nEffect by dose (updates), in logits", style="bold")
    shown = [effect for arm in result.arms for point in arm.curve if (effect := point.effect)]
    ends = [0.0, *(end for effect in shown for end in (effect.value, *(effect.interval or ())))]
    low, high = min(ends), max(ends)
    width = max(len(safe(arm.name)[-18:]) for arm in result.arms)
    for arm in result.arms:
        for point in arm.curve[1:]:
            if point.effect is not None:
                name = safe(arm.name)[-18:] if point is arm.curve[1] else ""
                drawn = line(point.effect, low, high, WIDTH)
                text.append(
                    f"\n  {name:<{width}} {point.updates:>6}  {drawn} {point.effect.value:+.3f}",
                    style="not bold",
                )
    return text


def line(effect: Effect, low: float, high: float, width: int) -> str:
    """An effect on an axis from `low` to `high`, `width` characters long.

    >>> line(Effect(1.0, (0.5, 1.5), (1.0, 1.0)), -1.0, 2.0, 13)
    '    | --o--  '
    """

    def at(value: float) -> int:
        share = (value - low) / (high - low) if high > low else 0.0
        return round(min(1.0, max(0.0, share)) * (width - 1))

    cells = [" "] * width
    start, end = effect.interval or (effect.value, effect.value)
    cells[at(0.0)] = "|"
    for place in range(at(start), at(end) + 1):
        cells[place] = "+" if cells[place] == "|" else "-"
    cells[at(effect.value)] = "o"
    return "".join(cells)
