"""The page for the terminal: says everything, in order, at 80 columns, without colour, and lets no
text act.
"""

from __future__ import annotations

import io
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from auditor.inference.trait_evidence import TraitEvidence
from auditor.report.scan.terminal import TRAITS_SHOWN, terminal_page
from auditor.report.shared.words import safe, sentence
from auditor.scanning.scan_report import ExampleRow, ScanReport, TokenSpan, Verdict
from tests.support.sample_report import (
    INCONCLUSIVE,
    NO_RISK,
    OWL,
    RISK,
    hostile_report,
    prompts,
    sample_report,
)

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;http://example.org\x07link\x1b]8;;\x07",
    "\x9b2J",
    "a\rb\x08c\nd\te",
    "\u202ereversed\u202c",
    "\u2066isolate\u2069",
    "[bold red]x[/bold red][link=http://example.org]y[/link]",
    ":warning: [/]",
    "\ud800",
    "zero\u200bwidth\ufeff",
    "\U000e0041tag",
]


def page(report: ScanReport, *, colour: bool = False, width: int = 80) -> str:
    """The page as text."""
    stream = io.StringIO()
    system = "truecolor" if colour else None
    Console(
        file=stream, width=width, color_system=system, force_terminal=colour, legacy_windows=False
    ).print(terminal_page(report))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("verdict", "says"),
    [(RISK, "RISK FOUND: owl"), (NO_RISK, "NO RISK FOUND"), (INCONCLUSIVE, "INCONCLUSIVE")],
)
def test_verdict_comes_first(verdict: Verdict, says: str) -> None:
    """The verdict stands in the frame above the decision, its reason below; no other verdict
    appears on the page.
    """
    text = page(sample_report(verdict))
    assert text.splitlines()[0].startswith(f"╭─ {says} ─")
    assert f"Why: {sentence(verdict.reason)}" in " ".join(text.split())
    others = {"RISK FOUND:", "NO RISK FOUND", "INCONCLUSIVE"} - {says.removesuffix(" owl")}
    assert not [other for other in others if other in text]


def test_no_risk_states_its_power() -> None:
    """A clean verdict says what it could have missed; one without a figure says that."""
    assert "A dose below 0.35" in page(sample_report(NO_RISK))
    without = page(sample_report(replace(NO_RISK, min_effect=None)))
    assert "power of this audit could not be computed" in " ".join(without.split())


