"""The drawings of the HTML report, as SVG without a style of its own: page/page.css has the
colours, also dark ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from auditor.inference.trait_evidence import TraitEvidence
from auditor.report.shared.dose_plot import ticks
from auditor.report.shared.words import safe

# Small enough that letters are still to be read when a phone shrinks the drawing to its width.
WIDTH, HEIGHT = 420, 236
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 42
FOREST_WIDTH, FOREST_HEIGHT = 240, 20
FOREST_LIMITS = (-1.0, 2.0)  # a wider interval ends in an arrow


def forest_scale(traits: Sequence[TraitEvidence]) -> tuple[float, float]:
    """The doses from which to which all intervals are drawn: always with 0 and 1, never beyond
    FOREST_LIMITS.
    """
    ends = [0.0, 1.0, *(end for trait in traits for end in trait.interval)]
    return max(FOREST_LIMITS[0], min(ends)), min(FOREST_LIMITS[1], max(ends))


def forest(effect: float, interval: tuple[float, float], scale: tuple[float, float]) -> str:
    """One dose on its interval, with marks at 0 and 1; an arrow where the interval leaves the
    scale.
    """
    (low, high), middle = interval, FOREST_HEIGHT / 2

    def x(dose: float) -> float:
        share = (dose - scale[0]) / (scale[1] - scale[0])
        return 6 + min(1.0, max(0.0, share)) * (FOREST_WIDTH - 12)

    parts = [
        _line(x(mark), 0, x(mark), FOREST_HEIGHT, "axis" if mark == 0 else "grid")
        for mark in (0.0, 1.0)
    ]
    parts.append(_line(x(low), middle, x(high), middle, "interval"))
    parts += [_arrow(x(low), middle, -5)] if low < scale[0] else []
    parts += [_arrow(x(high), middle, 5)] if high > scale[1] else []
    if scale[0] <= effect <= scale[1]:
        parts.append(f'<circle class="point" cx="{x(effect):.1f}" cy="{middle:g}" r="4"/>')
    return _svg(
        f"dose {effect:.2f}, 95 % interval {low:.2f} to {high:.2f}",
        parts,
        FOREST_WIDTH,
        FOREST_HEIGHT,
    )


def looks_plot(
    found: Sequence[Mapping[str, Any]], limit: float, projected: Sequence[tuple[float, float]] = ()
) -> str:
    """Over the rows scored: the strongest trait's dose with its interval, and the dose excluded for
    every trait.

    found: entries of the `trait` detector's `looks`, at least one. limit: the dose that a pass must
    exclude. projected: points (rows, excluded dose) to go on with, dashed.
    """
    excluded = [
        (float(look["rows"]), float(look["excluded"]))
        for look in found
        if look["excluded"] is not None
    ]
    ends = [end for look in found for end in look["interval"]] + [bound for _, bound in excluded]
    axis = _Axes(
        0,
        max([look["rows"] for look in found] + [rows for rows, _ in projected]),
        [0.0, 1.0, *ends],
    )
    parts = [*axis.draw("rows scored", "dose")]
    parts.append(_line(LEFT, axis.y(limit), WIDTH - RIGHT, axis.y(limit), "limit"))
    for look in found:
        x, (low, high) = axis.x(look["rows"]), look["interval"]
        parts.append(_line(x - 3, axis.y(low), x - 3, axis.y(high), "interval"))
        parts.append(
            f'<circle class="point" cx="{x - 3:.1f}" cy="{axis.y(look["effect"]):.1f}" r="4"/>'
        )
    parts.append(_path([(axis.x(rows) + 3, axis.y(bound)) for rows, bound in excluded], "bound"))
    for rows, bound in excluded:
        x, y = axis.x(rows) + 3, axis.y(bound)
        parts.append(f'<path class="mark" d="M{x - 4:.1f} {y - 4:.1f}h8l-4 7z"/>')
    parts.append(
        _path([(axis.x(rows) + 3, axis.y(bound)) for rows, bound in projected], "bound projected")
    )
    said = "; ".join(f"{rows:.0f} rows: {bound:.2f}" for rows, bound in excluded) or "none"
    return _svg(f"Dose excluded for every trait by rows scored. {said}.", parts)


def places_plot(found: Sequence[Mapping[str, Any]]) -> str:
    """The share of tokens that are divergence tokens by tenth of the completion, with 95 %
    intervals.
    """
    shares = [part["flagged"] / part["tokens"] if part["tokens"] else 0.0 for part in found]
    tops = [
        (part["interval"] or (0.0, share))[1] for part, share in zip(found, shares, strict=True)
    ]
    axis = _Axes(
        0,
        len(found),
        [0.0, *(100 * max(pair) for pair in zip(shares, tops, strict=True))],
        labels=False,
    )
    parts = [*axis.draw("place in the completion: start to end", "% of tokens")]
    width = axis.x(1) - axis.x(0)
    for number, (part, share) in enumerate(zip(found, shares, strict=True)):
        x, y = axis.x(number), axis.y(100 * share)
        parts.append(
            f'<rect class="bar" x="{x + 2:.1f}" y="{y:.1f}" width="{width - 4:.1f}" height="{axis.y(0) - y:.1f}"/>'
        )
        if part["interval"]:
            low, high = part["interval"]
            parts.append(
                _line(
                    x + width / 2, axis.y(100 * low), x + width / 2, axis.y(100 * high), "whisker"
                )
            )
    said = ", ".join(f"{share:.1%}" for share in shares)
    return _svg(
        f"Share of divergence tokens by tenth of the completion, from start to end: {said}.", parts
    )


class _Axes:
    """Values to pixels. The vertical axis has round ends."""

    def __init__(
        self, first: float, last: float, values: Sequence[float], *, labels: bool = True
    ) -> None:
        self._ticks, self._labels = ticks(min(values), max(values)), labels
        self._first, self._last = first, last

    def x(self, value: float) -> float:
        return (
            LEFT
            + 6
            + (value - self._first) / (self._last - self._first) * (WIDTH - LEFT - RIGHT - 12)
        )

    def y(self, value: float) -> float:
        low, high = self._ticks[0], self._ticks[-1]
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def draw(self, below: str, beside: str) -> Iterator[str]:
        for tick in self._ticks:
            yield _line(
                LEFT, self.y(tick), WIDTH - RIGHT, self.y(tick), "axis" if tick == 0 else "grid"
            )
            yield _text(LEFT - 5, self.y(tick) + 4, f"{tick:g}", "end")
        for value in ticks(self._first, self._last) if self._labels else ():
            if value <= self._last:
                yield _text(self.x(value), HEIGHT - BOTTOM + 16, f"{value:g}", "middle")
        yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, below, "middle")
        middle = (TOP + HEIGHT - BOTTOM) / 2
        yield _text(11, middle, beside, "middle", f' transform="rotate(-90 11 {middle:.0f})"')


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _path(points: Sequence[tuple[float, float]], name: str) -> str:
    return (
        f'<polyline class="{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'
        if points
        else ""
    )


def _arrow(x: float, y: float, length: float) -> str:
    return f'<path class="arrow" d="M{x + length:.1f} {y:g}l{-length:g} -4v8z"/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(safe(text))}</text>'


def _svg(says: str, parts: Sequence[str], width: int = WIDTH, height: int = HEIGHT) -> str:
    label = escape(safe(says))
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
