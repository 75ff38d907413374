"""What `audit locate` shows and writes: an answer in words, a heat map of layers, and the same as
JSON (locate_schema.json).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from auditor.attribution.result import (
    Agreement,
    CarryingLayers,
    LayerResult,
    LocateReport,
    Share,
    Students,
)
from auditor.attribution.shares import ENOUGH, format_layers
from auditor.report.shared.heat_map import shade
from auditor.report.shared.json_text import json_text
from auditor.report.shared.terminal import section_table, sentences
from auditor.report.shared.words import REFERENCE_KEYS, safe, share_left, signed, stacked

SCHEMA_VERSION = 1


def to_dict(report: LocateReport) -> dict[str, Any]:
    """The report as plain JSON values; keys as in docs/locate-schema.md."""
    values = _with_lists(asdict(report))
    for key in ("layers", "carrying_layers", "students"):
        del values[key]
    students = None
    if report.students is not None:
        students = _with_lists(asdict(report.students))
        for frozen in students["frozen"]:
            frozen["left"] = frozen.pop("effect_ratio")
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "locate",
        "answer": answer(report),
        "carriers": {
            "said": report.carrying_layers.clear,
            "layers": list(report.carrying_layers.layers),
            "share": _share_values(report.carrying_layers.share),
        },
        "layers": [_layer_values(layer) for layer in report.layers],
        "students": students,
        **values,
        "reference": report.reference.as_dict(REFERENCE_KEYS),
        "difference": {"value": report.difference[0], "interval": list(report.difference[1])},
    }


def _with_lists(values: dict[str, Any]) -> dict[str, Any]:
    """Tuples of values become lists, as JSON has no tuples."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def _layer_values(layer: LayerResult) -> dict[str, Any]:
    moved = None
    if layer.moved is not None:
        moved = dict(zip(("attention", "mlp"), map(asdict, layer.moved), strict=True))
    shares = {"attention": _share_values(layer.attention), "mlp": _share_values(layer.mlp)}
    return {
        "layer": layer.layer,
        "attribution": layer.total.value,
        "interval": list(layer.total.interval),
        "student_effect": None if layer.student is None else asdict(layer.student),
        "student_own_loss": layer.own_loss,
        "components": shares,
        "entered": _share_values(layer.entered),
        "moved": moved,
    }


def _share_values(share: Share) -> dict[str, Any]:
    return {"value": share.value, "interval": list(share.interval)}


def to_json(report: LocateReport) -> str:
    """The report as a JSON file. Raises ValueError for a number that is NaN or infinite."""
    return json_text(to_dict(report))


def answer(report: LocateReport) -> str:
    """The answer in words."""
    students, shown = report.students, [where(report.carrying_layers, len(report.layers))]
    if students is None:
        return shown[0]
    if not students.transferred:
        return (
            f"{shown[0]} Students of all layers show no transfer, so nothing can be said about "
            "training."
        )
    single = [(layer.student, layer.layer) for layer in report.layers if layer.student is not None]
    effect, strongest = max(single, key=lambda pair: pair[0].value)
    shown.append(
        f"Of students that train one layer, those of layer {strongest} take over most: "
        f"{signed(effect)} logits, against {signed(students.effect)} with all layers."
    )
    if students.recipe:
        frozen = students.frozen[0]
        ratio = f"{share_left(frozen.effect_ratio)} of it is left: {frozen.verdict}"
        shown.append(f"With {numbered(frozen.layers)} frozen {ratio}.")
    return " ".join(shown)


def where(carrying: CarryingLayers, depth: int) -> str:
    """Which of a model's `depth` layers carry the difference.

    >>> where(CarryingLayers(0, 1, Share(0.81, (0.7, 0.89)), True), 3)
    'Layers 0-1 of 3 carry 81 % [70, 89] of the difference.'
    """
    share = carrying.share
    low, high = (f"{100 * end:.0f}" for end in share.interval)
    estimate = f"{100 * share.value:.0f} % [{low}, {high}]"
    layers = f"{numbered(carrying.layers)} of {depth}"
    if carrying.clear and len(carrying.layers) < depth:
        verb = "carries" if len(carrying.layers) == 1 else "carry"
        return f"{layers.capitalize()} {verb} {estimate} of the difference."
    if len(carrying.layers) == depth:
        reason = f"no fewer than all {depth} layers reach {100 * ENOUGH:.0f} %"
    else:
        reason = f"{layers}, the best choice, have {estimate}"
    return f"Where the trait enters cannot be said: {reason}."


def numbered(layers: tuple[int, ...]) -> str:
    """Layers in words.

    >>> numbered((2,)), numbered((0, 1, 2))
    ('layer 2', 'layers 0-2')
    """
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {format_layers(layers)}"


