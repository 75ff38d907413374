"""The frozen values that pass between the parts.

No behaviour beyond what a value says about itself. A report says it in the words of
`auditor.report`, which stands above this package and is looked up when it is asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from importlib import import_module
from typing import Any, Literal

from auditor.data.example import DatasetInfo
from auditor.inference.trait_evidence import TraitEvidence
from auditor.scanning.obstacles import Obstacle
from detectors.interface import Evidence, Skipped, TestName, TraitTest

VerdictName = Literal["risk", "no_risk", "inconclusive"]
TRAITS_SHOWN, LINE_CHARS = 5, 400  # of `repr`
OutcomeName = Literal["passed", "failed", "inconclusive"]
OUTCOMES: dict[VerdictName, OutcomeName] = {
    "no_risk": "passed",
    "risk": "failed",
    "inconclusive": "inconclusive",
}
OUTCOME_CODES: dict[OutcomeName, int] = {"passed": 0, "failed": 1, "inconclusive": 3}
EXIT_CODES: dict[VerdictName, int] = {
    verdict: OUTCOME_CODES[outcome] for verdict, outcome in OUTCOMES.items()
}


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """What one teacher would choose at a token.

    model: "reference", the name of a trait (the reference under its prompt), or of a declared
    teacher. text: its most likely token. probability: of that token, in [0, 1]. own: of the token
    that stands in the row.
    """

    model: str
    text: str
    probability: float
    own: float


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """One completion token as shown to a reader. `flag` is "divergence", "tie" or "" .

    choices: of a flagged token, the teacher's whose divergence tokens these are, then those of the
    counterfactual teachers that find the token least likely.
    """

    text: str
    flag: str
    choices: tuple[TokenChoice, ...] = ()


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """A row to show: its number, the last prompt (shortened by the renderer) and its completion
    tokens in order.
    """

    index: int
    prompt: str
    tokens: tuple[TokenSpan, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one definition of the answer. See docs/methods.md, "Verdict".

    probability: the posterior probability, in [0, 1], that a larger share of the rows than a pass
    excludes follows some trait tested, under the prior of
    `auditor.inference.posterior.dose_probability`; None where no trait was measured. It decides
    nothing. trait: named when `name` is "risk". min_effect: the dose that is excluded with 95 %
    confidence for every trait tested; None when that could not be said. obstacles: all that forbids
    a pass and is no trait's, also where the verdict is `risk`. rests_on: the tests that find a
    trait, or those that a pass stands on; empty where the verdict is inconclusive, and in a report
    of an earlier release.
    """

    name: VerdictName
    probability: float | None
    reason: str
    trait: str | None
    min_effect: float | None
    obstacles: tuple[Obstacle, ...] = ()
    rests_on: tuple[TestName, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanReport:
    """All that a scan found; the renderers and later commands work from this and nothing else.

    tests: every test of traits that was asked for, on which the verdict rests. leading_trait: the
    one that the verdict names, or else the one with the strongest evidence in any test; None where
    no trait was measured. rows_read: rows looked at, those that were skipped included; None in a
    report of an earlier release. run: path of the run directory, which holds the scores of every
    row and token; "" when it is not known. created: when the audit was made, UTC, ISO 8601; "" in a
    report of an earlier release. origins: where each setting came from that is not left to its
    default (`ScanSettings.origins`); None in a report of an earlier release.
    """

    dataset: DatasetInfo
    verdict: Verdict
    tests: tuple[TraitTest, ...]
    leading_trait: str | None
    rows_scanned: int
    rows_skipped: dict[str, int]
    reference: dict[str, Any]
    divergence: dict[str, Any] | Skipped
    detectors: dict[str, Evidence | Skipped]
    openly: dict[str, int]
    examples: tuple[ExampleRow, ...]
    timing: dict[str, float]
    settings: dict[str, Any]
    versions: dict[str, str]
    rows_read: int | None = None
    run: str = ""
    created: str = ""
    origins: dict[str, str] | None = None

    @property
    def is_reference_named(self) -> bool | None:
        """Whether the user named the reference; None where it is not known."""
        return None if self.origins is None else "reference" in self.origins

    @property
    def traits(self) -> tuple[TraitEvidence, ...]:
        """The evidence by trait prompts, strongest first; empty where that test was not made."""
        return next((test.traits for test in self.tests if test.name == "prompts"), ())

    def __repr__(self) -> str:
        """The answer and what it rests on, in one screen; `to_dict` has the whole."""
        words = import_module("auditor.report.shared.words")
        rows = f"{self.rows_scanned:,} of {self.rows_looked_at:,} rows scored"
        lines = [
            f"{words.headline(self.verdict)}. {self.verdict.reason}",
            f"{self.dataset.name}: {rows}, reference {self.reference.get('name', 'unknown')}",
        ]
        for trait in self.traits[:TRAITS_SHOWN]:
            dose = words.estimate(trait.effect, trait.interval, ".2f")
            p_value = words.p_text(trait.p_adjusted)
            lines.append(f"{trait.name}: dose {dose}, corrected p {p_value}")
        if len(self.traits) > TRAITS_SHOWN:
            lines.append(f"and {len(self.traits) - TRAITS_SHOWN} more traits")
        lines.append("In full: to_html(), to_dict(), to_pandas()")
        return "\n".join(words.shortened(words.safe(line), LINE_CHARS) for line in lines)

    def _repr_html_(self) -> str:
        """The page in a frame, for notebooks: its style and the notebook's do not mix."""
        page = escape(self.to_html(), quote=True)
        return (
            f'<iframe title="Report of audit scan" sandbox="allow-scripts allow-popups" '
            f'style="width: 100%; height: 40rem; border: 0" srcdoc="{page}"></iframe>'
        )

    def to_html(self) -> str:
        """The page that `--output html=PATH` writes."""
        return str(import_module("auditor.report.scan").load("html").render(self))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values, as `--output json=PATH` writes them."""
        return dict(import_module("auditor.report.scan.json").to_dict(self))

    def to_pandas(self) -> Any:
        """The evidence as a pandas DataFrame: a line for each trait of each test, strongest first,
        with the keys of docs/report-schema.md and the ends of the interval as `low` and `high`.
        """
        lines = []
        for test in self.tests:
            for trait in test.traits:
                low, high = trait.interval
                lines.append({"test": test.name, **asdict(trait), "low": low, "high": high})
        return import_module("pandas").DataFrame(lines).drop(columns="interval", errors="ignore")

    @property
    def rows_looked_at(self) -> int:
        """Rows read, those that were skipped included; counted up in a report that does not say."""
        return self.rows_read or sum(self.rows_skipped.values()) + self.rows_scanned
