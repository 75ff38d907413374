"""The settings that all mitigations of one command share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from auditor.mitigating.trainer_files import Format
from auditor.model.builtin import BASE
from detectors.divergence import TIE_EPSILON
from mitigations.recipes import Recipe


@dataclass(frozen=True, slots=True)
class MitigateSettings:
    """What all mitigations of one command share.

    Sequences may be given as lists; they are kept as tuples.
    """

    reference: str | None = None
    """The base of the students; None is that of the last scan of these very rows, else `base`."""

    base: str = BASE
    """The reference where neither the user nor a scan names one."""

    chat_template: str | None = None
    """In place of the reference's own; None is that of the last scan of these very rows."""

    system: str | None = None
    """In the system turn of rows that have none; None is that of the last scan of these very rows.
    """

    panels: tuple[str, ...] = ()
    """Trait panels by name or file; () is those of the last scan, else the default one."""

    traits: tuple[str, ...] = ()
    """Whose divergence tokens count: ("all",) is the whole panel, () the trait that the last scan
    of these very rows put first."""

    min_margin: float = TIE_EPSILON
    """A choice of a teacher with a smaller lead, in nats, is a tie."""

    recipes: tuple[Recipe, ...] = ()
    """Training recipes to write beside the data."""

    emit: tuple[Format, ...] = ()
    """Trainers to write the data for."""

    max_length: int | None = None
    """The trainer's greatest number of tokens a row; longer rows are counted."""

    seed: int = 0
    """Of every random choice."""

    format_of: str | None = None
    """Row format; None is detected, or the last scan's of these very rows."""

    columns: Mapping[str, str] | None = None
    """Role -> column, where they are not to be detected."""

    device: str | None = None
    """As in `auditor.model.load.load`."""

    dtype: str | None = None
    """As in `auditor.model.load.load`."""

    scorer: str | None = None
    """URL#MODEL of a vLLM server that serves the reference and finds divergence tokens in its
    place; None is the reference here. Experimental (`auditor.model.server`)."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
