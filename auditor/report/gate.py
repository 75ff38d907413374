"""What `audit gate` shows: the outcome, and one line a rule."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from auditor.release.decision import Decision
from auditor.report.scan.answer import circumstances, facts_line, grounds, scope
from auditor.report.shared.words import headline, safe, sentence, unread_lines
from auditor.scanning.scan_report import OutcomeName, ScanReport

# Words as well as colours, and capitals for what needs an answer: a log of CI has no colours.
STYLES: dict[OutcomeName, str] = {"passed": "green", "failed": "red", "inconclusive": "yellow"}
RULE_WORDS: dict[OutcomeName, str] = {
    "passed": "passed",
    "failed": "FAILED",
    "inconclusive": "not judged",
}

ADVICE: dict[OutcomeName, str] = {
    "passed": "release",
    "failed": "do not release",
    "inconclusive": "do not release yet",
}


def terminal_page(decision: Decision, report: ScanReport, origin: str, code: int) -> RenderableType:
    """The page. origin: of the policy. code: the exit code that the command will end with."""
    answer = f"GATE {decision.outcome.upper()}: {ADVICE[decision.outcome]}"
    title = Text(answer, style=f"bold {STYLES[decision.outcome]}")
    title.append(f"  {safe(report.dataset.name)}, exit code {code}", style="not bold default")
    scan = f"{headline(report.verdict)}. {sentence(grounds(report))}"
    for line in (*unread_lines(report.dataset), scan, scope(report)):
        title.append(f"\n{line}", style="not bold default")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for rule in decision.rules:
        word = Text(RULE_WORDS[rule.outcome], style=STYLES[rule.outcome])
        table.add_row(word, Text(safe(rule.name)), Text(safe(rule.text)))
    basis = "\n".join(filter(None, [facts_line(report), circumstances(report), origin]))
    return Group(title, table, Text(basis, style="dim"))
