"""A heat map of layers and components as a small SVG, and the colours that the page in the terminal
uses as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from auditor.attribution.result import LocateReport, Share
from auditor.inference.effect import Effect
from auditor.report.shared.words import safe

CELL, ROW, LEFT, TOP = 110, 22, 60, 70
POSITIVE, NEGATIVE = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion


def shade(level: float) -> tuple[int, int, int]:
    """Red, green and blue for a level from -1 to 1: white at 0, half-way to blue at 1, half-way to
    vermilion at -1.

    >>> shade(0.0), shade(1.0)
    ((255, 255, 255), (102, 170, 209))
    """
    end = POSITIVE if level >= 0 else NEGATIVE
    weight = 0.6 * min(1.0, abs(level))
    red, green, blue = (round(255 + weight * (colour - 255)) for colour in end)
    return red, green, blue


def svg(report: LocateReport) -> str:
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
    width, height = LEFT + CELL * len(columns) + 20, TOP + ROW * len(report.layers) + 30
    title = f"Where {report.trait} enters, by layer"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(10, 22, title, "start"),
    ]
    parts += [
        _text(LEFT - 10, TOP + ROW * (i + 0.7), str(each.layer), "end")
        for i, each in enumerate(report.layers)
    ]
    for number, (name, values) in enumerate(columns):
        parts += _column(LEFT + CELL * number, name, values)
    note = "shares of the difference in %; students in logits"
    parts.append(_text(10, height - 10, note, "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _column(x: float, name: str, values: Sequence[Share | Effect | None]) -> Iterator[str]:
    yield _text(x + CELL / 2, TOP - 10, name, "middle")
    largest = max((abs(each.value) for each in values if each is not None), default=0.0)
    for i, each in enumerate(values):
        if each is None:
            continue
        red, green, blue = shade(each.value / largest if largest else 0.0)
        y = TOP + ROW * i
        yield f'<rect x="{x}" y="{y}" width="{CELL}" height="{ROW}" fill="#{red:02x}{green:02x}{blue:02x}"/>'
        yield _text(x + CELL / 2, y + ROW * 0.7, _number(each), "middle")


def _number(value: Share | Effect) -> str:
    scale, form = (100, ".0f") if isinstance(value, Share) else (1, "+.2f")
    middle = f"{scale * value.value:{form}}"
    if value.interval is None:
        return middle
    return f"{middle} [{scale * value.interval[0]:{form}}, {scale * value.interval[1]:{form}}]"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(safe(text))}</text>'
