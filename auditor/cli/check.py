"""The check of a mitigated set on the screen: the two scans, then what students have left of the
effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.cli.exit import exit_code
from auditor.release.decision import FailOn
from auditor.scanning.scan_report import OutcomeName
from auditor.students.settings import StudentSettings

if TYPE_CHECKING:
    from auditor.commands.check_mitigation import MitigationCheck


def show_check(checked: MitigationCheck, fail_on: FailOn) -> int:
    """Print a check, the students' table and the answer last, and return the exit code.

    passed: the effect is shown to be removed or reduced; failed: it is shown to be all there; else
    inconclusive.
    """
    from rich.console import Group

    from auditor.cli.console import show
    from auditor.release.verifications import defended
    from auditor.report import check, verify
    from auditor.report.shared.words import safe

    result, arm = checked.students.result, checked.arm
    outcome: OutcomeName = "inconclusive"
    answer = (
        "The check could not be made: the original itself shows no transfer of "
        f"{safe(result.trait or '')}."
    )
    if result.transferred:
        ratio = arm.effect_ratio
        outcome = defended(arm.verdict, ratio.interval if ratio else None, "reduced")
        original = result.arms[0].training
        rows = arm.training.rows / max(1, original.rows)
        tokens = arm.training.tokens / max(1, original.tokens)
        answer = (
            f"{safe(checked.name)}: {arm.verdict}, {rows:.0%} of the rows and {tokens:.0%} of the "
            f"trained tokens kept."
        )
    if (blocks := result.blocks_planned) < StudentSettings().blocks:
        answer += f" The rows are enough for {blocks} blocks only; more would say more."
    scans = check.terminal_page(checked.before, checked.after)
    show(Group(scans, verify.terminal_page(checked.students), answer))
    return exit_code(outcome, fail_on)


def conclude(tried: list[MitigationCheck], fail_on: FailOn) -> int:
    """Say which of the combinations that `--auto` tried removes the effect, and return the exit
    code.
    """
    from auditor.cli.console import show
    from auditor.report.shared.words import safe

    best = tried[-1] if tried else None
    if best is None or best.arm.verdict != "removed":
        verdicts = "; ".join(f"{safe(checked.name)}: {checked.arm.verdict}" for checked in tried)
        show(
            "No combination was shown to remove the effect "
            f"({verdicts or 'none within the budget'}). A larger --budget may show more."
        )
        return exit_code("inconclusive", fail_on)
    show(
        f"Of what was tried, {safe(best.name)} removes the effect and keeps the most data: "
        f"{safe(str(best.done.data))}"
    )
    return exit_code("passed", fail_on)
