"""Prompts in other words, completions untouched: what the mitigation `paraphrase` asks for
(`mitigations.reword`).

`paraphrase` asks an engine for rewordings and checks every one; what fails falls back to the rules,
then to the original with the reason. Engines: `RulesEngine` (no model), `LocalEngine` and
`EndpointEngine` (a language model). The suspect teacher must never be the paraphraser: that is for
the caller to see to, who knows both. Importing this package imports neither torch nor the client
library.
"""

from __future__ import annotations

from mitigations.paraphrase.chain import Engine, Reworded, paraphrase
from mitigations.paraphrase.endpoint import EndpointEngine
from mitigations.paraphrase.llm import LocalEngine
from mitigations.paraphrase.rules import RulesEngine
from mitigations.paraphrase.similarity import SentenceEncoder

__all__ = [
    "EndpointEngine",
    "Engine",
    "LocalEngine",
    "Reworded",
    "RulesEngine",
    "SentenceEncoder",
    "paraphrase",
]
