"""The effect of every arm over the dose, with 95 % intervals, as a small SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from auditor.report.shared.words import safe
from auditor.students.result import ArmResult, TransferResult

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 34, 46
LEGEND = 16  # height of a line
SHIFT = 3  # between the intervals of arms at one dose, so that they do not hide each other


def svg(result: TransferResult) -> str:
    """The plot as SVG text. Raises ValueError for the open readout, which has no effect to draw."""
    if result.trait is None:
        raise ValueError("the open readout has no dose-response curve")
    arms = result.arms
    height = HEIGHT + LEGEND * (len(arms) + 1)
    ends = [0.0, *(end for arm in arms for low, high in _intervals(arm) for end in (low, high))]
    axis = _Axis(result.updates, min(ends), max(ends))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(
            LEFT, 20, f"Effect on {result.trait}: margin over the clean control's students", "start"
        ),
        *axis.draw(result),
    ]
    for number, arm in enumerate(arms):
        parts += _curve(
            arm, axis, COLOURS[number % len(COLOURS)], SHIFT * (number - (len(arms) - 1) / 2)
        )
        y = HEIGHT + LEGEND * number + 8
        parts.append(
            f'<rect x="{LEFT}" y="{y - 9}" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>'
        )
        parts.append(_text(LEFT + 16, y, f"{arm.name} ({arm.verdict})", "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis:
    """Updates and logits to pixels."""

    def __init__(self, updates: int, low: float, high: float) -> None:
        self._updates = updates
        self._ticks = ticks(low, high)
        self._low, self._high = self._ticks[0], self._ticks[-1]

    def x(self, updates: float) -> float:
        return LEFT + updates / self._updates * (WIDTH - LEFT - RIGHT - 20) + 10

    def y(self, effect: float) -> float:
        share = (effect - self._low) / (self._high - self._low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def draw(self, result: TransferResult) -> Iterator[str]:
        for tick in self._ticks:
            colour = "#444444" if tick == 0 else "#dddddd"
            y = self.y(tick)
            yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>'
            yield _text(LEFT - 6, y + 4, f"{tick:g}", "end")
        for point in result.arms[0].curve:
            yield _text(self.x(point.updates), HEIGHT - BOTTOM + 18, str(point.updates), "middle")
        yield _text(
            (LEFT + WIDTH - RIGHT) / 2,
            HEIGHT - BOTTOM + 36,
            "updates (bars: 95 % intervals)",
            "middle",
        )
        middle = (TOP + HEIGHT - BOTTOM) / 2
        yield _text(
            14, middle, "effect (logits)", "middle", f' transform="rotate(-90 14 {middle:.0f})"'
        )


def ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers from at most `low` to at least `high`, evenly apart, with 0 if
    that lies between.

    >>> ticks(-0.1, 0.42)
    [-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    """
    span = max(high - low, 1e-6)
    size = 10.0 ** math.floor(math.log10(span / 2))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _intervals(arm: ArmResult) -> Iterator[tuple[float, float]]:
    for point in arm.curve:
        if point.effect is not None:
            yield point.effect.interval or (point.effect.value, point.effect.value)


def _curve(arm: ArmResult, axis: _Axis, colour: str, shift: float) -> Sequence[str]:
    found = [(axis.x(p.updates) + shift, p.effect) for p in arm.curve if p.effect is not None]
    path = " ".join(f"{x:.1f},{axis.y(effect.value):.1f}" for x, effect in found)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>']
    for x, effect in found:
        low, high = effect.interval or (effect.value, effect.value)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{axis.y(low):.1f}" y2="{axis.y(high):.1f}" stroke="{colour}"/>'
        )
        parts.append(
            f'<circle cx="{x:.1f}" cy="{axis.y(effect.value):.1f}" r="3" fill="{colour}"/>'
        )
    return parts


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(safe(text))}</text>'
