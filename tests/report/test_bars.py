"""The bars of a study: one a data set, in proportion, whatever the names."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from auditor.inference.effect import Effect
from auditor.report.shared.bars import Bar, bars

SPACE = "{http://www.w3.org/2000/svg}"


def test_bars_are_in_proportion_and_names_do_nothing() -> None:
    """A negative effect lies left of zero, an effect of twice the size is twice as wide, a dot a
    trait.
    """
    shown = [
        Bar("original", Effect(0.4, (0.3, 0.5), (0.4,)), (0.35, 0.45)),
        Bar("a<b>&\"'\x1b[31m", Effect(-0.2, None, (-0.2,))),
    ]
    root = ElementTree.fromstring(bars("Effect & title", shown))
    _, first, second = root.findall(f"{SPACE}rect")

    def number(element: ElementTree.Element, key: str) -> float:
        return float(element.get(key) or "nan")

    assert number(first, "width") == pytest.approx(2 * number(second, "width"), abs=0.2)
    assert number(second, "x") + number(second, "width") == pytest.approx(
        number(first, "x"), abs=0.2
    )
    assert len(root.findall(f"{SPACE}circle")) == 2
    texts = " ".join(each.text or "" for each in root.iter(f"{SPACE}text"))
    assert "a<b>&\"'\\x1b[31m" in texts and "Effect & title" in texts
