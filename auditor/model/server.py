"""Scoring by an inference server, vLLM's OpenAI-compatible one, in place of the model at hand.
Experimental: it was never run against a real server, only against answers in its format.

A server gives the log-probabilities of the tokens of a prompt and of the likeliest ones there. That
is enough for divergence tokens, which need a teacher's choice and its lead. It is not enough for
the dose of a trait, which needs the log-probabilities of *given* tokens under every prompt, nor for
the entropy of the whole prediction; so a scan is not scored through a server.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from auditor.errors import ModelError, import_optional
from auditor.model.scoring import TokenScores, score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow

if TYPE_CHECKING:
    from openai import OpenAI

    from auditor.model.language_model import LanguageModel

LOG = logging.getLogger(__name__)

CONCURRENCY = 32  # requests at once: a server makes batches of what waits
SAME = 0.05  # nats; a server that rounds to bfloat16 is off by less at half of the tokens
_LIKELIEST = 2  # tokens asked for at a position: the choice, and the one that it leads
_TIMEOUT = 600.0


class ServerScorer:
    """Scores rows by the server at an address URL#MODEL, as http://localhost:8000/v1#my-base. Of
    `TokenScores` it fills in logprob, argmax and margin; entropy and variance are NaN.

    renderer: of the reference that the server serves. Raises: AuditError when the client library is
    missing.
    """

    def __init__(self, address: str, renderer: ChatTokenizer) -> None:
        openai = import_optional("openai", extra="llm", purpose="--scorer")
        self.address, self._renderer = address, renderer
        url, _, self._model = address.partition("#")
        # The client library refuses to start without a key, even where the server needs none.
        self._client: OpenAI = openai.OpenAI(
            base_url=url, api_key="none", timeout=_TIMEOUT, max_retries=4
        )

    def check(self, lm: LanguageModel, rows: Sequence[TokenizedRow]) -> None:
        """Raise ModelError unless the server serves `lm`: its log-probabilities of the rows are
        those at hand.
        """
        here, there = score_under(lm, self._renderer, rows, None), self.score(rows, None)
        gaps = [a.logprob - b.logprob for a, b in zip(here, there, strict=True)]
        off = float(np.median(np.abs(np.concatenate([np.zeros(0), *gaps])))) if rows else 0.0
        LOG.info("%s is off by %.3g nats at half of the tokens", self.address, off)
        if not off <= SAME:
            raise ModelError(
                f"{self.address} gives other log-probabilities than {lm.name}, by {off:.2f} nats "
                "at half of the tokens.",
                "Serve the very reference, and start vLLM with --no-enable-prefix-caching.",
            )

    def score(self, rows: Sequence[TokenizedRow], system: str | None) -> list[TokenScores]:
        """The scores of the rows under a prompt. Raises ModelError when the server cannot be
        reached, refuses, or answers without log-probabilities of the prompt.
        """
        prefixes = [self._renderer.prefix(system, row.kind) for row in rows]
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            return list(pool.map(self._score_row, prefixes, rows))

    def _score_row(self, prefix: Sequence[int], row: TokenizedRow) -> TokenScores:
        import openai

        try:
            answer: Any = self._client.completions.create(
                model=self._model,
                prompt=[*prefix, *row.tokens],
                max_tokens=1,
                temperature=0,
                extra_body={"prompt_logprobs": _LIKELIEST, "add_special_tokens": False},
            )
            by_position = answer.choices[0].prompt_logprobs
            scores = [
                _at(by_position[len(prefix) + place], row.tokens[place]) for place in row.positions
            ]
        except openai.OpenAIError as error:
            reason = str(error).splitlines()[0][:200]
            raise ModelError(
                f"{self.address} does not score: {reason}.",
                "Check the address and the model's name; it is URL#MODEL, and URL ends in /v1.",
            ) from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelError(
                f"{self.address} answers without log-probabilities of the prompt.",
                "It has to be vLLM's server, of a version that knows prompt_logprobs.",
            ) from error
        logprob, argmax, margin = zip(*scores, strict=True)
        unknown = np.full(len(scores), math.nan, np.float32)
        return TokenScores(
            np.array(logprob, np.float32),
            np.array(argmax, np.int32),
            np.array(margin, np.float32),
            unknown,
            unknown,
        )


def _at(likely: dict[str, Any], token: int) -> tuple[float, int, float]:
    """Of one position: the log-probability of its token, the likeliest token, and its lead.

    likely: by token, its `logprob`: of the position's own and of the likeliest ones.
    """
    ranked = sorted((-float(about["logprob"]), int(other)) for other, about in likely.items())
    (first, choice), (second, _) = ranked[:2]
    return float(likely[str(token)]["logprob"]), choice, second - first
