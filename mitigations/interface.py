"""What a mitigation is: its settings, what it needs to be told of a row, and what becomes of it.

A mitigation is a frozen dataclass in a file of its own: its fields are its settings, annotated
with `Setting`, and `apply` is a pure function of one row and the `Facts` about it. It never sees a
detector or a model; what it needs of them it names in `needs`, and `auditor.mitigating` provides
it. Options of the command line, `auditor.step`, the manifest and the identity of a run all derive
from this declaration.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from auditor.data.text_row import Span, TextRow
from auditor.errors import AuditError

SHARE = "SHARE"  # the metavar of a share, which is a number in [0, 1]


@dataclass(frozen=True, slots=True)
class Divergent:
    """A divergence token of a completion.

    span: where it stands, never empty. gap: the greatest lead in nats of the trait's
    log-probability of this token over a counterfactual's. choice: the text of the reference's own
    choice there; None when it is no text of its own.
    """

    span: Span
    gap: float
    choice: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a mitigation is told about a row; each reads what it needs.

    selected: the row is in the share that the mitigation takes. tokens: completion tokens, without
    those that end a turn. divergent: divergence tokens within the budget, in the order of the text.
    texts: new texts on offer, each for all user turns (paraphrase) or all assistant turns (mix).
    reason: why something is missing (a short snake_case word), or "". seed: of every random choice.
    """

    selected: bool = True
    tokens: int = 0
    divergent: tuple[Divergent, ...] = ()
    texts: tuple[tuple[str, ...], ...] = ()
    reason: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """The row stays as it is. reason: why a defence that was due could not be applied, or ""."""

    row: TextRow
    reason: str = ""

    @property
    def after(self) -> tuple[TextRow, ...]:
        """The row itself."""
        return (self.row,)


