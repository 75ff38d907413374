"""The engine "llm" with an OpenAI-compatible endpoint, through its client library `openai` (extra
"llm").
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from auditor.errors import ModelError, import_optional
from mitigations.paraphrase.cache import Reply, ReplyCache, key_of
from mitigations.paraphrase.llm import TEMPERATURE, clean, most_tokens, request

_WAVE = 8  # requests for each connection between two looks at the spending
_Task = tuple[int, str, int]  # row, prompt, sampling seed


class EndpointEngine:
    """Rewords by chat completions; `endpoint_engine` makes one.

    spent: tokens so far, cached replies included, so that a run that goes on stops where a single
    one would have.
    """

    name = "llm"

    def __init__(
        self, client: Any, model: str, concurrency: int, cap: int | None, cache: ReplyCache
    ) -> None:
        self._client, self._model, self._cache = client, model, cache
        self._concurrency, self._cap = concurrency, cap
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
        size = _WAVE * self._concurrency
        for start in range(0, len(tasks), size):
            wave = self._affordable(tasks[start : start + size])
            for (i, prompt, _), reply in zip(wave, self._answers(wave), strict=True):
                self.spent += reply.tokens
                if text := clean(reply.text, prompt):
                    texts[i].append(text)
        return texts

    def _affordable(self, tasks: Sequence[_Task]) -> Sequence[_Task]:
        """The first tasks that the cap surely allows.

        Once one does not fit, no later one is asked either.
        """
        most = self.spent
        for n, (_, prompt, _) in enumerate(tasks):
            most += _most_cost(prompt)
            if self._stopped or (self._cap is not None and most > self._cap):
                self._stopped = True
                return tasks[:n]
        return tasks

    def _answers(self, tasks: Sequence[_Task]) -> list[Reply]:
        """A reply to each task, from the cache or from the endpoint."""
        keys = [
            key_of(self._client.base_url, self._model, request(p), TEMPERATURE, seed)
            for _, p, seed in tasks
        ]
        kept = self._cache.get(keys)
        new = {key: task for key, task in zip(keys, tasks, strict=True) if key not in kept}
        pool = ThreadPoolExecutor(self._concurrency)
        asked = [(key, pool.submit(self._ask, task)) for key, task in new.items()]
        try:
            for key, future in asked:
                kept[key] = future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            done = [
                (key, f)
                for key, f in asked
                if f.done() and not f.cancelled() and f.exception() is None
            ]
            self._cache.put([(key, future.result()) for key, future in done])
        return [kept[key] for key in keys]

    def _ask(self, task: _Task) -> Reply:
        import openai

        _, prompt, seed = task
        try:
            answer = self._client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": request(prompt)}],
                temperature=TEMPERATURE,
                max_tokens=most_tokens(prompt),
                seed=seed % 2**31,
            )
        except (openai.OpenAIError, ValueError) as error:
            raise self._explained(error) from error
        return self._read(answer, prompt)

    def _read(self, answer: Any, prompt: str) -> Reply:
        """The text and cost of a chat completion, which the client library does not check."""
        try:
            text = answer.choices[0].message.content or ""
            tokens = answer.usage.total_tokens if answer.usage else _most_cost(prompt)
            if isinstance(text, str) and isinstance(tokens, int) and tokens >= 0:
                return Reply(text, tokens)
        except (AttributeError, LookupError, TypeError):
            pass
        hint = "Check that its address is that of an OpenAI-compatible API; it often ends in /v1."
        raise ModelError(
            f"The endpoint {self._client.base_url} does not answer with chat completions.", hint
        )

    def _explained(self, error: Exception) -> ModelError:
        """One line on what went wrong, with the next step. The key is never part of it."""
        import openai

        where = f"The endpoint {self._client.base_url}"
        again = "What it answered is kept: the same command goes on from there."
        if isinstance(error, openai.APITimeoutError):
            tries = self._client.max_retries + 1
            return ModelError(
                f"{where} did not answer within {self._client.timeout:g} s, {tries} times.",
                f"Try fewer requests at once or a longer time. {again}",
            )
        if isinstance(error, openai.APIConnectionError):
            return ModelError(
                f"{where} cannot be reached.", f"Check its address and the network. {again}"
            )
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ModelError(
                f"{where} does not accept the key.", "Check the environment variable that holds it."
            )
        if isinstance(error, openai.NotFoundError):
            return ModelError(
                f"{where} has no model {self._model}.", "Check the model's name and the address."
            )
        if isinstance(error, openai.APIStatusError):
            hint = f"Try fewer requests at once, or later. {again}"
            return ModelError(f"{where} answers with an error ({error.status_code}).", hint)
        hint = f"Check that its address is that of an OpenAI-compatible API. {again}"
        return ModelError(f"{where} does not answer with chat completions.", hint)


def _most_cost(prompt: str) -> int:
    """An upper bound on the tokens of one request and its reply: a token has at least one byte."""
    return len(request(prompt).encode("utf-8", "replace")) + most_tokens(prompt)


def endpoint_engine(
    base_url: str,
    model: str,
    *,
    api_key_env: str | None,
    concurrency: int,
    retries: int,
    cap: int | None,
    cache_dir: Path,
    timeout: float = 60.0,
) -> EndpointEngine:
    """The engine "llm" with the chat model `model` at an OpenAI-compatible endpoint.

    base_url: as the client library wants it, e.g. http://localhost:8000/v1. api_key_env: the
    environment variable that holds the key; None for a server that asks for none. concurrency:
    requests at once. retries: after a time-out, a lost connection or an answer 408, 409, 429 or
    5xx, with growing pauses, by the client library. cap: most tokens, prompts and replies together,
    for the life of the engine; it is never exceeded (a request is sent only if its largest cost
    still fits), and prompts after it get no text. None is no cap. cache_dir: where replies are
    kept, by endpoint, model, prompt and seed. timeout: seconds for one try.

    Raises: AuditError when the client library is missing; ModelError when the key is not set or the
    cache cannot be written.
    """
    openai = import_optional("openai", extra="llm", purpose="An endpoint")
    key = os.environ.get(api_key_env) if api_key_env else "none"
    if not key:
        hint = f"Set it (`export {api_key_env}=...`), or name another variable."
        raise ModelError(
            f"The environment variable {api_key_env} holds no key for {base_url}.", hint
        )
    client = openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=retries)
    return EndpointEngine(client, model, concurrency, cap, ReplyCache(cache_dir))
