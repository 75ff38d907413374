"""The effect of every arm over the training updates, with 95 % intervals, as a small SVG."""

from __future__ import annotations

from auditor.report.shared import svg
from auditor.students.result import TransferResult

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 34, 46
LEGEND = 16  # height of a line
SHIFT = 3  # between the intervals of arms at one dose, so that they do not hide each other


def dose_plot(result: TransferResult) -> str:
    """The plot as SVG text. Raises ValueError for the open readout, which has no effect to draw."""
    if result.trait is None:
        raise ValueError("the open readout has no dose-response curve")
    effects = [point.effect for arm in result.arms for point in arm.curve if point.effect]
    ends = [0.0, *(end for effect in effects for end in svg.bounds(effect))]
    marks = svg.ticks(min(ends), max(ends))

    def x(updates: float) -> float:
        return LEFT + updates / result.updates * (WIDTH - LEFT - RIGHT - 20) + 10

    def y(value: float) -> float:
        share = (value - marks[0]) / (marks[-1] - marks[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    title = f"Effect on {result.trait}: margin over the clean control's students"
    elements = [svg.text(LEFT, 20, title, "start")]
    for mark in marks:
        colour = svg.AXIS if mark == 0 else svg.GRID
        elements.append(svg.line((LEFT, WIDTH - RIGHT), (y(mark), y(mark)), colour))
        elements.append(svg.text(LEFT - 6, y(mark) + 4, f"{mark:g}", "end"))
    below, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    # All arms have the checkpoints of the first one.
    for point in result.arms[0].curve:
        elements.append(svg.text(x(point.updates), below + 18, str(point.updates), "middle"))
    elements.append(svg.text(middle, below + 36, "updates (bars: 95 % intervals)", "middle"))
    elements.append(svg.sideways(14, (TOP + below) / 2, "effect (logits)"))

    for number, arm in enumerate(result.arms):
        # With more arms than colours they repeat; the shift and the legend's order tell them apart.
        colour = svg.PALETTE[number % len(svg.PALETTE)]
        shift = SHIFT * (number - (len(result.arms) - 1) / 2)
        points = [(x(p.updates) + shift, p.effect) for p in arm.curve if p.effect is not None]
        path = " ".join(f"{at:.1f},{y(effect.value):.1f}" for at, effect in points)
        elements.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        for at, effect in points:
            low, high = svg.bounds(effect)
            elements.append(svg.line((at, at), (y(low), y(high)), colour))
            elements.append(
                f'<circle cx="{at:.1f}" cy="{y(effect.value):.1f}" r="3" fill="{colour}"/>'
            )
        key = HEIGHT + LEGEND * number + 8
        elements.append(f'<rect x="{LEFT}" y="{key - 9}" width="10" height="10" fill="{colour}"/>')
        elements.append(svg.text(LEFT + 16, key, f"{arm.name} ({arm.verdict})", "start"))
    return svg.document(WIDTH, HEIGHT + LEGEND * (len(result.arms) + 1), elements)
