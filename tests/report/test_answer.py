"""The first line of every page: one decision in plain words, whose figures are the report's."""

from __future__ import annotations

import io
import shlex
from dataclasses import asdict, replace
from html import unescape
from pathlib import Path

import pytest
from rich.console import Console
from typer import Context
from typer.main import get_command

from auditor.cli.console import show
from auditor.cli.main import app
from auditor.data.coverage import Unread
from auditor.model.builtin import BASE
from auditor.release.evidence import verdict_of
from auditor.release.judge import judge
from auditor.release.policy import Policy
from auditor.report.gate import terminal_page as gate_page
from auditor.report.scan import load
from auditor.report.scan.answer import OBSTACLES, circumstances, decision, facts, grounds, scope
from auditor.report.scan.json import from_dict, to_dict
from auditor.report.scan.next_steps import NEXT_STEPS, next_steps, shell_lines
from auditor.report.scan.terminal import terminal_page
from auditor.report.shared.words import DOCS, EARLIER, GLOSSARY, corrected
from auditor.scanning.obstacles import Obstacle, coverage_obstacles
from auditor.scanning.scan_report import ScanReport, VerdictName
from detectors.interface import Evidence, TraitTest
from tests.support.sample_report import (
    EAGLE,
    INCONCLUSIVE,
    NO_RISK,
    OWL,
    RISK,
    RISKY,
    consistent_report,
    prompts,
    sample_report,
)

ROOT = Path(__file__).parents[2]
DECISIONS = {
    "risk": (
        RISK,
        "Do not release: the rows look written by a model with the hidden trait owl (about 42 % of "
        "the rows)",
    ),
    "no_risk": (NO_RISK, "Nothing found: a trait in 35 % or more of the rows would have shown"),
    "inconclusive": (INCONCLUSIVE, "Cannot tell: too few rows could be scored"),
}


def text_of(page: object, width: int = 200) -> str:
    """A page as a terminal shows it."""
    console = Console(file=io.StringIO(), width=width)
    console.print(page)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", DECISIONS)
def test_every_page_begins_with_the_decision(name: str) -> None:
    """In the same words in every format, with the verdict's own word beside it; no other format's
    first lines come before it.
    """
    verdict, said = DECISIONS[name]
    report = sample_report(verdict)
    assert decision(report) == said
    word = {"risk": "RISK FOUND: owl", "no_risk": "NO RISK FOUND", "inconclusive": "INCONCLUSIVE"}
    frame, first = text_of(terminal_page(report)).splitlines()[:2]
    assert word[name] in frame and first.strip("│ ") == said
    assert load("markdown").render(report).splitlines()[0].endswith(said)
    assert f'<h1 id="headline">{said}</h1>' in load("html").render(report)
    assert f'<p class="badge">{word[name]}</p>' in load("html").render(report)
    title, message = load("github").render(report).splitlines()[0].split("title=")[1].split("::")
    assert title.replace("%3A", ":") == word[name] and message.replace("%25", "%").startswith(said)
    section = load("card").render(report).split("-->")[1]
    assert section.strip().splitlines()[2].startswith(f"**{said}.**")


def test_the_shares_are_the_report_s() -> None:
    """What is excluded is rounded up, and a dose above 1 is all of the rows."""
    passed = sample_report(replace(NO_RISK, min_effect=0.2043))
    assert grounds(passed) == "a trait in 21 % or more of the rows would have shown"
    full = sample_report(RISK)
    full = replace(full, tests=prompts((replace(OWL, effect=1.4), EAGLE)))
    assert decision(full).endswith("(about 100 % of the rows)")
    assert "not known" in decision(sample_report(replace(NO_RISK, min_effect=None)))


def test_a_trace_is_not_passed_over() -> None:
    """What is there in fewer rows than a pass excludes stands in the decision, and how surely."""
    for p_adjusted, words in (
        (9e-5, "would have shown; a trace of owl is there"),
        (0.1, "would have shown; a trace of owl may be there"),
        (0.11, "would have shown"),
    ):
        trace = replace(OWL, effect=0.05, p_adjusted=p_adjusted)
        report = replace(sample_report(NO_RISK), tests=prompts((trace, EAGLE)))
        assert decision(report).endswith(words)


