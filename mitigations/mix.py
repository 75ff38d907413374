"""Mitigation `mix`: a share of the rows gets completions of a clean teacher.

Source: 2509.23886, section 6: at a fixed total, 10 % of rows from an unbiased teacher weaken
transfer, 25 % nearly remove it (7B models). Whether the share or the number of rows matters is not
known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from auditor.data.text_row import TextRow
from auditor.errors import AuditError
from mitigations.interface import (
    SHARE,
    Changed,
    CleanCompletions,
    Facts,
    Kept,
    Mitigation,
    Outcome,
    Setting,
)
from mitigations.rows import COMPLETION, with_texts, writable


@dataclass(frozen=True)
class Mix(Mitigation):
    """Give the selected rows clean completions, in place of their own or as rows added
    after them.
    """

    name: ClassVar[str] = "mix"
    help: ClassVar[str] = "Share of rows that get clean completions."

    share: Annotated[float, Setting(metavar=SHARE)]
    mode: Annotated[
        Literal["replace", "add"],
        Setting("--mix-mode", "Clean completions in place, or as added rows."),
    ] = "replace"
    clean_data: Annotated[
        str | None, Setting("--clean-data", "Clean rows for the same prompts.", "FILE")
    ] = None
    clean_teachers: Annotated[
        tuple[str, ...],
        Setting(
            "--clean-teacher",
            "Writes clean completions; repeatable; default: the reference.",
            "MODEL",
        ),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        # The command line gives a list. A frozen dataclass is filled in this way alone.
        object.__setattr__(self, "clean_teachers", tuple(self.clean_teachers))
        if self.clean_data and self.clean_teachers:
            raise AuditError(
                "--clean-data and --clean-teacher contradict each other.", "Give one of them."
            )

    @property
    def needs(self) -> CleanCompletions:
        return CleanCompletions(self.share, self.clean_data, self.clean_teachers)

    @property
    def writers(self) -> tuple[str, ...]:
        return self.clean_teachers

    def apply(self, row: TextRow, facts: Facts) -> Outcome:
        """Give a selected row the clean completions `facts.texts[0]`."""
        if not facts.selected:
            return Kept(row)
        if not writable(row, COMPLETION):
            return Kept(row, "several_parts")
        if not facts.texts:
            return Kept(row, facts.reason or "no_clean_completion")
        clean = with_texts(row, COMPLETION, facts.texts[0])
        if self.mode == "add":
            return Changed("clean_row_added", row, (row, clean))
        return Changed("clean_completion", row, (clean,))
