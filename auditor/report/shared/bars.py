"""Effects of several arms as horizontal bars with 95 % intervals, as a small SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from auditor.inference.effect import Effect
from auditor.report.shared.dose_plot import ticks
from auditor.report.shared.words import safe

WIDTH, LEFT, RIGHT = 760, 330, 30
TOP, ROW, BOTTOM = 40, 24, 34
FIRST, OTHER, DOT = "#0072b2", "#999999", "#d55e00"  # of Okabe and Ito's colours


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
    """The plot as SVG text; the first bar, which the others are compared with, stands out."""
    ends = [
        0.0,
        *(
            end
            for bar in shown
            for end in (bar.effect.value, *(bar.effect.interval or ()), *bar.dots)
        ),
    ]
    marks = ticks(min(ends), max(ends))
    height = TOP + ROW * len(shown) + BOTTOM

    def x(value: float) -> float:
        return LEFT + (value - marks[0]) / (marks[-1] - marks[0]) * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(10, 20, title, "start"),
    ]
    for mark in marks:
        colour = "#444444" if mark == 0 else "#dddddd"
        parts.append(
            f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{TOP}" y2="{height - BOTTOM}" stroke="{colour}"/>'
        )
        parts.append(_text(x(mark), height - BOTTOM + 16, f"{mark:g}", "middle"))
    for number, bar in enumerate(shown):
        middle = TOP + ROW * (number + 0.5)
        parts.append(_text(LEFT - 8, middle + 4, bar.name, "end"))
        parts += _bar(
            bar.effect, [x(0), x(bar.effect.value)], middle, FIRST if number == 0 else OTHER
        )
        low, high = bar.effect.interval or (bar.effect.value,) * 2
        parts.append(
            f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{middle}" y2="{middle}" stroke="black"/>'
        )
        parts += [
            f'<circle cx="{x(dot):.1f}" cy="{middle}" r="2.5" fill="{DOT}"/>' for dot in bar.dots
        ]
    note = "bars: mean over pairs of students; lines: 95 % intervals; dots: single traits"
    return "\n".join([*parts, _text(10, height - 4, note, "start"), "</svg>"]) + "\n"


def _bar(effect: Effect, ends: Sequence[float], middle: float, colour: str) -> list[str]:
    start, width = min(ends), max(ends) - min(ends)
    tip = f"<title>{effect.value:+.3f}</title>"
    return [
        f'<rect x="{start:.1f}" y="{middle - 8}" width="{width:.1f}" height="16" fill="{colour}" '
        f'fill-opacity="0.7">{tip}</rect>'
    ]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(safe(text))}</text>'
