"""Mitigation `paraphrase`: other words for the prompts, completions untouched.

Source: 2509.23886, section 6: usually suppresses transfer. The rewording itself is in
`mitigations.paraphrase`; here it is put into the row. A paraphraser that writes completions would
bring its own traits along (2603.09517).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from auditor.data.text_row import TextRow
from auditor.errors import AuditError
from mitigations.interface import (
    Changed,
    Endpoint,
    Facts,
    Kept,
    Mitigation,
    Outcome,
    Rewordings,
    Setting,
)
from mitigations.rows import PROMPT, with_texts, writable

PACKAGED = "packaged"  # the embedding model that comes as a Python package


@dataclass(frozen=True)
class Paraphrase(Mitigation):
    """Replace the texts of all user turns by rewordings; more than one makes further rows.

    engine: None is "llm" where a paraphraser is named, else "rules". embeddings: None is PACKAGED
    for "llm", and no comparison for "rules", whose texts are checked word by word; "none" is no
    comparison.
    """

    name: ClassVar[str] = "paraphrase"
    help: ClassVar[str] = "Reword the prompts; completions stay."

    variants: Annotated[
        int, Setting("--paraphrases", "Rewordings of a row; each becomes a row.", "K", minimum=1)
    ] = 1
    engine: Literal["rules", "llm"] | None = None
    paraphraser: Annotated[
        str | None,
        Setting("--paraphraser", "Model that rewords, here or at an endpoint.", "MODEL|URL#MODEL"),
    ] = None
    endpoint: Endpoint = field(default_factory=Endpoint)
    embeddings: Annotated[
        str | None,
        Setting(
            "--embeddings",
            f"Compares meanings.  [default: {PACKAGED} for llm, none for rules]",
            f"MODEL|{PACKAGED}|none",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.paraphraser or None
        if self.engine == "llm" and name is None:
            raise AuditError(
                "The engine llm needs a model.", "Name it as the paraphraser, or leave engine out."
            )
        if self.engine == "rules" and name is not None:
            raise AuditError(
                "The engine rules and a paraphraser contradict each other.", "Give one of them."
            )
        if name is not None and "://" in name and not name.partition("#")[2]:
            raise AuditError(
                "The endpoint's model is not named.", "Write --paraphraser https://host/v1#MODEL."
            )
        embeddings = self.embeddings or (PACKAGED if name else "none")
        endpoint = self.endpoint
        # The command line and a manifest give the settings of the endpoint as a mapping.
        if isinstance(endpoint, Mapping):
            endpoint = Endpoint(**endpoint)
        # A frozen dataclass fills in its own defaults this way, and in __post_init__ alone.
        object.__setattr__(self, "paraphraser", name)
        object.__setattr__(self, "engine", "llm" if name else "rules")
        object.__setattr__(self, "embeddings", None if embeddings == "none" else embeddings)
        object.__setattr__(self, "endpoint", endpoint)

    @property
    def needs(self) -> Rewordings:
        return Rewordings(self.variants, self.paraphraser, self.endpoint, self.embeddings)

    @property
    def writers(self) -> tuple[str, ...]:
        """The paraphraser, where it is a model."""
        return () if self.paraphraser is None else (self.paraphraser,)

    def apply(self, row: TextRow, facts: Facts) -> Outcome:
        """The row once for each of `facts.texts`."""
        if not any(text.role in PROMPT for text in row.fields):
            return Kept(row, "no_prompt")
        if not writable(row, PROMPT):
            return Kept(row, "several_parts")
        if not facts.texts:
            return Kept(row, facts.reason or "no_rewording")
        return Changed(
            "reworded", row, tuple(with_texts(row, PROMPT, texts) for texts in facts.texts)
        )
