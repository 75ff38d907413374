"""Paraphrase: prompts reworded, completions untouched (2509.23886: this usually suppresses the
transfer).

`paraphrase` asks an engine for rewordings and checks every one; what fails falls back to the rules,
then to the original with the reason. Engines: `rules_engine` (no model), `local_engine` and
`endpoint_engine` (a language model). The suspect teacher must never be the paraphraser: that is for
the caller to see to, who knows both. Importing this package imports neither torch nor the client
library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitigations.paraphrase.chain import Engine, Reworded, Similarity, paraphrase
from mitigations.paraphrase.endpoint import endpoint_engine
from mitigations.paraphrase.llm import LocalEngine
from mitigations.paraphrase.rules import RulesEngine
from mitigations.paraphrase.similarity import embedding_similarity

if TYPE_CHECKING:
    from auditor.model.language_model import LanguageModel


__all__ = [
    "Engine",
    "Reworded",
    "Similarity",
    "embedding_similarity",
    "endpoint_engine",
    "local_engine",
    "paraphrase",
    "rules_engine",
]


def rules_engine() -> Engine:
    """The engine that rewords by rule.

    It can be pickled, and different processes give the same texts.
    """
    return RulesEngine()


def local_engine(lm: LanguageModel) -> Engine:
    """The engine that rewords with the chat model `lm` on this machine."""
    return LocalEngine(lm)
