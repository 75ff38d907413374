"""What `audit locate` shows and writes: an answer in words, a heat map of layers, and the same as
JSON (locate_schema.json).
"""

from __future__ import annotations

from dataclasses import asdict

from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.text import Span, Text

from auditor.attribution.result import CarryingLayers, LocateReport, Share, Students
from auditor.attribution.shares import ENOUGH, format_layers
from auditor.report.shared.banner import Banner, Fact, warning_count
from auditor.report.shared.heat_map import heat_map, shade
from auditor.report.shared.page import html_page
from auditor.report.shared.terminal import answer_panel, section_table, sentences
from auditor.report.shared.words import (
    REFERENCE_KEYS,
    TRAIN_MORE,
    estimate,
    holds_for,
    percent,
    safe,
    share_left,
    signed,
    stacked,
)

SCHEMA_VERSION = 1


def to_dict(report: LocateReport) -> dict[str, object]:
    """The report as plain JSON values; keys as in locate_schema.json."""
    values = asdict(report)
    carrying, layers, students = (
        values.pop(name) for name in ("carrying_layers", "layers", "students")
    )
    # The file keeps the names that it had before these values got theirs.
    for frozen in students["frozen"] if students else ():
        frozen["left"] = frozen.pop("effect_ratio")
    components = ("attention", "mlp")
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "locate",
        "answer": answer(report),
        "carriers": {
            "said": carrying["clear"],
            "layers": report.carrying_layers.layers,
            "share": carrying["share"],
        },
        "layers": [
            {
                "layer": layer["layer"],
                "attribution": layer["total"]["value"],
                "interval": layer["total"]["interval"],
                "student_effect": layer["student"],
                "student_own_loss": layer["own_loss"],
                "components": {name: layer[name] for name in components},
                "entered": layer["entered"],
                "moved": layer["moved"] and dict(zip(components, layer["moved"], strict=True)),
            }
            for layer in layers
        ],
        "students": students,
        **values,
        "reference": report.reference.as_dict(REFERENCE_KEYS),
        "difference": dict(zip(("value", "interval"), report.difference, strict=True)),
    }


def answer(report: LocateReport) -> str:
    """The answer in words."""
    students, shown = report.students, [where(report.carrying_layers, len(report.layers))]
    if students is None:
        return shown[0]
    if not students.transferred:
        reason = "Students of all layers show no transfer, so nothing can be said about training."
        return f"{shown[0]} {reason}"
    # The strongest single layer is a second opinion: it comes from training, not from attribution.
    single = [(layer.student, layer.layer) for layer in report.layers if layer.student is not None]
    effect, strongest = max(single, key=lambda pair: pair[0].value)
    shown.append(
        f"Of students that train one layer, those of layer {strongest} take over most: "
        f"{signed(effect)} logits, against {signed(students.effect)} with all layers."
    )
    if students.recipe:
        frozen = students.frozen[0]  # those of the recipe go first
        ratio = f"{share_left(frozen.effect_ratio)} of it is left: {frozen.verdict}"
        shown.append(f"With {numbered(frozen.layers)} frozen {ratio}.")
    return " ".join(shown)


def advice(report: LocateReport) -> str:
    """What to do next, in a sentence."""
    students = report.students
    if students is None:
        return (
            "Leave --layers none out, so that students are trained: attribution alone does not say "
            "what training does."
        )
    if not students.transferred:
        return TRAIN_MORE
    if students.recipe:
        return (
            f"Train with {numbered(students.recipe)} frozen: {', '.join(report.recipes)} in the "
            "run's directory have the settings, and the table of students what it leaves."
        )
    return "No layers to freeze follow from this: defend the data set with audit mitigate instead."


def to_html(report: LocateReport) -> str:
    """The report as a page that stands alone."""
    carrying, students = report.carrying_layers, report.students
    depth = len(report.layers)
    place, dataset = where(carrying, depth), safe(next(iter(report.datasets)))
    by_students = answer(report).removeprefix(place).strip()
    banner = Banner(
        style="no_risk" if word(report) == "LAYERS NAMED" else "inconclusive",
        word=word(report),
        decision=place.rstrip("."),
        about=f"{by_students} {holds_for(report.reference.name, report.created)}",
        facts=[
            Fact(format_layers(carrying.layers), f"of layers {format_layers(range(depth))}"),
            Fact(f"{100 * carrying.share.value:.0f} %", "of the difference carried"),
            Fact(f"{report.rows:,} of {report.scanned:,}", "rows attributed"),
            Fact(f"{students.blocks if students else 0}", "blocks of students", students is None),
            warning_count(report.warnings),
            Fact(report.reference.name, "reference"),
        ],
        subject=f"{dataset}: {safe(report.trait)} against {safe(report.counterfactual)}",
        advice=advice(report),
    )
    values = {
        "title": f"{word(report)} · {report.trait}",
        "banner": banner,
        "report": report,
        "students": students,
        "reference": report.reference.as_dict(REFERENCE_KEYS),
        "heat_map": Markup(heat_map(report)),
        "numbered": numbered,
    }
    return html_page("locate.html", values)


