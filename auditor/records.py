"""The frozen values that pass between the parts. No behaviour beyond what a value says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

VerdictName = Literal["risk", "no_risk", "inconclusive"]
OutcomeName = Literal["passed", "failed", "inconclusive"]
OUTCOMES: dict[VerdictName, OutcomeName] = {"no_risk": "passed", "risk": "failed", "inconclusive": "inconclusive"}
OUTCOME_CODES: dict[OutcomeName, int] = {"passed": 0, "failed": 1, "inconclusive": 3}
EXIT_CODES: dict[VerdictName, int] = {verdict: OUTCOME_CODES[outcome] for verdict, outcome in OUTCOMES.items()}
FailOn = Literal["inconclusive", "risk", "never"]
"""Which outcomes end with an error: failed and inconclusive ones, failed ones only, none."""
Defended = Literal["reduced", "removed"]
"""What a verification can say for a defence, the weaker first."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is "system", "user", "assistant" or "tool"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row that can be scored.

    index: row number in the data set, from 0, in file order (files of a folder in name order).
    messages: the conversation; at least one non-empty assistant turn. Empty for plain text.
    text: the plain text of a `text` row, else None.
    """

    index: int
    messages: tuple[Message, ...] = ()
    text: str | None = None

    @property
    def prompt(self) -> str:
        """The last user turn, or "" where there is none."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def completion(self) -> str:
        """All that a student would be trained on: the assistant turns joined by newlines, or the plain text."""
        if self.text is not None:
            return self.text
        return "\n".join(m.content for m in self.messages if m.role == "assistant")


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """One row that cannot be scored, with the reason (a short snake_case word that reports count by)."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What was read.

    name: as the user wrote it. format: "messages", "prompt_completion", "alpaca", "sharegpt" or "text".
    columns: role of each column used, e.g. {"prompt": "question"}.
    sha256: of the bytes (of the files' digests, for a folder). total: rows in the data set.
    sampling: one sentence that says how rows were chosen.
    """

    name: str
    format: str
    columns: dict[str, str]
    sha256: str
    total: int
    sampling: str


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows an audit works on, in the random order in which it will take them, and what was left out."""

    info: DatasetInfo
    examples: tuple[Example, ...]
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A measurement that was not made, and why. Never written as NaN or 0."""

    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one detector found.

    detector: its registry name. summary: one sentence for the terminal.
    values: plain JSON values (numbers, strings, lists, dicts), each documented in docs/methods.md.
    """

    detector: str
    summary: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TraitEvidence:
    """One trait of the panel.

    effect: dose estimate; 0 is the reference itself, 1 the reference under the trait's prompt.
    interval: 95 % confidence interval of `effect`. z: effect over its standard error, clustered by row.
    p_value: one-sided. p_adjusted: corrected for every trait of the panel and every look at the data.
    rows, tokens: what was spent on this trait. eliminated_at: rows seen when it was last scored, None: to the end.
    """

    name: str
    group: str
    effect: float
    interval: tuple[float, float]
    z: float
    p_value: float
    p_adjusted: float
    rows: int
    tokens: int
    eliminated_at: int | None = None


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """What one teacher would choose at a token.

    model: "reference", the name of a trait (the reference under its prompt), or of a declared teacher.
    text: its most likely token. probability: of that token, in [0, 1]. own: of the token that stands in the row.
    """

    model: str
    text: str
    probability: float
    own: float


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """One completion token as shown to a reader. `flag` is "divergence", "tie" or "" .

    choices: of a flagged token, the teacher's whose divergence tokens these are, then the counterfactuals'.
    """

    text: str
    flag: str
    choices: tuple[TokenChoice, ...] = ()


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """A row to show: its number, the last prompt (shortened by the renderer) and its completion tokens in order."""

    index: int
    prompt: str
    tokens: tuple[TokenSpan, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one definition of the answer. See docs/methods.md, "Verdict".

    risk: in [0, 1]; 1 minus the smallest corrected p-value of any trait with a dose of at least 0.1.
    trait: named when `name` is "risk". min_effect: the dose that is excluded with 95 % confidence for every trait
    tested; None when that could not be said.
    """

    name: VerdictName
    risk: float
    reason: str
    trait: str | None
    min_effect: float | None


@dataclass(frozen=True, slots=True)
class ScanReport:
    """All that a scan found; the renderers and later commands work from this and nothing else.

    rows_read: rows looked at, those that were skipped included; None in a report of an earlier release.
    run: path of the run directory, which holds the scores of every row and token; "" when it is not known.
    """

    dataset: DatasetInfo
    verdict: Verdict
    rows_scanned: int
    rows_skipped: dict[str, int]
    reference: dict[str, Any]
    traits: tuple[TraitEvidence, ...]
    divergence: dict[str, Any] | Skipped
    detectors: dict[str, Evidence | Skipped]
    openly: dict[str, int]
    examples: tuple[ExampleRow, ...]
    timing: dict[str, float]
    settings: dict[str, Any]
    versions: dict[str, str]
    rows_read: int | None = None
    run: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a release policy, applied. `name` is its key in the policy; `text` has the number and the limit.

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
        found = {rule.outcome for rule in self.rules}
        return "failed" if "failed" in found else "inconclusive" if "inconclusive" in found else "passed"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is. `total` is None when it is not known yet."""

    stage: str
    done: int
    total: int | None
