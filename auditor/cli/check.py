"""The check of a mitigated set on the screen: the two scans, then what students have left of the effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from auditor.check import Checked

SHOWN, NOT_SHOWN = 0, 3


def show(checked: Checked, console: Console) -> int:
    """Print a check, the students' table last, and return the exit code: 0 only where the effect was reduced."""
    from auditor.report.terminal import safe
    from auditor.report.two_scans import render as scans
    from auditor.report.verify import render as students

    console.print(scans(checked.before, checked.after))
    console.print(students(checked.students))
    result, arm = checked.students.result, checked.arm
    kept = f"{arm.training.rows / max(1, result.arms[0].training.rows):.0%} of the rows"
    kept += f" and {arm.training.tokens / max(1, result.arms[0].training.tokens):.0%} of the trained tokens kept"
    if not result.transferred:
        console.print(
            f"The check could not be made: the original itself shows no transfer of {safe(result.trait or '')}."
        )
        return NOT_SHOWN
    console.print(f"{safe(checked.name)}: {arm.verdict}, {kept}.")
    return SHOWN if arm.verdict in ("removed", "reduced") else NOT_SHOWN


def conclude(tried: list[Checked], console: Console) -> int:
    """Say which of the combinations that `--auto` tried removes the effect, and return the exit code."""
    from auditor.report.terminal import safe

    best = tried[-1] if tried else None
    if best is None or best.arm.verdict != "removed":
        names = "; ".join(f"{safe(each.name)}: {each.arm.verdict}" for each in tried) or "none within the budget"
        console.print(f"No combination was shown to remove the effect ({names}). A larger --budget may show more.")
        return NOT_SHOWN
    console.print(f"Of what was tried, {safe(best.name)} removes the effect and keeps the most data: {best.done.data}")
    return SHOWN