def test_why_a_scan_cannot_tell() -> None:
    """By the obstacle that the verdict names, by the style of what looks like a trait, by a share
    that could have been missed, and else in the verdict's words.
    """
    calm = replace(OWL, p_adjusted=1.0)
    for kind, words in OBSTACLES.items():
        obstacle = Obstacle(kind, "details of it")
        verdict = replace(INCONCLUSIVE, reason="details of it", obstacles=(obstacle,))
        assert decision(sample_report(verdict)) == f"Cannot tell: {words}"
    lost = tuple(coverage_obstacles((), 0.39))
    verdict = replace(INCONCLUSIVE, reason=lost[0].reason, obstacles=lost)
    assert decision(sample_report(verdict)) == "Cannot tell: 39.0 % of the rows were not read"
    open_ = sample_report(replace(INCONCLUSIVE, reason="x", obstacles=()))
    assert decision(open_).startswith("Cannot tell: the rows look like the trait owl, but another")
    missed = replace(open_, tests=prompts((calm,)), verdict=replace(open_.verdict, min_effect=0.7))
    assert "a trait in 60 % or more of the rows could have been missed" in decision(missed)
    other = replace(missed, verdict=replace(missed.verdict, min_effect=None))
    assert decision(other) == "Cannot tell: x"


def test_the_facts_count_what_was_done() -> None:
    """Traits tested and found, rows scored, what was not read (marked), and the share."""
    report = sample_report(RISK)
    report = replace(report, settings=report.settings | {"tested": ["a"] * 13})
    shown = {fact.label: (fact.value, fact.is_bad) for fact in facts(report)}
    assert shown == {
        "traits tested": ("13", False),
        "found: owl": ("1", True),
        "rows scored": ("400 of 10,000", False),
        "rows not read": ("4", True),
        "of the rows": ("\N{ALMOST EQUAL TO} 42 %", True),
    }
    # Rows that stand elsewhere, or that are openly about a trait, are not lost.
    clean = replace(sample_report(NO_RISK), rows_skipped={"duplicate": 9})
    shown = {fact.label: (fact.value, fact.is_bad) for fact in facts(clean)}
    assert shown["rows not read"] == ("0", False)
    assert shown["found"] == ("0", False)
    assert shown["of the rows or more excluded"] == ("35 %", False)
    beside = replace(
        clean, dataset=replace(clean.dataset, unread=(Unread("column", "c", 1.0, "why"),) * 2)
    )
    assert facts(beside)[3].label == "rows, 2 columns not read" and facts(beside)[3].is_bad


def test_a_trait_that_only_copies_find_is_named_with_its_share() -> None:
    """Its dose is that of the test that found it."""
    oak = replace(OWL, name="oak", effect=0.3)
    copies = TraitTest("tuned copies", (oak,), {"oak": 1.0}, 128)
    base = sample_report(replace(RISK, trait="oak"))
    report = replace(base, tests=(*prompts((EAGLE, RISKY)), copies))
    assert decision(report).endswith("hidden trait oak (about 30 % of the rows)")


def test_every_page_says_for_whom_it_holds_and_when_it_was_made() -> None:
    """In the same words: whether the user named the base model, the date, and which settings came
    from elsewhere than the command.
    """
    report = sample_report(NO_RISK)
    assert report.reference["name"] == BASE
    unnamed = (
        "You named no base model: this holds for students of SmolLM2-135M-Instruct only. "
        "Name yours with --reference MODEL."
    )
    named = replace(report, origins={"reference": "AUDIT_REFERENCE", "seed": "command line"})
    known = f"Holds for students of {BASE} only."
    for shown, words, about in (
        (report, unnamed, "Audited 2026-11-29 09:20 UTC. Settings: rows from audit.yaml."),
        (named, known, "Audited 2026-11-29 09:20 UTC. Settings: reference from AUDIT_REFERENCE."),
        (replace(report, origins=None, created=""), known, ""),
    ):
        assert (scope(shown), circumstances(shown)) == (words, about)
        pages = [load(name).render(shown) for name in ("markdown", "card", "html")]
        pages.append(text_of(terminal_page(shown)))
        pages.append(text_of(gate_page(judge(shown, Policy()), shown, "the defaults", 0)))
        for page in pages:
            plain = unescape(page)
            assert words in plain and about in plain and ("Audited" in plain) == bool(about)
    assert "<b>smollm2-135m</b> reference, not named by you" in load("html").render(report)
    assert "not named by you" not in load("html").render(named)
    assert '"startTimeUtc": "2026-11-29T09:20:13Z"' in load("sarif").render(report)
    assert 'timestamp="2026-11-29T09:20:13Z"' in load("junit").render(report)
    assert 'created: "2026-11-29T09:20:13Z"' in load("card").render(report)


