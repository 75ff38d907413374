"""What was not read stands in the first lines of every page, and the share in the headline."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from auditor.data.coverage import Unread
from auditor.release.judge import judge
from auditor.release.policy import Policy
from auditor.report.gate import terminal_page as gate_page
from auditor.report.scan import load
from auditor.report.scan.terminal import terminal_page
from auditor.report.shared.words import headline, unread_lines
from auditor.scanning.obstacles import coverage_obstacles
from auditor.scanning.scan_report import ScanReport
from tests.support.sample_report import INCONCLUSIVE, NO_RISK, RISK, sample_report

ARROW = Unread("file", "b.arrow", 0.5, "Arrow files are not read")
LINE = "not read: file b.arrow (50.0 % of the bytes): Arrow files are not read"


def with_unread(*unread: Unread) -> ScanReport:
    report = sample_report(NO_RISK)
    return replace(report, dataset=replace(report.dataset, unread=unread))


def shown(page: object) -> str:
    """A page as a wide terminal shows it, without its frame."""
    console = Console(file=io.StringIO(), width=200)
    console.print(page)
    return re.sub("[│╭╮╰╯─]+ *| +$", "", console.file.getvalue(), flags=re.M)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "before"),
    [("markdown", 120), ("card", 750), ("github", 250), ("junit", 1300), ("html", 90_000)],
)
def test_pages_name_it_before_the_reason(name: str, before: int) -> None:
    """At the head of the page, however it is written; not at all where all was read."""
    assert "ot read:" not in load(name).render(sample_report(NO_RISK))
    text = load(name).render(with_unread(ARROW)).replace("%25", "%")
    position = text.index(LINE[1:])
    assert position < min(before, text.index("No trait of the panel stands out"))


def test_terminals_name_it_before_the_reason() -> None:
    """Of the scan, and of the gate, which may take the report of another machine."""
    report = with_unread(ARROW)
    assert shown(terminal_page(report)).strip().splitlines()[2].strip() == LINE
    page = gate_page(judge(report, Policy()), report, "the defaults", 0)
    assert shown(page).splitlines()[1] == LINE


def test_programs_are_told_too() -> None:
    """SARIF warns of it; the JSON report has it whole."""
    assert LINE in load("sarif").render(with_unread(ARROW))
    assert '"name": "b.arrow"' in load("json").render(with_unread(ARROW))


def test_a_long_list_is_cut_and_counted() -> None:
    """A thousand files, or one of a long name, leave the page readable."""
    files = [replace(ARROW, name=f"{number}.arrow") for number in range(1000)]
    lines = unread_lines(with_unread(*files).dataset)
    assert len(lines) == 6 and lines[-1] == "not read: 995 more in the JSON report"
    (line,) = unread_lines(with_unread(replace(ARROW, name="\x1b" * 10_000)).dataset)
    assert len(line) < 220 and line.isprintable()


def test_the_headline_has_the_share() -> None:
    """Of an answer that it kept from being a pass; a finding stands by itself."""
    lost = tuple(coverage_obstacles((), 0.072))
    assert headline(replace(INCONCLUSIVE, obstacles=lost)) == (
        "INCONCLUSIVE: 7.2 % of the rows were not read"
    )
    assert headline(INCONCLUSIVE) == "INCONCLUSIVE"
    assert headline(replace(RISK, obstacles=lost)) == "RISK FOUND: owl"
