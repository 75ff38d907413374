"""The drawings of the HTML report, as SVG without a style of its own: page/page.css has the
colours, also dark ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TypedDict

from auditor.inference.trait_evidence import TraitEvidence
from auditor.report.shared.svg import sideways, text, ticks
from auditor.report.shared.words import safe

# Small enough that letters are still to be read when a phone shrinks the drawing to its width.
WIDTH, HEIGHT = 420, 236
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 42
FOREST_WIDTH, FOREST_HEIGHT = 240, 20
FOREST_LIMITS = (-1.0, 2.0)  # a wider interval ends in an arrow


class Analysis(TypedDict):
    """An interim analysis in the values of detector `trait` (docs/methods.md): what all rows up to
    it say of the strongest trait, and which dose they exclude for every trait.

    weakest: the trait with the highest bound. It and excluded are None while no bound exists.
    """

    rows: int
    effect: float
    interval: Sequence[float]
    weakest: str | None
    excluded: float | None


class Tenth(TypedDict):
    """A tenth of all completions in the report's divergence tokens: how many of its tokens are
    flagged, and the 95 % interval of that share; None where nothing is flagged.
    """

    tokens: int
    flagged: int
    interval: Sequence[float] | None


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

    elements = [
        _line(x(mark), 0, x(mark), FOREST_HEIGHT, name)
        for mark, name in ((0.0, "axis"), (1.0, "grid"))
    ]
    elements.append(_line(x(low), middle, x(high), middle, "interval"))
    for outside, end, length in ((low < scale[0], low, -5), (high > scale[1], high, 5)):
        if outside:
            arrow = f"M{x(end) + length:.1f} {middle:g}l{-length:g} -4v8z"
            elements.append(f'<path class="arrow" d="{arrow}"/>')
    if scale[0] <= effect <= scale[1]:
        elements.append(f'<circle class="point" cx="{x(effect):.1f}" cy="{middle:g}" r="4"/>')
    description = f"dose {effect:.2f}, 95 % interval {low:.2f} to {high:.2f}"
    return _drawing(description, elements, FOREST_WIDTH, FOREST_HEIGHT)


def exclusion_plot(
    analyses: Sequence[Analysis], limit: float, projected: Sequence[tuple[float, float]] = ()
) -> str:
    """Over the rows scored: the strongest trait's dose with its interval, and the dose excluded for
    every trait.

    analyses: at least one. limit: the dose that a pass must exclude. projected: points (rows,
    excluded dose) to go on with, dashed.
    """
    excluded = [
        (float(analysis["rows"]), analysis["excluded"])
        for analysis in analyses
        if analysis["excluded"] is not None
    ]
    doses = [end for analysis in analyses for end in analysis["interval"]]
    doses += [bound for _, bound in excluded]
    last = max(*(analysis["rows"] for analysis in analyses), *(rows for rows, _ in projected), 0)
    axes = _Axes(0, last, [0.0, 1.0, *doses])
    elements = axes.draw("rows scored", "dose")
    elements.append(_line(LEFT, axes.y(limit), WIDTH - RIGHT, axes.y(limit), "limit"))
    # Dose and bound of one analysis stand side by side, so that neither hides the other.
    for analysis in analyses:
        x, (low, high) = axes.x(analysis["rows"]) - 3, analysis["interval"]
        y = axes.y(analysis["effect"])
        elements.append(_line(x, axes.y(low), x, axes.y(high), "interval"))
        elements.append(f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    for points, name in ((excluded, "bound"), (projected, "bound projected")):
        pixels = [(axes.x(rows) + 3, axes.y(bound)) for rows, bound in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
        elements.append(f'<polyline class="{name}" points="{path}"/>' if points else "")
        # Only what was computed from rows has a mark: a projection is no measurement.
        if points is excluded:
            for x, y in pixels:
                elements.append(f'<path class="mark" d="M{x - 4:.1f} {y - 4:.1f}h8l-4 7z"/>')
    listed = "; ".join(f"{rows:.0f} rows: {bound:.2f}" for rows, bound in excluded) or "none"
    return _drawing(f"Dose excluded for every trait by rows scored. {listed}.", elements)


def divergence_plot(tenths: Sequence[Tenth]) -> str:
    """The share of tokens that are divergence tokens by tenth of the completion, with 95 %
    intervals.
    """
    shares = [tenth["flagged"] / tenth["tokens"] if tenth["tokens"] else 0.0 for tenth in tenths]
    # The axis ends above the highest interval; lower ends never lie below zero.
    tops = [tenth["interval"][1] for tenth in tenths if tenth["interval"]]
    axes = _Axes(0, len(tenths), [100 * share for share in (0.0, *shares, *tops)], labels=False)
    elements = axes.draw("place in the completion: start to end", "% of tokens")
    width = axes.x(1) - axes.x(0)
    for number, (tenth, share) in enumerate(zip(tenths, shares, strict=True)):
        x, y = axes.x(number), axes.y(100 * share)
        elements.append(
            f'<rect class="bar" x="{x + 2:.1f}" y="{y:.1f}" width="{width - 4:.1f}" '
            f'height="{axes.y(0) - y:.1f}"/>'
        )
        if tenth["interval"]:
            low, high = (axes.y(100 * end) for end in tenth["interval"])
            elements.append(_line(x + width / 2, low, x + width / 2, high, "whisker"))
    listed = ", ".join(f"{share:.1%}" for share in shares)
    description = "Share of divergence tokens by tenth of the completion, from start to end"
    return _drawing(f"{description}: {listed}.", elements)


class _Axes:
    """Values to pixels. The vertical axis has round ends."""

    def __init__(
        self, first: float, last: float, values: Sequence[float], *, labels: bool = True
    ) -> None:
        self._ticks, self._labels = ticks(min(values), max(values)), labels
        self._first, self._last = first, last

    def x(self, value: float) -> float:
        # Six pixels of room on both sides, so that marks at the ends are not cut.
        share = (value - self._first) / (self._last - self._first)
        return LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12)

    def y(self, value: float) -> float:
        low, high = self._ticks[0], self._ticks[-1]
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def draw(self, below: str, beside: str) -> list[str]:
        elements = []
        for tick in self._ticks:
            y, name = self.y(tick), "axis" if tick == 0 else "grid"
            elements.append(_line(LEFT, y, WIDTH - RIGHT, y, name))
            elements.append(text(LEFT - 5, y + 4, f"{tick:g}", "end"))
        for value in ticks(self._first, self._last) if self._labels else ():
            # The horizontal axis ends with the data, before the last round number.
            if value <= self._last:
                elements.append(text(self.x(value), HEIGHT - BOTTOM + 16, f"{value:g}", "middle"))
        elements.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, below, "middle"))
        return [*elements, sideways(11, (TOP + HEIGHT - BOTTOM) / 2, beside)]


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _drawing(
    description: str, elements: Sequence[str], width: int = WIDTH, height: int = HEIGHT
) -> str:
    """A drawing, with what it shows in words for who cannot see it."""
    # Without a width of its own, so that the page's style can fit it to a phone.
    label = escape(safe(description))
    frame = f'viewBox="0 0 {width} {height}" role="img" aria-label="{label}"'
    return f"<svg {frame}>{''.join(elements)}</svg>"
