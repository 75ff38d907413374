"""Effects of several arms as horizontal bars with 95 % intervals, as a small SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.inference.effect import Effect
from auditor.report.shared import svg

WIDTH, LEFT, RIGHT = 760, 330, 30
TOP, ROW, BOTTOM = 40, 24, 34
FIRST, LATER, DOT = svg.BLUE, "#999999", svg.VERMILION


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    effect: pooled, with its interval. dots: the effects that it is pooled from, such as one a
    trait.
    """

    name: str
    effect: Effect
    dots: tuple[float, ...] = ()


def bars(title: str, shown: Sequence[Bar]) -> str:
    """The plot as SVG text; the first bar, with which the later ones are compared, stands out."""
    values = [0.0]
    for bar in shown:
        values += [bar.effect.value, *svg.bounds(bar.effect), *bar.dots]
    marks = svg.ticks(min(values), max(values))
    height = TOP + ROW * len(shown) + BOTTOM

    def x(value: float) -> float:
        return LEFT + (value - marks[0]) / (marks[-1] - marks[0]) * (WIDTH - LEFT - RIGHT)

    elements = [svg.text(10, 20, title, "start")]
    for mark in marks:
        colour = svg.AXIS if mark == 0 else svg.GRID
        elements.append(svg.line((x(mark), x(mark)), (TOP, height - BOTTOM), colour))
        elements.append(svg.text(x(mark), height - BOTTOM + 16, f"{mark:g}", "middle"))
    for number, bar in enumerate(shown):
        middle = TOP + ROW * (number + 0.5)
        # A rectangle has no negative width: a bar below zero begins at its value.
        start, end = sorted((x(0), x(bar.effect.value)))
        low, high = svg.bounds(bar.effect)
        elements += [
            svg.text(LEFT - 8, middle + 4, bar.name, "end"),
            f'<rect x="{start:.1f}" y="{middle - 8}" width="{end - start:.1f}" height="16" '
            f'fill="{LATER if number else FIRST}" fill-opacity="0.7">'
            f"<title>{bar.effect.value:+.3f}</title></rect>",
            svg.line((x(low), x(high)), (middle, middle), "black"),
        ]
        for dot in bar.dots:
            elements.append(f'<circle cx="{x(dot):.1f}" cy="{middle}" r="2.5" fill="{DOT}"/>')
    note = "bars: mean over pairs of students; lines: 95 % intervals; dots: single traits"
    elements.append(svg.text(10, height - 4, note, "start"))
    return svg.document(WIDTH, height, elements)