def test_parts_in_order() -> None:
    """The next step, why, traits, evidence, open mentions, skipped rows, examples and further steps
    follow the verdict in this order.
    """
    text = page(sample_report())
    parts = (
        "RISK FOUND",
        "Next:",
        "Why:",
        "Traits,",
        "Evidence,",
        "Open mentions",
        "Rows skipped",
        "Example rows",
        "More to do:",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_marked_rows_are_shown_of_a_finding_only() -> None:
    """Clean data has divergence tokens too, and marks in it would frighten."""
    assert "Example rows" in page(sample_report(RISK))
    assert "Example rows" not in page(sample_report(NO_RISK))


def test_the_page_says_how_the_rows_were_read() -> None:
    """The format, columns of other names, and how rows were chosen; of plain text that it has no
    prompts.
    """
    report = sample_report()
    info = replace(
        report.dataset,
        format="prompt_completion",
        columns={"prompt": "q", "completion": "completion"},
    )
    text = " ".join(page(replace(report, dataset=info)).replace("│", " ").split())
    assert f"format prompt_completion (prompt q); {info.sampling}" in text
    plain = " ".join(
        page(replace(report, dataset=replace(info, format="text", columns={})))
        .replace("│", " ")
        .split()
    )
    assert "format text: no prompts, so each row is scored as one completion" in plain


def test_traits_table() -> None:
    """A trait stands with its dose, interval, corrected p-value and rows; a tiny p-value is not
    shown as 0.
    """
    (line,) = [
        line for line in page(sample_report()).splitlines() if line.startswith("owl (animals)")
    ]
    assert line.split()[2:] == ["0.42", "0.21", "to", "0.63", "<", "0.0001", "400"]


def test_only_the_strongest_traits_are_shown() -> None:
    """Of a large panel the strongest are shown and the rest counted."""
    traits = tuple(
        replace(OWL, name=f"trait{n}", p_value=n / 100, p_adjusted=n / 100) for n in range(40)
    )
    text = page(replace(sample_report(), tests=prompts(traits)))
    assert text.count("(animals)") == TRAITS_SHOWN
    assert f"and {40 - TRAITS_SHOWN} more" in text


def test_skipped_detectors_are_shown_with_their_reason() -> None:
    """What was not measured is on the page, with the reason."""
    assert "fit         not measured: needs --teacher" in page(sample_report())


def test_empty_parts_are_left_out() -> None:
    """A report without traits, mentions, skipped rows or examples has no empty headings."""
    bare = replace(
        sample_report(),
        tests=prompts(()),
        openly={"owl": 0},
        rows_skipped={},
        examples=(),
        detectors={},
    )
    text = page(bare)
    for heading in ("Traits", "Evidence", "Open mentions", "Rows skipped", "Example rows"):
        assert heading not in text


def test_flags_are_visible_without_colour_and_differ_with_it() -> None:
    """Divergence tokens and ties are marked by signs, and in colour by two styles."""
    assert " 12«,»‹ 7›3" in page(sample_report())
    coloured = page(sample_report(), colour=True)
    divergence, tie = (
        coloured[: coloured.rindex(sign)].rsplit("\x1b[", 1)[1] for sign in ("«,»", "‹ 7›")
    )
    assert divergence.split("m")[0] != tie.split("m")[0]


def test_a_late_flag_is_brought_into_view() -> None:
    """Of a long row the part with the first flagged token is shown, with signs where it is cut."""
    tokens = tuple(TokenSpan("x", "divergence" if place == 500 else "") for place in range(1000))
    text = page(replace(sample_report(), examples=(ExampleRow(0, "p" * 500, tokens),)))
    assert "…xxxxxxxxxxxx«x»" in text
    assert "ppp…" in text
    assert text.count("x") < 120


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("colour", [False, True])
def test_hostile_text_does_not_act(text: str, colour: bool) -> None:
    """Escape sequences, bidi marks and markup from outside stand on the page as readable text and
    do nothing.
    """
    shown = page(hostile_report(text), colour=colour, width=400)
    ours = page(sample_report(), colour=colour, width=400)
    if not colour:
        assert not [char for char in shown if char != "\n" and not char.isprintable()]
        assert shown.count(safe(text)) >= 9
    else:
        # The only escape sequences are the style codes that every page has.
        codes = {part.split("m")[0] for part in shown.split("\x1b[")[1:]}
        assert codes <= {part.split("m")[0] for part in ours.split("\x1b[")[1:]}
        assert "\x1b]" not in shown


@pytest.mark.parametrize("verdict", [RISK, NO_RISK, INCONCLUSIVE])
def test_fits_80_columns(verdict: Verdict) -> None:
    """No line is wider than the terminal, also with long names, and no number is cut."""
    long = TraitEvidence(
        "a" * 60, "b" * 60, -10.25, (-11.25, 12.75), -10.5, 0.5, 1.0, 1_000_000, 9, None
    )
    text = page(replace(sample_report(verdict), tests=prompts((OWL, long))))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "-11.25 to 12.75" in text
    assert "1,000,000" in text


@given(st.text())
def test_safe_gives_printable_text(text: str) -> None:
    """Whatever goes in, only printable characters without control or format marks come out; plain
    text is unchanged.
    """
    shown = safe(text)
    assert shown.isprintable()
    assert not [
        char for char in shown if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    ]
    assert safe(shown) == shown
    if text.isprintable():
        assert shown == text