@dataclass(frozen=True, slots=True)
class Changed:
    """`before` became `after`, one row or several."""

    reason: str
    before: TextRow
    after: tuple[TextRow, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """The row is left out."""

    reason: str
    row: TextRow

    @property
    def after(self) -> tuple[TextRow, ...]:
        """No row."""
        return ()


Outcome = Kept | Changed | Dropped


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a mitigation: a field of its dataclass, annotated with this, that the command
    line offers.

    option: without one it is the value of the option that switches the mitigation on, whose help is
    the mitigation's. minimum: the smallest number. A Literal type lists the values allowed, and the
    metavar SHARE stands for a number in [0, 1].

    `settings_of` fills in what follows. path: its field, behind the field of a group such as
    `endpoint`. kind: its type. default: dataclasses.MISSING where it has to be given.
    """

    option: str = ""
    help: str = ""
    metavar: str | None = None
    minimum: int | None = None
    path: tuple[str, ...] = ()
    kind: Any = None
    default: object = None
    switches_on: bool = False

    def check(self, value: object) -> None:
        """Raise AuditError unless the setting allows `value`; None is the absence of a value."""
        if value is None:
            return
        if self.metavar == SHARE and not (isinstance(value, float | int) and 0 <= value <= 1):
            raise AuditError(
                f"{self.option} {value} is not between 0 and 1.", "0.25 means a quarter."
            )
        if self.minimum is not None and isinstance(value, int) and value < self.minimum:
            raise AuditError(
                f"{self.option} {value} is below {self.minimum}.", "Give a greater number."
            )
        if (allowed := self.allowed) and value not in allowed:
            raise AuditError(
                f"{self.option} {value!r} is not known.", f"Known: {', '.join(allowed)}."
            )

    @property
    def allowed(self) -> tuple[str, ...]:
        """The values of a Literal type; () where any will do."""
        kinds = (self.kind, *get_args(self.kind))
        return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How an OpenAI-compatible endpoint is called; `EndpointEngine` says what each means."""

    api_key_env: Annotated[
        str | None,
        Setting("--api-key-env", "Environment variable with the endpoint's key.", "NAME"),
    ] = None
    concurrency: Annotated[
        int, Setting("--concurrency", "Requests at once to the endpoint.", "N", minimum=1)
    ] = 8
    retries: Annotated[int, Setting("--retries", "Further tries of a request.", "N", minimum=0)] = 4
    cap: Annotated[
        int | None,
        Setting("--spending-cap", "Most tokens for the endpoint.", "TOKENS", minimum=1),
    ] = None


@dataclass(frozen=True, slots=True)
class Rewordings:
    """The user turns of every row in other words, in `Facts.texts`.

    variants: how many of each row. paraphraser: None rewords by rule; else a model on this machine,
    or URL#MODEL at an `endpoint`. embeddings: the model that compares meanings, or None.
    """

    variants: int
    paraphraser: str | None
    endpoint: Endpoint
    embeddings: str | None


@dataclass(frozen=True, slots=True)
class CleanCompletions:
    """The assistant turns of a share of the rows without the trait, in `Facts.texts`.

    They come from the data set `clean_data`, else from `clean_teachers` in turn, else from the
    reference.
    """

    share: float
    clean_data: str | None
    clean_teachers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DivergenceBudget:
    """The divergence tokens of a row, in `Facts.divergent`.

    budget: the share of all tokens that they may be, largest gaps first; None is all of them.
    at_random: as many of the row's completion tokens, but any of them: the control of a mitigation.
    """

    budget: float | None
    at_random: bool = False


@dataclass(frozen=True, slots=True)
class MostDivergentRows:
    """Whether a row is in the share of rows with the most divergence tokens (`Facts.selected`)."""

    share: float


Needs = Rewordings | CleanCompletions | DivergenceBudget | MostDivergentRows


@dataclass(frozen=True)
class Mitigation(ABC):
    """A mitigation with its settings, which are the fields of the subclass.

    name: in the registry, in the manifest, and as the option --NAME that switches it on. help: one
    line for the command line. moves_tokens: it changes where completion tokens stand, so it must
    not follow a mask.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    moves_tokens: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise AuditError for a value that a setting does not allow."""
        for declared in settings_of(type(self)):
            if len(declared.path) == 1:
                declared.check(getattr(self, declared.path[0]))

    @property
    def needs(self) -> Needs | None:
        """What `apply` must be told of each row; None is nothing."""
        return None

    @abstractmethod
    def apply(self, row: TextRow, facts: Facts) -> Outcome:
        """What becomes of a row, by the row and the facts alone."""

    @property
    def writers(self) -> tuple[str, ...]:
        """The models that write text for it, as the user named them: none may be the suspect."""
        return ()

    @property
    def settings(self) -> Mapping[str, object]:
        """The settings by name, as the manifest has them."""
        return dataclasses.asdict(self)

    @property
    def label(self) -> str:
        """`mix 0.5`, `mask`: the mitigation as a reader knows it."""
        values = [getattr(self, s.path[0]) for s in settings_of(type(self)) if s.switches_on]
        return " ".join([self.name, *map(str, values)])

    @property
    def random_control(self) -> Mitigation | None:
        """The same with random tokens, where students are to be trained on that too."""
        return None


def settings_of(
    mitigation: type[Mitigation], group: type | None = None, path: tuple[str, ...] = ()
) -> Iterator[Setting]:
    """The settings that a mitigation declares, in the order of its fields, those of a group in
    place of the group.

    group, path: the dataclass whose settings are listed, and the fields that lead to it; by default
    the mitigation itself.
    """
    group = group or mitigation
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        hint = hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from settings_of(mitigation, hint, (*path, field.name))
        elif get_origin(hint) is Annotated:
            kind, about = get_args(hint)
            yield dataclasses.replace(
                about,
                path=(*path, field.name),
                kind=kind,
                default=field.default,
                option=about.option or f"--{mitigation.name}",
                help=about.help or mitigation.help,
                switches_on=not about.option,
            )
