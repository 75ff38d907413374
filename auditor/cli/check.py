"""The check of a mitigated set on the screen: the two scans, then what students have left of the
effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.cli.exit import exit_code
from auditor.release.decision import FailOn
from auditor.scanning.scan_report import OutcomeName

if TYPE_CHECKING:
    from auditor.commands.check_mitigation import MitigationCheck


def show_check(checked: MitigationCheck, fail_on: FailOn) -> int:
    """Print a check, the students' table last, and return the exit code."""
    from rich.console import Group

    from auditor.cli.console import show
    from auditor.report import check, verify

    show(
        Group(
            check.terminal_page(checked.before, checked.after),
            verify.terminal_page(checked.students),
            _answer(checked),
        )
    )
    return exit_code(outcome(checked), fail_on)


def outcome(checked: MitigationCheck) -> OutcomeName:
    """passed: the effect is shown to be removed or reduced; failed: it is shown to be all there;
    else inconclusive.
    """
    from auditor.release.verifications import defended

    left = checked.arm.effect_ratio
    shown = checked.students.result.transferred
    return (
        defended(checked.arm.verdict, left.interval if left else None, "reduced")
        if shown
        else "inconclusive"
    )


def _answer(checked: MitigationCheck) -> str:
    from auditor.report.shared.words import safe

    result, arm = checked.students.result, checked.arm
    if not result.transferred:
        return (
            f"The check could not be made: the original itself shows no transfer of "
            f"{safe(result.trait or '')}."
        )
    first = result.arms[0].training
    rows, tokens = (
        arm.training.rows / max(1, first.rows),
        arm.training.tokens / max(1, first.tokens),
    )
    return (
        f"{safe(checked.name)}: {arm.verdict}, {rows:.0%} of the rows and {tokens:.0%} of the "
        f"trained tokens kept."
    )


def conclude(tried: list[MitigationCheck], fail_on: FailOn) -> int:
    """Say which of the combinations that `--auto` tried removes the effect, and return the exit
    code.
    """
    from auditor.cli.console import show
    from auditor.report.shared.words import safe

    best = tried[-1] if tried else None
    if best is None or best.arm.verdict != "removed":
        names = (
            "; ".join(f"{safe(each.name)}: {each.arm.verdict}" for each in tried)
            or "none within the budget"
        )
        show(
            f"No combination was shown to remove the effect ({names}). A larger --budget may show "
            f"more."
        )
        return exit_code("inconclusive", fail_on)
    show(
        f"Of what was tried, {safe(best.name)} removes the effect and keeps the most data: "
        f"{safe(str(best.done.data))}"
    )
    return exit_code("passed", fail_on)
