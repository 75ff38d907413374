"""The settings of a scan: what a user can set, spelled once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from auditor.data.formats import Side
from auditor.inference.thresholds import EXCLUDE
from auditor.model.builtin import BASE
from detectors import DEFAULT
from detectors.interface import Hazard

if TYPE_CHECKING:  # the command line starts without PyYAML
    from auditor.traits.panel import Panel

AUTO_ROWS = 1600
STUDENT_ROWS = 4096  # what the noise of students allows to be seen grows with the rows alone
SECONDS = 600.0

Rows = int | Literal["all", "auto"]
ScoreRows = Literal["needed", "all"]


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """What a user can set of a scan. The defaults are those of the command line and of audit.yaml.

    reference: the base model of the students, a built-in name, a hub name or a folder. panels:
    built-in names or YAML files. traits: those that are tested; all of the panels when empty.
    teacher: a model that is said to have written the data. rows: how many are scored at most;
    "auto" is AUTO_ROWS, or as many as the budget of time allows; "all" is every row, without
    stopping early. budget: seconds of two cores for which the panel test may go on with rows "auto"
    (`detectors.trait.token_budget`). seed: of every random choice; None is one that only
    this machine can know (`auditor.runs.signing.secret_seed`), as a gate wants it. detectors: names
    of the registry. format_of, columns: how rows are read, where that is not to be found out. side:
    which answers of a preference set are read; the chosen ones when None.
    like: earlier data sets of the same writer, vouched for by the user: a dose is then what the
    data have beyond these. hazard: when students are trained on the data to see whether these
    change them: never, when the other tests leave the verdict open, or always ("required"); the
    detector `students` does it.
    exclude_open: leave out rows that mention a trait openly. alpha: the rate of false alarms.
    exclude: the dose, a share of the rows, that a pass excludes for every trait, in (0, 1].
    chat_template: in place of the reference's own; system: in the system turn of rows that have
    none (`auditor.model.load.load`).
    device, dtype: of the reference, torch's names; chosen by what is at hand when None. score_rows:
    the rows whose scores are kept, those that the verdict needed or, after it, all of the data set
    (`auditor.scanning.score_tables.score_every_row`); it changes no verdict. origins:
    where settings that are not left to their defaults come from, in words by their names, such as
    audit.yaml; they change no result.
    """

    reference: str = BASE
    panels: Sequence[str] = ("default",)
    traits: Sequence[str] = ()
    teacher: str | None = None
    rows: Rows = "auto"
    seed: int | None = 0
    detectors: Sequence[str] = DEFAULT
    format_of: str | None = None
    columns: Mapping[str, str] | None = None
    side: Side | None = None
    like: Sequence[str] = ()
    hazard: Hazard = "never"
    exclude_open: bool = False
    alpha: float = 0.01
    exclude: float = EXCLUDE
    budget: float = SECONDS
    chat_template: str | None = None
    system: str | None = None
    device: str | None = None
    dtype: str | None = None
    score_rows: ScoreRows = "needed"
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def most_rows(self) -> int | None:
        """How many rows are drawn at most; None is all of them."""
        if not isinstance(self.rows, str):
            return self.rows
        auto = STUDENT_ROWS if "students" in self.detectors_run else AUTO_ROWS
        return {"auto": auto, "all": None}[self.rows]

    @property
    def detectors_run(self) -> tuple[str, ...]:
        """The detectors named, and students where `hazard` asks for them."""
        asked = self.hazard != "never" and "students" not in self.detectors
        return (*self.detectors, *(["students"] if asked else []))

    def resolved(self, panel: Panel, tested: Panel, like: Sequence[str] = ()) -> dict[str, object]:
        """What determines the result beside the data and the reference, in plain JSON values: a
        part of the run's identity, and the report's `settings`. How rows are read is among them
        only where it was named: that settles which of two layouts is meant. like: the digests of
        the earlier data sets.
        """
        read_as = {"format_of": self.format_of, "columns": dict(self.columns or {})}
        return {
            "panel": panel.name,
            "panel_sha256": panel.sha256,
            "tested": [trait.name for trait in tested.traits],
            "teacher": self.teacher,
            "rows": self.rows,
            "seed": self.seed,
            "detectors": list(self.detectors_run),
            "exclude_open": self.exclude_open,
            "alpha": self.alpha,
            "exclude": self.exclude,
            "budget": self.budget,
            **{key: value for key, value in (read_as | {"side": self.side}).items() if value},
            **({"like": [*like]} if like else {}),
            **({} if self.hazard == "never" else {"hazard": self.hazard}),
        }
