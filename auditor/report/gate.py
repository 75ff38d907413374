"""What `audit gate` shows, at a terminal and as a page: the outcome, and one line a rule."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from auditor.release.decision import Decision
from auditor.report.scan import html
from auditor.report.scan.answer import circumstances, facts_line, grounds, scope
from auditor.report.shared.banner import Fact
from auditor.report.shared.page import html_page
from auditor.report.shared.words import headline, safe, sentence, unread_lines
from auditor.scanning.scan_report import OUTCOMES, OutcomeName, ScanReport, VerdictName

# Words as well as colours, and capitals for what needs an answer: a log of CI has no colours.
STYLES: dict[OutcomeName, str] = {"passed": "green", "failed": "red", "inconclusive": "yellow"}
RULE_WORDS: dict[OutcomeName, str] = {
    "passed": "passed",
    "failed": "FAILED",
    "inconclusive": "not judged",
}
VERDICTS: dict[OutcomeName, VerdictName] = {outcome: name for name, outcome in OUTCOMES.items()}
ADVICE: dict[OutcomeName, str] = {
    "passed": "release",
    "failed": "do not release",
    "inconclusive": "do not release yet",
}


def decision_line(decision: Decision, report: ScanReport) -> str:
    """What to do, and the first rule that says so, in one sentence; `safe`."""
    rule = next(rule for rule in decision.rules if rule.outcome == decision.outcome)
    reason = f"{rule.name}: {safe(rule.text)}"
    # The verdict of the scan has plainer words than the rule, if it is the one that was judged.
    if rule.name == "verdict" and rule.text.endswith(report.verdict.reason):
        nothing = "nothing found; " if report.verdict.name == "no_risk" else ""
        reason = f"{nothing}{grounds(report)}"
    return f"{ADVICE[decision.outcome].capitalize()}: {reason}"


def to_html(decision: Decision, report: ScanReport, origin: str, code: int) -> str:
    """The page of the scan under the decision of the gate, with a line a rule. origin, code: as for
    the page at a terminal.
    """
    scanned, rules = html.banner(report), decision.rules
    # What was found is in the headline of the scan.
    tested, _, *others = scanned.facts
    passed = sum(rule.outcome == "passed" for rule in rules)
    word = f"GATE {decision.outcome.upper()}"
    banner = replace(
        scanned,
        style=VERDICTS[decision.outcome],
        word=word,
        decision=decision_line(decision, report),
        about=f"{headline(report.verdict)}. {scanned.about} {sentence(origin)} Exit code {code}.",
        facts=[
            Fact(f"{passed} of {len(rules)}", "rules passed", passed < len(rules)),
            tested,
            *others,
        ],
    )
    shown = {
        "title": f"{word} · {report.dataset.name}",
        "banner": banner,
        "rules": rules,
        "rule_words": RULE_WORDS,
    }
    return html_page("gate.html", html.page_values(report) | shown)


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
