"""A heat map of layers and components as a small SVG, and the colours that the page in the terminal
uses as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from auditor.attribution.result import LocateReport, Share
from auditor.inference.effect import Effect
from auditor.report.shared import svg
from auditor.report.shared.words import percent, signed

CELL, ROW, LEFT, TOP = 140, 22, 60, 70
CELL_TEXT = ' class="cell"'  # black in the dark as well, as the cells stay light
POSITIVE, NEGATIVE = (0, 114, 178), (213, 94, 0)  # svg.BLUE and svg.VERMILION


def shade(level: float) -> tuple[int, int, int]:
    """Red, green and blue for a level from -1 to 1: white at 0, 60 % of the way to blue at 1 and to
    vermilion at -1, so that black text stays readable on it.

    >>> shade(0.0), shade(1.0)
    ((255, 255, 255), (102, 170, 209))
    """
    end = POSITIVE if level >= 0 else NEGATIVE
    weight = 0.6 * min(1.0, abs(level))
    red, green, blue = (round(255 + weight * (colour - 255)) for colour in end)
    return red, green, blue


def heat_map(report: LocateReport) -> str:
    """The heat map as SVG text: a row a layer, columns for what was measured, a number in every
    cell.
    """
    columns: list[tuple[str, Sequence[Share | Effect | None]]] = [
        ("attention", [layer.attention for layer in report.layers]),
        ("MLP", [layer.mlp for layer in report.layers]),
        ("enters stream", [layer.entered for layer in report.layers]),
    ]
    if report.students is not None:
        columns.append(("student alone", [layer.student for layer in report.layers]))
    elements = [svg.text(10, 22, f"Where {report.trait} enters, by layer", "start")]
    for row, layer in enumerate(report.layers):
        elements.append(svg.text(LEFT - 10, TOP + ROW * (row + 0.7), str(layer.layer), "end"))
    for column, (name, values) in enumerate(columns):
        x = LEFT + CELL * column
        elements.append(svg.text(x + CELL / 2, TOP - 10, name, "middle"))
        # Columns have different units, so that each has a scale of its own.
        largest = max((abs(value.value) for value in values if value is not None), default=0.0)
        for row, value in enumerate(values):
            if value is None:
                continue
            red, green, blue = shade(value.value / largest if largest else 0.0)
            y = TOP + ROW * row
            elements.append(
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{ROW}" '
                f'fill="#{red:02x}{green:02x}{blue:02x}"/>'
            )
            if isinstance(value, Share):
                number = percent(value.value, value.interval, sign="")
            else:
                number = signed(value, 2)
            elements.append(svg.text(x + CELL / 2, y + ROW * 0.7, number, "middle", CELL_TEXT))
    width, height = LEFT + CELL * len(columns) + 20, TOP + ROW * len(report.layers) + 30
    note = "shares of the difference in %; students in logits"
    elements.append(svg.text(10, height - 10, note, "start"))
    return svg.document(width, height, elements)
