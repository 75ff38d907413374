"""What a detector is, what it is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from auditor.data.example import Example
from auditor.inference.trait_evidence import TraitEvidence
from auditor.plugins import Plugin
from auditor.progress import Progress

# These bring torch or pyarrow, which a report's reader and the command line's help can do without.
if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from auditor.model.language_model import LanguageModel
    from auditor.model.null_model import Scorer
    from auditor.model.scoring import TokenScores
    from auditor.model.tokenization import ChatTokenizer, TokenizedRow
    from auditor.runs.run_directory import RunDir
    from auditor.traits.panel import Panel


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


Outcome = Evidence | Skipped
TestName = Literal["prompts", "tuned copies", "students"]
Hazard = Literal["never", "when_unresolved", "required"]
HAZARDS: tuple[Hazard, ...] = ("never", "when_unresolved", "required")  # by what they ask


@dataclass(frozen=True, slots=True)
class TraitTest:
    """One test of the traits of a panel. Verdicts rest on such tests and on nothing else.

    name: by trait prompts, by copies of the reference tuned on the traits, or by students trained
    on the data, whose doses are shares of what data of such a copy do. traits: the evidence for
    every trait that the rows suffice for, in the one order of traits
    (`auditor.inference.trait_evidence.ranked`). bounds: the one-sided upper 95 % bound of the dose
    of every trait that is tested; None where the rows do not suffice for one. rows: how many were
    scored. skipped: why the test was not made although it was asked for; empty if it was made.
    own_text: whether the traits were excluded all at once, since the reference itself wrote the
    rows (`detectors.own_text`); the doses are shares of rows that may follow any prompt then.
    """

    name: TestName
    traits: tuple[TraitEvidence, ...] = ()
    bounds: Mapping[str, float | None] = field(default_factory=dict)
    rows: int = 0
    skipped: str = ""
    own_text: bool = False


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows and what models predict at their completion tokens, in the same order.

    reference: the reference's scores. teacher: the declared teacher's; empty without one.
    trait_tokens: completion tokens that were scored under a trait prompt, once for every prompt,
    and trait_seconds: how long that took.
    """

    rows: Sequence[TokenizedRow] = ()
    reference: Sequence[TokenScores] = ()
    teacher: Sequence[TokenScores] = ()
    trait_tokens: int = 0
    trait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Divergence:
    """The divergence tokens of some rows, in the order of `rows` (`detectors.divergence`).

    flagged, ties: a mask [T] a row. gaps: [T] a row, the nats by which the factual teacher's
    log-probability of the token exceeds that of a counterfactual teacher, the largest over these.
    factual: the name of the factual teacher. scores: every teacher's scores of the rows by name,
    the factual teacher's first.
    """

    rows: Sequence[TokenizedRow]
    flagged: tuple[npt.NDArray[np.bool_], ...]
    ties: tuple[npt.NDArray[np.bool_], ...]
    gaps: tuple[npt.NDArray[np.floating], ...]
    factual: str
    scores: Mapping[str, Sequence[TokenScores]]

    @property
    def counterfactuals(self) -> tuple[str, ...]:
        """The names of the counterfactual teachers."""
        return tuple(self.scores)[1:]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector gives that does more than describe the data.

    outcome: for the reports. test: for the verdict. scored: the rows that it scored, with which
    later detectors go on. divergence: the tokens that the reports mark.
    """

    outcome: Outcome
    test: TraitTest | None = None
    scored: ScoredRows | None = None
    divergence: Divergence | None = None


@dataclass(frozen=True, slots=True)
class ScanContext:
    """What the detectors of one scan work with.

    lm: the reference. score: scores rows under it, or under its fast copy where that will do.
    panel: as the user named it. tested: its traits that are hypotheses. controlled: `panel` with
    negative controls of other panels, to tell how far traits stray that the data do not carry.
    hypotheses: how many p-values are corrected for, over all tests. alpha: the rate of false
    alarms. exclude: the dose that a pass must exclude. stop_early: whether the panel test may end
    before it has scored all rows. budget: for how many seconds of two cores it may go on, at the
    speed of the default reference. fast_dtype: the number type of the fast pass. examples: by row
    number. rows: all that can be scored, in random order. excluded_rows: by trait, the numbers of
    the rows that mention it openly and are no evidence for it. weights: by row number, how often a
    row that is scored once stands in the data, where that is more than once
    (`auditor.scanning.preparation.encode`). like: rows of earlier data sets of the same writer, in
    random order, which doses are compared with; their numbers lie below 0, those that mention a
    trait among `excluded_rows`. teacher: the model that is said to have written the
    data, if one is.

    hazard: when students are trained on the data (`auditor.scanning.settings.ScanSettings`).

    scored: what a detector that needs "scores" works on. own_text: whether the rows turned out to
    be the reference's own text, so that there is no teacher to look for. leading_trait: the one
    with the strongest evidence, for a detector that needs it; None where no trait was tested.
    unresolved: whether the tests made so far leave the verdict inconclusive.
    finding: the evidence by trait prompts that a verdict of risk would rest on, unless the looks of
    the text speak against it; None where there is none.
    """

    lm: LanguageModel
    renderer: ChatTokenizer
    score: Scorer
    panel: Panel
    tested: Panel
    controlled: Panel
    hypotheses: int
    alpha: float
    exclude: float
    stop_early: bool
    budget: float
    fast_dtype: str
    seed: int
    examples: Mapping[int, Example]
    rows: Sequence[TokenizedRow]
    excluded_rows: Mapping[str, set[int]]
    weights: Mapping[int, float]
    teacher: LanguageModel | None
    run: RunDir
    progress: Callable[[Progress], None]
    hazard: Hazard = "never"
    like: Sequence[TokenizedRow] = ()
    scored: ScoredRows = field(default_factory=ScoredRows)
    own_text: bool = False
    leading_trait: str | None = None
    unresolved: bool = False
    finding: TraitEvidence | None = None


Need = Literal["rows", "scores", "leading trait", "verdict"]


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector, of ours or of another package.

    name: in the registry and on the command line. description: one line. needs: how much of the
    context it looks at, from little to much: the rows alone; also the scored rows; also the trait
    with the strongest evidence; also whether the verdict is open, so that it runs last. detect:
    gives evidence, or the reason why there is none; a `Finding` if it does more. It is called with
    at least one row. test: the test that it makes for the verdict, if it makes one. plugin: where
    it comes from, if it is not ours.
    """

    name: str
    description: str
    needs: Need
    detect: Callable[[ScanContext], Outcome | Finding]
    test: TestName | None = None
    plugin: Plugin | None = None
