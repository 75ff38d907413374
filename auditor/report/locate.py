"""What `audit locate` shows and writes: an answer in words, a heat map of layers, and the same as
JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from auditor.attribution.result import (
    Agreement,
    CarryingLayers,
    LayerResult,
    LocateReport,
    Moved,
    Share,
    Students,
)
from auditor.attribution.shares import ENOUGH, format_layers
from auditor.inference.effect import Effect
from auditor.report.shared.heat_map import shade
from auditor.report.shared.words import safe, share_left, signed, stacked
from auditor.report.verify import REFERENCE_KEYS

SCHEMA_VERSION = 1


def to_dict(report: LocateReport) -> dict[str, Any]:
    """The report as plain JSON values; keys as in docs/locate-schema.md."""
    values = {
        key: value
        for key, value in asdict(report).items()
        if key not in ("layers", "carrying_layers", "students")
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "locate",
        "answer": answer(report),
        "carriers": {
            "said": report.carrying_layers.clear,
            "layers": list(report.carrying_layers.layers),
            "share": _share(report.carrying_layers.share),
        },
        "layers": [_layer(layer) for layer in report.layers],
        "students": None if report.students is None else _students(report.students),
        **{
            key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
        },
        "reference": report.reference.as_dict(REFERENCE_KEYS),
        "difference": {"value": report.difference[0], "interval": list(report.difference[1])},
    }


def render_json(report: LocateReport) -> str:
    """The report as indented JSON text, ASCII only.

    Raises ValueError for a number that is NaN or infinite.
    """
    return json.dumps(to_dict(report), indent=2, allow_nan=False) + "\n"


def _layer(layer: LayerResult) -> dict[str, Any]:
    moved = None
    if layer.moved is not None:
        moved = dict(zip(("attention", "mlp"), map(asdict, layer.moved), strict=True))
    return {
        "layer": layer.layer,
        "attribution": layer.total.value,
        "interval": list(layer.total.interval),
        "student_effect": None if layer.student is None else asdict(layer.student),
        "student_own_loss": layer.own_loss,
        "components": {"attention": _share(layer.attention), "mlp": _share(layer.mlp)},
        "entered": _share(layer.entered),
        "moved": moved,
    }


def _share(share: Share) -> dict[str, Any]:
    return {"value": share.value, "interval": list(share.interval)}


def _students(students: Students) -> dict[str, Any]:
    values = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(students).items()
    }
    for frozen in values["frozen"]:
        frozen["left"] = frozen.pop("effect_ratio")
    return values


def answer(report: LocateReport) -> str:
    """The answer in words."""
    said = [where(report.carrying_layers, len(report.layers))]
    students = report.students
    if students is None:
        return said[0]
    if not students.transferred:
        return f"{said[0]} Students of all layers show no transfer, so nothing can be said about training."
    alone = [layer for layer in report.layers if layer.student is not None]
    best = max(alone, key=lambda layer: layer.student.value if layer.student else 0.0)
    assert best.student is not None
    said.append(
        f"Of students that train one layer, those of layer {best.layer} take over most: {signed(best.student)} logits, "
        f"against {signed(students.effect)} with all layers."
    )
    if students.recipe:
        frozen = students.frozen[0]
        kept = f"{share_left(frozen.effect_ratio)} of it is left: {frozen.verdict}"
        said.append(f"With {numbered(frozen.layers)} frozen {kept}.")
    return " ".join(said)


def where(carriers: CarryingLayers, depth: int) -> str:
    """Which layers carry the difference.

    >>> where(CarryingLayers(0, 1, Share(0.81, (0.7, 0.89)), True), 3)
    'Layers 0-1 of 3 carry 81 % [70, 89] of the difference.'
    """
    share = carriers.share
    low, high = (f"{100 * end:.0f}" for end in share.interval)
    interval_text = f"{100 * share.value:.0f} % [{low}, {high}]"
    if len(carriers.layers) == depth:
        return f"Where the trait enters cannot be said: no fewer than all {depth} layers reach {100 * ENOUGH:.0f} %."
    named = f"{numbered(carriers.layers).capitalize()} of {depth}"
    if carriers.clear:
        verb = "carries" if len(carriers.layers) == 1 else "carry"
        return f"{named} {verb} {interval_text} of the difference."
    return f"Where the trait enters cannot be said: {numbered(carriers.layers)} of {depth}, the best choice, have {interval_text}."


def numbered(layers: tuple[int, ...]) -> str:
    """Layers in words.

    >>> numbered((2,)), numbered((0, 1, 2))
    ('layer 2', 'layers 0-2')
    """
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {format_layers(layers)}"


def render(report: LocateReport) -> RenderableType:
    """The whole page. Opens no console; readable from 80 columns on."""
    parts: list[RenderableType] = [_headline(report), _heat_map(report)]
    if report.students is not None:
        parts += [_frozen_table(report.students), _agreement(report.students.agreement)]
    if report.recipes:
        parts.append(Text(f"\nRecipes in the run's directory: {', '.join(report.recipes)}"))
    if report.warnings:
        parts.append(Text("\nWarnings:", style="bold"))
        parts += [Text(f"  {safe(warning)}") for warning in report.warnings]
    return Group(*parts)


def _headline(report: LocateReport) -> RenderableType:
    style = "green" if report.carrying_layers.clear else "yellow"
    body = Text(safe(answer(report)), style="bold")
    low, high = report.difference[1]
    body.append(
        f"\n{safe(report.trait)} against {safe(report.counterfactual)}: "
        f"{report.difference[0]:.2f} [{low:.2f}, {high:.2f}] nats at the first divergence token of "
        f"{report.rows} rows (of {report.scanned})   "
        f"reference {safe(report.reference.name)}",
        style="not bold dim",
    )
    return Panel(body, border_style=style)


def _heat_map(report: LocateReport) -> RenderableType:
    table = Table(
        title=Text("\nBy layer", style="bold"), title_justify="left", box=None, header_style="dim"
    )
    note = "attention, MLP: of the difference, %; enters: of it, in the residual stream, %; brackets: 95 % intervals"
    if report.students is not None:
        note += "; student: of this layer alone, logits; moved: change of attention, MLP weights over the control's, %"
    names = ("layer", "attention", "MLP", "both", "enters")
    for name in (*names, *(("student", "moved") if report.students is not None else ())):
        table.add_column(name, justify="right")
    largest = max(
        abs(x.value) for layer in report.layers for x in (layer.attention, layer.mlp, layer.entered)
    )
    strongest = max(
        (abs(layer.student.value) for layer in report.layers if layer.student), default=0.0
    )
    for layer in report.layers:
        cells = [_cell(share, largest) for share in (layer.attention, layer.mlp)]
        cells += [_percent(layer.total), _cell(layer.entered, largest)]
        if report.students is not None:
            cells.append(_student(layer.student, strongest))
            cells.append(Text("" if layer.moved is None else "\n".join(map(_moved, layer.moved))))
        table.add_row(str(layer.layer), *cells)
    return Group(table, Text(note, style="dim"))


def _cell(share: Share, largest: float) -> Text:
    return _coloured(_percent(share), share.value / largest if largest else 0.0)


def _student(effect: Effect | None, strongest: float) -> Text:
    if effect is None:
        return Text("")
    return _coloured(Text(stacked(signed(effect))), effect.value / strongest if strongest else 0.0)


def _coloured(text: Text, level: float) -> Text:
    red, green, blue = shade(level)
    text.stylize(f"black on rgb({red},{green},{blue})")
    return text


def _percent(share: Share) -> Text:
    low, high = share.interval
    return Text(f"{100 * share.value:.0f}\n[{100 * low:.0f}, {100 * high:.0f}]")


def _moved(moved: Moved) -> str:
    return f"{100 * moved.original:.2f} ({100 * moved.difference.value:+.2f})"


def _frozen_table(students: Students) -> RenderableType:
    title = Text("\nStudents, against those of the clean control", style="bold")
    table = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False)
    for name in ("frozen", "effect", "left", "task loss", "own loss", "verdict"):
        table.add_column(name, justify="left" if name == "frozen" else "right")
    shown = "transfer shown" if students.transferred else "no transfer shown"
    losses = f"{students.task_loss:.3f}", f"{students.own_loss:.3f}"
    table.add_row("none", stacked(signed(students.effect)), "", *losses, shown)
    for each in students.frozen:
        table.add_row(
            f"{numbered(each.layers)}\n({each.name})",
            stacked(signed(each.effect)),
            stacked(share_left(each.effect_ratio)),
            f"{each.task_loss:.3f}",
            f"{each.own_loss:.3f}",
            each.verdict,
        )
    note = f"{students.blocks} blocks of {students.rows_per_block:,} rows, {students.updates:,} updates a student; "
    note += (
        "losses on held-out rows of the control and of the data, nats a token; without training "
    )
    note += " and ".join(f"{each:.3f}" for each in students.before)
    return Group(table, Text(note, style="dim"))


def _agreement(found: tuple[Agreement, ...]) -> RenderableType:
    if not found:
        return Text(
            "\nAgreement in rank with the students is not known with fewer than three layers."
        )
    text = Text("\nAgreement in rank with the students of single layers (Spearman)", style="bold")
    for each in found:
        interval_text = (
            "" if each.interval is None else f" [{each.interval[0]:+.2f}, {each.interval[1]:+.2f}]"
        )
        line = f"\n  {each.measure}: {each.rho:+.2f}{interval_text}, p = {each.p_value:.2g}, {each.layers} layers"
        text.append(line, style="not bold")
    return text