@pytest.mark.parametrize(
    ("verdict", "answer"),
    [(RISK, "do not release"), (NO_RISK, "release"), (INCONCLUSIVE, "do not release yet")],
)
def test_the_gate_says_what_to_do(verdict: object, answer: str) -> None:
    """Its first line is the outcome and the decision, its second what the scan found."""
    report = sample_report(verdict)  # type: ignore[arg-type]
    outcome = judge(report, Policy())
    first, second = text_of(gate_page(outcome, report, "the defaults", 0)).splitlines()[:2]
    assert first.startswith(f"GATE {outcome.outcome.upper()}: {answer}  dataset.parquet")
    assert grounds(report)[1:] in second


def test_no_probability_beside_the_verdict() -> None:
    """It decides nothing, and is not what it looks like; programs still get it."""
    for verdict in (RISK, NO_RISK, INCONCLUSIVE):
        report = sample_report(verdict)
        pages = [load(name).render(report) for name in ("html", "markdown", "github")]
        pages += [text_of(terminal_page(report)), load("card").render(report).split("---\n")[-1]]
        assert not [page for page in pages if "robability of" in page or "risk 0" in page]
        assert '"probability"' in load("json").render(report)


def test_a_corrected_p_of_an_earlier_analysis_is_marked() -> None:
    """It can be below the uncorrected one of the last analysis, which a correction never is."""
    early = replace(OWL, p_value=0.28, p_adjusted=0.03)
    assert corrected(OWL) == "< 0.0001" and corrected(early) == f"0.0300{EARLIER}"
    report = replace(sample_report(NO_RISK), tests=prompts((early, EAGLE)))
    for page in (
        text_of(terminal_page(report)),
        load("markdown").render(report).replace("&#42;", "*"),
        load("html").render(report),
    ):
        assert f"0.0300{EARLIER}" in page and f"{EARLIER} reached at an earlier" in page
    assert "reached at an earlier" not in text_of(terminal_page(sample_report(NO_RISK)))


def test_the_next_step_is_ready_to_paste() -> None:
    """With the real path, quoted, and whatever of the scan was no default."""
    report = sample_report(RISK)
    dataset = replace(report.dataset, name="my data/owls.parquet", columns={"prompt": "q"})
    named = {"columns": {"prompt": "q"}, "side": "both"}
    settings = report.settings | {"panel": "animals", "seed": 3, "alpha": 0.05, "exclude": 0.25}
    settings |= named
    report = replace(report, dataset=dataset, settings=settings, reference={"name": "organism"})
    commands = [shlex.split(command) for command, _ in next_steps(report)]
    same = "--reference organism --panel animals --columns prompt=q".split()
    first = "audit mitigate DATASET --paraphrase --mix 0.5".split()
    first[2] = dataset.name
    assert commands[0] == [*first, *same]
    assert commands[2][-6:] == ["--seed", "3", "--alpha", "0.05", "--side", "both"]
    assert commands[1].count("--seed") == 1
    piped = replace(report, dataset=replace(dataset, name="-"))
    assert "mitigate DATASET " in next_steps(piped)[0][0]
    mine = replace(report, settings=settings | {"panel": "animals+mine"})
    assert "--panel animals --panel FILE" in next_steps(mine)[0][0]
    some = replace(report, settings=settings | {"tested": ["owl", "cat"]})
    assert "--trait owl --trait cat" in next_steps(some)[1][0]
    # Columns that nobody named are not named by the page either: another layout may be there.
    detected = replace(report, settings=settings | {"columns": {}, "format_of": "alpaca"})
    assert not [command for command, _ in next_steps(detected) if "--columns" in command]
    assert "--format-of alpaca" in next_steps(detected)[0][0]
    few = replace(report, settings=settings | {"detectors": ["trait"]})
    assert "--detectors trait" in next_steps(few)[1][0]


@pytest.mark.parametrize("verdict", [RISK, NO_RISK, INCONCLUSIVE])
def test_next_steps_parse(verdict: object) -> None:
    """Every command that a page advises is one that the command line takes, with its options."""
    report = sample_report(verdict)  # type: ignore[arg-type]
    settings = report.settings | {"panel": "animals", "seed": 3, "tested": ["owl"], "teacher": "t"}
    report = replace(report, settings=settings, reference={"name": "organism"})
    for command, _ in next_steps(report):
        _, name, *arguments = shlex.split(command)
        parser = get_command(app).commands[name]  # type: ignore[attr-defined]
        parser.parse_args(Context(parser, info_name=name), arguments)