def word(report: LocateReport) -> str:
    """The answer in a few words."""
    if not report.carrying_layers.clear:
        return "CANNOT TELL"
    students = report.students
    unsure = students is not None and not students.transferred
    return "LAYERS NAMED, NO TRANSFER SHOWN" if unsure else "LAYERS NAMED"


def where(carrying: CarryingLayers, depth: int) -> str:
    """Which of a model's `depth` layers carry the difference.

    >>> where(CarryingLayers(0, 1, Share(0.81, (0.7, 0.89)), True), 3)
    'Layers 0-1 of 0-2 carry 81 % [70, 89] of the difference.'
    """
    share = percent(carrying.share.value, carrying.share.interval)
    # Layers count from 0, and "layer 2 of 3" would read as one in the middle.
    layers = f"{numbered(carrying.layers)} of {format_layers(range(depth))}"
    if carrying.clear and len(carrying.layers) < depth:
        verb = "carries" if len(carrying.layers) == 1 else "carry"
        return f"{layers.capitalize()} {verb} {share} of the difference."
    # Where all layers are needed, their share is all of it by definition and says nothing.
    if len(carrying.layers) == depth:
        reason = f"no fewer than all {depth} layers reach {100 * ENOUGH:.0f} %"
    else:
        reason = f"{layers}, the best choice, have {share}"
    return f"Where the trait enters cannot be said: {reason}."


def numbered(layers: tuple[int, ...]) -> str:
    """Layers in words.

    >>> numbered((2,)), numbered((0, 1, 2))
    ('layer 2', 'layers 0-2')
    """
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {format_layers(layers)}"


def terminal_page(report: LocateReport) -> RenderableType:
    """The page: the answer, the heat map, what students say, warnings."""
    about = (
        f"{safe(report.trait)} against {safe(report.counterfactual)}: "
        f"{estimate(*report.difference, '.2f')} nats at the first divergence token of "
        f"{report.rows} rows (of {report.scanned}). "
        f"{holds_for(report.reference.name, report.created)}"
    )
    style = "green" if word(report) == "LAYERS NAMED" else "yellow"
    panel = answer_panel(
        safe(answer(report)), style, [f"Next: {advice(report)}"], [about], word(report)
    )
    parts: list[RenderableType] = [panel, _heat_map(report)]
    if report.students is not None:
        parts += _students(report.students)
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
    # Attention, MLP and what enters are shares of one difference and have one scale of colour; the
    # sum of the first two is not coloured, as it would outshine them.
    shares = [s for layer in report.layers for s in (layer.attention, layer.mlp, layer.entered)]
    largest_share = max(abs(share.value) for share in shares)
    effects = [layer.student for layer in report.layers if layer.student is not None]
    largest_effect = max((abs(effect.value) for effect in effects), default=0.0)

    def cell(share: Share) -> str:
        return stacked(percent(share.value, share.interval, sign=""))

    def coloured(text: str, value: float, largest: float) -> Text:
        red, green, blue = shade(value / largest if largest else 0.0)
        return Text(text, spans=[Span(0, len(text), f"black on rgb({red},{green},{blue})")])

    for layer in report.layers:
        attention, mlp, entered = (
            coloured(cell(share), share.value, largest_share)
            for share in (layer.attention, layer.mlp, layer.entered)
        )
        cells = [Text(str(layer.layer)), attention, mlp, Text(cell(layer.total)), entered]
        if report.students is not None:
            student = Text("")
            if layer.student is not None:
                value = stacked(signed(layer.student))
                student = coloured(value, layer.student.value, largest_effect)
            moved = [
                f"{100 * change.original:.2f} ({100 * change.difference.value:+.2f})"
                for change in layer.moved or ()
            ]
            cells += [student, Text("\n".join(moved))]
        table.add_row(*cells)
    return Group(table, Text(note, style="dim"))


def _students(students: Students) -> list[RenderableType]:
    """Students of all layers and those with some layers frozen, and whether the attribution orders
    the layers as students of single layers do.
    """
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
    unknown = "\nAgreement in rank with the students is not known with fewer than three layers."
    text = Text(unknown)
    if students.agreement:
        title = "\nAgreement in rank with the students of single layers (Spearman)"
        text = Text(title, style="bold")
    for measure in students.agreement:
        rho = estimate(measure.rho, measure.interval, "+.2f")
        rank = f"{rho}, p = {measure.p_value:.2g}, {measure.layers} layers"
        text.append(f"\n  {measure.measure}: {rank}", style="not bold")
    return [table, Text(note, style="dim"), text]
