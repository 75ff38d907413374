"""The report of a study, assembled from results that were not trained: claims, figures, the
page.
"""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from auditor.report.shared.json_text import json_text
from auditor.report.study import (
    command,
    terminal_page,
    to_html,
    to_markdown,
    transferred,
)
from auditor.study import divergence, entanglement, fragility
from auditor.study.report import StudyReport, assemble
from auditor.study.setting import Part, Trial
from tests.study.test_claims import result

ORIGIN: dict[str, Any] = {
    "reference": {"name": "base", "sha256": "0" * 64},
    "sibling": None,
    "settings": {
        "reference": "base",
        "sibling": None,
        "panels": ["animals"],
        "traits": ["owl", "cat"],
        "parts": ["leakage", "entanglement", "divergence", "fragility"],
        "size": {"blocks": 3, "rows": 64, "updates": 8},
        "recipe": {"full": False, "rank": 4, "alpha": 8, "layers": [0, 1], "learning_rate": 2e-4},
        "max_tokens": 24,
        "seed": 0,
    },
    "versions": {"torch": "2.13.0"},
    "datasets": {"owl greedy": {"original": "0" * 64}},
    "created": "2026-11-29T09:20:13Z",
}


def parts(trait: str) -> list[Part]:
    """Data of a model of which the paper is right in all, but that one number is all there is to
    the trait.
    """
    whole, half, none = (1.0, 1.1, 0.9), (0.5, 0.6, 0.4), (0.01, -0.01, 0.0)
    dropped = {entanglement.arm_name("probability", 10): none}
    dropped |= {f"{name} (random rows)": whole for name in dropped}
    by_divergence = dict.fromkeys(divergence.EQUAL, whole) | {
        divergence.ONLY + divergence.RANDOM: none,
        divergence.FIRST + divergence.RANDOM: none,
        divergence.MASKED: none,
        divergence.ONLY + divergence.DROPPED: whole,
        divergence.MASKED + divergence.DROPPED: none,
    }
    fragile = dict.fromkeys((fragility.PARAPHRASED, fragility.WITHIN, fragility.ACROSS), none)
    fragile |= {
        fragility.mixed_name(share): half if share < 0.25 else none for share in fragility.SHARES
    }

    def greedy(**arms: tuple[float, ...]) -> Trial:
        return Trial(trait, "greedy", result(trait, original=whole, **arms))

    leaked = Trial(trait, "sampled", result(trait, original=half))
    other = Trial(trait, "sibling", result(trait, original=none))
    return [
        Part("leakage", trait, (greedy(), leaked), {}),
        Part(
            "entanglement",
            trait,
            (greedy(**dropped),),
            {"tokens": 10, "top": {"probability": [["<i>", 0.1]]}},
        ),
        Part("divergence", trait, (greedy(**by_divergence),), {"share": 0.05}),
        Part("fragility", trait, (greedy(**fragile), other), {}),
    ]


@pytest.fixture(scope="module")
def report() -> StudyReport:
    """Two traits alike."""
    return assemble([*parts("owl"), *parts("cat")], ORIGIN)


def test_every_claim_is_judged(report: StudyReport) -> None:
    """All hold here but the one that is built not to, and what has no arm cannot be said."""
    answers = {claim["statement"]: claim["answer"] for claim in report.values["claims"]}
    assert answers.pop(
        "dropping rows with the top 10 entangled tokens (probability) does not stop transfer"
    ) == ("does not hold")
    unsaid = {name for name, answer in answers.items() if answer == "cannot be said"}
    assert len(unsaid) == 7 and all("entangled" in name for name in unsaid)
    assert {answer for name, answer in answers.items() if name not in unsaid} == {"holds"}
    assert transferred(report.values)
    original = report.values["experiments"][0]["arms"][0]
    assert len(original["effect"]["blocks"]) == 6 and set(original["traits"]) == {"owl", "cat"}


def test_nothing_shown_is_no_study() -> None:
    """A report is worth something when one of its originals transferred; else the command ends with
    3.
    """
    noise = result("owl", original=(0.1, -0.1, 0.0))
    found = assemble(
        [
            Part(
                "leakage",
                "owl",
                (Trial("owl", "greedy", noise), Trial("owl", "sampled", noise)),
                {},
            )
        ],
        ORIGIN,
    )
    assert not transferred(found.values)
    assert "hardly anything can be said" in to_markdown(found.values)


def test_the_page_stands_alone(report: StudyReport) -> None:
    """No scripts, nothing from elsewhere, the figures in it, and text from outside escaped."""
    page = to_html(report.values, report.figures)
    assert set(report.figures) == {
        *(f"{part}.svg" for part in ("leakage", "entanglement", "divergence", "fragility")),
        "dose.svg",
    }
    assert "original (sampled)" in report.figures["leakage.svg"]
    for figure in report.figures.values():
        assert ElementTree.fromstring(figure).tag.endswith("svg") and figure.strip() in page
    linked = page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "<script" not in page and "http" not in linked and "<i>" not in page
    assert 'name="viewport"' in page and 'id="next"' in page and "15 of 23 claims" in page
    hostile = report.values | {"reference": {"name": "<script>alert(1)</script>\x1b[31m"}}
    text = to_html(hostile, report.figures)
    assert "<script" not in text and "\x1b" not in text and "&lt;script&gt;" in text


def test_the_same_values_everywhere(report: StudyReport) -> None:
    """JSON, Markdown and the terminal's table come from one dict; the command line gives the
    settings again.
    """
    assert json.loads(json_text(report.values))["kind"] == "study"
    lines = to_markdown(report.values).splitlines()
    assert sum(line.startswith("| ") for line in lines) > len(report.values["claims"])
    assert (
        len({line.count("|") for line in lines if line.startswith("| ")}) == 2
    )  # two tables, none broken
    assert terminal_page(report.values) is not None
    said = command(report.values)
    assert said.startswith(
        "audit study all --reference base --trait owl --trait cat --panel animals --blocks 3"
    )
    assert "--rank 4 --lora-alpha 8 --layers 0,1" in said and "--full" not in said
