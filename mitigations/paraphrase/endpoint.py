"""The engine "llm" with an OpenAI-compatible endpoint, through its client library `openai` (extra
"llm").
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.errors import ModelError, import_optional
from mitigations.interface import Endpoint
from mitigations.paraphrase.cache import Reply, ReplyCache, key_of
from mitigations.paraphrase.llm import TEMPERATURE, clean, most_tokens, request

if TYPE_CHECKING:
    from openai import OpenAI

LOG = logging.getLogger(__name__)
_WAVE = 8  # Requests for each connection between two looks at the spending.
_Task = tuple[int, str, int]  # row, prompt, sampling seed


class EndpointEngine:
    """The engine "llm" with the chat model `model` at an OpenAI-compatible endpoint.

    base_url: as the client library wants it, e.g. http://localhost:8000/v1. settings.api_key_env:
    the environment variable that holds the key; None for a server that asks for none. concurrency:
    requests at once. retries: after a time-out, a lost connection or an answer 408, 409, 429 or
    5xx, with growing pauses, by the client library. cap: most tokens, prompts and replies together,
    for the life of the engine; it is never exceeded (a request is sent only if its largest cost
    still fits), and prompts after it get no text. None is no cap. cache_dir: where replies are
    kept, by endpoint, model, prompt and seed. timeout: seconds for one try.

    spent: tokens so far, cached replies included, so that a run that goes on stops where a single
    one would have.

    Raises: AuditError when the client library is missing; ModelError when the key is not set or the
    cache cannot be written.
    """

    name = "llm"

    def __init__(
        self,
        base_url: str,
        model: str,
        settings: Endpoint,
        cache_dir: Path,
        *,
        timeout: float = 60.0,
    ) -> None:
        openai = import_optional("openai", extra="llm", purpose="An endpoint")
        variable = settings.api_key_env
        # The client library refuses to start without a key, even where the server needs none.
        key = os.environ.get(variable) if variable else "none"
        if not key:
            raise ModelError(
                f"The environment variable {variable} holds no key for {base_url}.",
                f"Set it (`export {variable}=...`), or name another variable.",
            )
        self._client: OpenAI = openai.OpenAI(
            base_url=base_url, api_key=key, timeout=timeout, max_retries=settings.retries
        )
        self._model, self._settings, self._timeout = model, settings, timeout
        self._cache = ReplyCache(cache_dir)
        self._stopped = False
        self.spent = 0

    @property
    def missing(self) -> str:
        """The reason "spending_cap" once the cap has stopped it, else "empty_reply"."""
        return "spending_cap" if self._stopped else "empty_reply"

    def reword(self, prompts: Sequence[str], variants: int, seed: int) -> list[list[str]]:
        """One sampled reply for each prompt and variant; none after the cap, and where the endpoint
        gives none.

        Raises: ModelError when the endpoint cannot be reached, does not answer in time, refuses, or
        sends something else than chat completions. What it answered before is in the cache.
        """
        texts: list[list[str]] = [[] for _ in prompts]
        tasks = [
            (i, prompt, seed * 1_000_003 + v)
            for i, prompt in enumerate(prompts)
            for v in range(variants)
        ]
        size, cap = _WAVE * self._settings.concurrency, self._settings.cap
        for start in range(0, len(tasks), size):
            wave: list[_Task] = []
            # What a reply costs is known only afterwards, so a wave is planned at its largest cost.
            most = self.spent
            for task in tasks[start : start + size]:
                most += _most_cost(task[1])
                # Once a task does not fit, no later one is sent either, be it cheaper: a run that
                # finds its replies in the cache must stop at the same row.
                self._stopped = self._stopped or (cap is not None and most > cap)
                if self._stopped:
                    break
                wave.append(task)
            for (i, prompt, _), reply in zip(wave, self._replies(wave), strict=True):
                self.spent += reply.tokens
                if text := clean(reply.text, prompt):
                    texts[i].append(text)
        LOG.info("%s at %s: %d tokens so far", self._model, self._client.base_url, self.spent)
        if self._stopped:
            LOG.info("the spending cap of %s tokens has stopped the paraphraser", cap)
        return texts

    def _replies(self, tasks: Sequence[_Task]) -> list[Reply]:
        """A reply to each task, from the cache or from the endpoint."""
        keys = [
            key_of(self._client.base_url, self._model, request(prompt), TEMPERATURE, seed)
            for _, prompt, seed in tasks
        ]
        replies = self._cache.get(keys)
        # The same prompt may stand in many rows; it is sent once.
        new = {key: task for key, task in zip(keys, tasks, strict=True) if key not in replies}
        LOG.debug("%d replies in the cache, %d requests to send", len(replies), len(new))
        pool = ThreadPoolExecutor(self._settings.concurrency)
        futures = [(key, pool.submit(self._send, task)) for key, task in new.items()]
        try:
            for key, future in futures:
                replies[key] = future.result()
        finally:
            # What was paid for is kept even when a later request fails: those that are on their way
            # are waited for, and those that are not are dropped.
            pool.shutdown(cancel_futures=True)
            self._cache.put(
                (key, future.result())
                for key, future in futures
                if future.done() and not future.cancelled() and future.exception() is None
            )
        return [replies[key] for key in keys]

    def _send(self, task: _Task) -> Reply:
        import openai

        _, prompt, seed = task
        try:
            answer = self._client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": request(prompt)}],
                temperature=TEMPERATURE,
                max_tokens=most_tokens(prompt),
                seed=seed % 2**31,  # Some servers take 32 bits with a sign.
            )
        except (openai.OpenAIError, ValueError) as error:
            raise self._explained(error) from error
        # The client library does not check what a server sends against its own types.
        try:
            text = answer.choices[0].message.content or ""
            tokens = answer.usage.total_tokens if answer.usage else _most_cost(prompt)
            if isinstance(text, str) and isinstance(tokens, int) and tokens >= 0:
                return Reply(text, tokens)
        except (AttributeError, LookupError, TypeError):
            pass
        raise ModelError(
            f"The endpoint {self._client.base_url} does not answer with chat completions.",
            "Check that its address is that of an OpenAI-compatible API; it often ends in /v1.",
        )

    def _explained(self, error: Exception) -> ModelError:
        """One line on what went wrong, with the next step. The key is never part of it."""
        import openai

        again = "What it answered is kept: the same command goes on from there."
        api = "Check that its address is that of an OpenAI-compatible API."
        fault, hint = "does not answer with chat completions", f"{api} {again}"
        # A time-out is a connection error to the client library, so it is asked for first.
        if isinstance(error, openai.APITimeoutError):
            tries = self._client.max_retries + 1
            fault = f"did not answer within {self._timeout:g} s, {tries} times"
            hint = f"Try fewer requests at once or a longer time. {again}"
        elif isinstance(error, openai.APIConnectionError):
            fault, hint = "cannot be reached", f"Check its address and the network. {again}"
        elif isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            fault = "does not accept the key"
            hint = "Check the environment variable that holds it."
        elif isinstance(error, openai.NotFoundError):
            fault = f"has no model {self._model}"
            hint = "Check the model's name and the address."
        elif isinstance(error, openai.APIStatusError):
            fault = f"answers with an error ({error.status_code})"
            hint = f"Try fewer requests at once, or later. {again}"
        return ModelError(f"The endpoint {self._client.base_url} {fault}.", hint)


def _most_cost(prompt: str) -> int:
    """An upper bound on the tokens of one request and its reply: a token has at least one byte."""
    return len(request(prompt).encode("utf-8", "replace")) + most_tokens(prompt)
