"""The elements that the drawings of several reports are made of, as SVG text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from auditor.inference.effect import Effect, Interval
from auditor.report.shared.words import safe

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLACK, BLUE, VERMILION = "#000000", "#0072b2", "#d55e00"
PALETTE = (BLACK, VERMILION, BLUE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
AXIS, GRID = "#444444", "#dddddd"


def document(width: int, height: int, elements: Iterable[str]) -> str:
    """A drawing as a file of its own, on white so that it is readable in the dark as well."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
    )
    ground = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, ground, *elements, "</svg>"]) + "\n"


def text(x: float, y: float, content: str, anchor: str, attributes: str = "") -> str:
    """A line of text, escaped; `attributes` stand in the element as they are."""
    shown = escape(safe(content))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{shown}</text>'


def sideways(x: float, y: float, content: str) -> str:
    """The title of a vertical axis."""
    return text(x, y, content, "middle", f' transform="rotate(-90 {x:g} {y:.0f})"')


def line(x: tuple[float, float], y: tuple[float, float], colour: str) -> str:
    """A line from (x[0], y[0]) to (x[1], y[1]); whole numbers are written as they are."""
    x1, x2, y1, y2 = (f"{at:.1f}" if isinstance(at, float) else str(at) for at in (*x, *y))
    return f'<line x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}" stroke="{colour}"/>'


def bounds(effect: Effect) -> Interval:
    """The interval of an effect; of a single block, which has none, its value twice."""
    return effect.interval or (effect.value, effect.value)


def ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers from at most `low` to at least `high`, evenly apart, with 0 if
    that lies between.

    >>> ticks(-0.1, 0.42)
    [-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    """
    # A span of zero, as of a single value, would have no logarithm.
    span = max(high - low, 1e-6)
    size = 10.0 ** math.floor(math.log10(span / 2))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 6)
    # A value on a mark must not need another one for an error in its last digit; and without the
    # rounding, marks such as 0.30000000000000004 would come of the product.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]