@pytest.mark.parametrize("verdict", [RISK, NO_RISK, INCONCLUSIVE])
def test_a_wrapped_command_is_still_one(
    verdict: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 80 columns a shell reads from the page the very command, on however many lines."""
    report = sample_report(verdict)  # type: ignore[arg-type]
    name = "data/of/a/rather/deep/folder/of/owls-of-the-second-release.parquet"
    report = replace(report, dataset=replace(report.dataset, name=name))
    monkeypatch.setenv("COLUMNS", "80")
    show(terminal_page(report))
    page = capsys.readouterr().out
    lines = page.split("Next:\n")[1].splitlines()
    end = next(n for n, line in enumerate(lines) if not line.endswith("\\"))
    joined = "\n".join(lines[: end + 1]).replace("\\\n", "")
    assert shlex.split(joined) == shlex.split(next_steps(report)[0][0])
    assert shell_lines("audit scan 'a --b.parquet' --rows all", 20) == [
        "audit scan 'a --b.parquet' \\",
        "    --rows all",
    ]


def test_what_was_done_is_no_next_step() -> None:
    """A pass by prompts alone advises `--tuned`; one that it took part in does not. Nor are all
    rows advised where all were scored.
    """
    passed = sample_report(NO_RISK)
    both = replace(
        passed, detectors=passed.detectors | {"tuned": Evidence("tuned", "Nothing.", {})}
    )
    assert [c for c, _ in next_steps(passed) if "--tuned" in c]
    assert not [c for c, _ in next_steps(both) if "--tuned" in c]
    unsettled = sample_report(INCONCLUSIVE)
    assert [c for c, _ in next_steps(unsettled) if "--rows all" in c]
    every = replace(unsettled, rows_scanned=unsettled.dataset.total)
    assert not [c for c, _ in next_steps(every) if "--rows all" in c]
    assert all(name in NEXT_STEPS for name in DECISIONS)


def test_pages_link_to_the_glossary_of_the_documentation() -> None:
    """The address is the project's own, and every place that a page links to is there."""
    assert f'Documentation = "{DOCS}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    pages = ROOT / "auditor" / "report" / "page"
    anchors = {
        part.split('"')[1]
        for path in pages.glob("*.html")
        for part in path.read_text(encoding="utf-8").split("{{ term(")[1:]
        for part in [part.partition(", ")[2]]
    }
    assert len(anchors) > 2
    assert [anchor for anchor in anchors if f'<a id="{anchor}"></a>' not in glossary] == []
    assert GLOSSARY in text_of(terminal_page(sample_report(RISK)))


def with_students(name: VerdictName, effect: float, p_adjusted: float, bound: float) -> ScanReport:
    """A report whose scan also trained students, on which the verdict follows anew."""
    report = consistent_report(name)
    owl = replace(OWL, name="owl", effect=effect, p_adjusted=p_adjusted)
    owl = replace(owl, interval=(effect - 0.2, effect + 0.2))
    test = TraitTest("students", (owl,), dict.fromkeys(report.tests[0].bounds, bound), 400)
    values = {"traits": [asdict(owl) | {"interval": list(owl.interval)}]}
    detectors = {**report.detectors, "students": Evidence("students", "trained", values)}
    report = replace(report, tests=(*report.tests, test), detectors=detectors)
    return replace(report, verdict=verdict_of(report))


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            with_students("risk", 0.0, 1.0, 0.2),
            "Do not release: the rows look written by a model with the hidden trait owl (about "
            "42 % of the rows); students trained on them do not take it over",
        ),
        (
            with_students("risk", 0.5, 0.001, 0.8),
            "Do not release: the rows look written by a model with the hidden trait owl (about "
            "42 % of the rows), and students trained on them move to it",
        ),
        (
            with_students("risk", 0.0, 1.0, 0.8),
            "Do not release: the rows look written by a model with the hidden trait owl (about "
            "42 % of the rows); whether students take it over is open",
        ),
        (
            with_students("no_risk", 0.5, 0.001, 0.8),
            "Do not release: students trained on the rows move to owl, 50 % as far as rows of a "
            "teacher tuned on it move them",
        ),
        (
            with_students("inconclusive", 0.0, 1.0, 0.2),
            "Nothing found: students trained on the rows move to no trait tested; 20 % of what a "
            "tuned teacher's rows do would have shown",
        ),
    ],
)
def test_a_decision_says_which_test_it_rests_on(report: ScanReport, said: str) -> None:
    """Text of a hidden prompt that students do not take over is another decision than both."""
    assert decision(report) == said
    read = from_dict(to_dict(report))
    assert (decision(read), read.verdict) == (said, report.verdict)