def terminal_page(report: LocateReport) -> RenderableType:
    """The page: the answer, the heat map, what students say, warnings."""
    low, high = report.difference[1]
    body = Text(safe(answer(report)), style="bold")
    body.append(
        f"\n{safe(report.trait)} against {safe(report.counterfactual)}: "
        f"{report.difference[0]:.2f} [{low:.2f}, {high:.2f}] nats at the first divergence token of "
        f"{report.rows} rows (of {report.scanned})   reference {safe(report.reference.name)}",
        style="not bold dim",
    )
    style = "green" if report.carrying_layers.clear else "yellow"
    parts: list[RenderableType] = [Panel(body, border_style=style), _heat_map(report)]
    if report.students is not None:
        parts += [_student_table(report.students), _agreement(report.students.agreement)]
    if report.recipes:
        parts.append(Text(f"\nRecipes in the run's directory: {', '.join(report.recipes)}"))
    return Group(*parts, *sentences("Warnings", report.warnings))


def _heat_map(report: LocateReport) -> RenderableType:
    """A row a layer; colours run from the largest value of the same unit down to its negative."""
    table = section_table("By layer", pad_edge=True)
    note = (
        "attention, MLP: of the difference, %; enters: of it, in the residual stream, %; "
        "brackets: 95 % intervals"
    )
    names = ["layer", "attention", "MLP", "both", "enters"]
    if report.students is not None:
        names += ["student", "moved"]
        note += (
            "; student: of this layer alone, logits; moved: change of attention, MLP weights over "
            "the control's, %"
        )
    for name in names:
        table.add_column(name, justify="right")
    shares = [s for layer in report.layers for s in (layer.attention, layer.mlp, layer.entered)]
    largest_share = max(abs(share.value) for share in shares)
    effects = [layer.student for layer in report.layers if layer.student is not None]
    largest_effect = max((abs(effect.value) for effect in effects), default=0.0)

    def percent(share: Share) -> str:
        low, high = share.interval
        return f"{100 * share.value:.0f}\n[{100 * low:.0f}, {100 * high:.0f}]"

    for layer in report.layers:
        attention, mlp, entered = (
            _coloured(percent(share), share.value, largest_share)
            for share in (layer.attention, layer.mlp, layer.entered)
        )
        cells = [Text(str(layer.layer)), attention, mlp, Text(percent(layer.total)), entered]
        if report.students is not None:
            student = Text("")
            if layer.student is not None:
                value = stacked(signed(layer.student))
                student = _coloured(value, layer.student.value, largest_effect)
            moved = [
                f"{100 * change.original:.2f} ({100 * change.difference.value:+.2f})"
                for change in layer.moved or ()
            ]
            cells += [student, Text("\n".join(moved))]
        table.add_row(*cells)
    return Group(table, Text(note, style="dim"))


def _coloured(text: str, value: float, largest: float) -> Text:
    """A cell on the colour of its value, as a share of the largest."""
    red, green, blue = shade(value / largest if largest else 0.0)
    cell = Text(text)
    cell.stylize(f"black on rgb({red},{green},{blue})")
    return cell


def _student_table(students: Students) -> RenderableType:
    """Students of all layers, and those with some layers frozen."""
    table = section_table("Students, against those of the clean control")
    table.add_column("frozen")
    for name in ("effect", "left", "task loss", "own loss", "verdict"):
        table.add_column(name, justify="right")
    shown = "transfer shown" if students.transferred else "no transfer shown"
    losses = f"{students.task_loss:.3f}", f"{students.own_loss:.3f}"
    table.add_row("none", stacked(signed(students.effect)), "", *losses, shown)
    for frozen in students.frozen:
        table.add_row(
            f"{numbered(frozen.layers)}\n({frozen.name})",
            stacked(signed(frozen.effect)),
            stacked(share_left(frozen.effect_ratio)),
            f"{frozen.task_loss:.3f}",
            f"{frozen.own_loss:.3f}",
            frozen.verdict,
        )
    untrained = " and ".join(f"{loss:.3f}" for loss in students.before)
    note = (
        f"{students.blocks} blocks of {students.rows_per_block:,} rows, {students.updates:,} "
        "updates a student; losses on held-out rows of the control and of the data, nats a token; "
        f"without training {untrained}"
    )
    return Group(table, Text(note, style="dim"))


def _agreement(agreement: tuple[Agreement, ...]) -> RenderableType:
    """Whether the attribution orders the layers as students of single layers do."""
    if not agreement:
        return Text(
            "\nAgreement in rank with the students is not known with fewer than three layers."
        )
    text = Text("\nAgreement in rank with the students of single layers (Spearman)", style="bold")
    for measure in agreement:
        ends = ", ".join(f"{end:+.2f}" for end in measure.interval or ())
        interval = f" [{ends}]" if ends else ""
        rank = f"{measure.rho:+.2f}{interval}, p = {measure.p_value:.2g}, {measure.layers} layers"
        text.append(f"\n  {measure.measure}: {rank}", style="not bold")
    return text
