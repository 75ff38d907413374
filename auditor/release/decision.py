"""What a policy says of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auditor.scanning.scan_report import OutcomeName

FailOn = Literal["inconclusive", "risk", "never"]
"""Which outcomes end with an error: failed and inconclusive ones, failed ones only, none."""
Defended = Literal["reduced", "removed"]
"""What a verification can say for a defence, the weaker first."""
WORST_FIRST: tuple[OutcomeName, ...] = ("failed", "inconclusive", "passed")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a release policy, applied. `name` is its key in the policy; `text` has the number
    and the limit.

    outcome: "inconclusive" when it could not be judged; the text then says why.
    """

    name: str
    outcome: OutcomeName
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a release policy says of a data set: the worst outcome of its rules."""

    rules: tuple[Rule, ...]

    @property
    def outcome(self) -> OutcomeName:
        """failed if any rule is, else inconclusive if any is, else passed."""
        return min((rule.outcome for rule in self.rules), key=WORST_FIRST.index, default="passed")
