"""The endpoint engine against a server on this machine that speaks the OpenAI protocol, well or
badly.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import ModelError
from mitigations.interface import Endpoint
from mitigations.paraphrase import EndpointEngine, paraphrase
from mitigations.paraphrase.cache import ReplyCache

pytest.importorskip("openai")

PROMPTS = [f"Write a poem about {i} birds." for i in range(4)]
Answer = tuple[int, Any]


class Stub:
    """A server that answers with what `answer` makes of the prompt.

    asked: the bodies it got, in order.
    """

    def __init__(self) -> None:
        self.answer: Callable[[str], Answer] = lambda prompt: completion(
            prompt.replace("Write a poem", "Compose verses")
        )
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.asked.append(body)
                stub.keys.append(self.headers["Authorization"])
                text = body["messages"][-1]["content"]
                status, payload = stub.answer(
                    text.partition("<prompt>\n")[2].removesuffix("\n</prompt>")
                )
                data = (
                    payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
                )
                self.send_response(status)
                self.send_header(
                    "Content-Type", "text/html" if isinstance(payload, str) else "application/json"
                )
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


def completion(text: str | None, tokens: int | None = 40) -> Answer:
    """A chat completion."""
    usage = (
        {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens}
        if tokens is not None
        else None
    )
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    return 200, {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A running stub server."""
    stub = Stub()
    thread = threading.Thread(target=stub.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


@pytest.fixture
def make(stub: Stub, tmp_path: Path) -> Callable[..., EndpointEngine]:
    """Make an engine that talks to the stub."""

    def make(*, timeout: float = 5.0, **changes: Any) -> EndpointEngine:
        settings = Endpoint(**({"concurrency": 2, "retries": 0} | changes))
        return EndpointEngine(stub.url, "m", settings, tmp_path / "cache", timeout=timeout)

    return make


def test_prompts_are_reworded_in_order(stub: Stub, make: Callable[..., EndpointEngine]) -> None:
    """Every prompt gets its own answer, several requests at once or not."""
    expected = [(f"Compose verses about {i} birds.",) for i in range(4)]
    for found in (paraphrase(PROMPTS, make()), paraphrase(PROMPTS, make(concurrency=1))):
        assert [reworded.texts for reworded in found] == expected
        assert {reworded.engine for reworded in found} == {"llm"}


def test_nothing_is_asked_twice(stub: Stub, make: Callable[..., EndpointEngine]) -> None:
    """A second engine takes the replies from the cache; another seed or model asks again."""
    first = make().reword(PROMPTS, 2, 0)
    assert len(stub.asked) == 8
    assert make().reword(PROMPTS, 2, 0) == first
    assert len(stub.asked) == 8
    make().reword(PROMPTS[:1], 1, 1)
    assert len(stub.asked) == 9


def test_a_server_error_is_tried_again(stub: Stub, make: Callable[..., EndpointEngine]) -> None:
    """One 500, then an answer."""
    good = stub.answer
    stub.answer = lambda prompt: (
        (500, {"error": {"message": "busy"}}) if len(stub.asked) == 1 else good(prompt)
    )
    assert make(retries=1).reword(PROMPTS[:1], 1, 0) == [["Compose verses about 0 birds."]]
    assert len(stub.asked) == 2


def slow(prompt: str) -> Answer:
    """Too late."""
    time.sleep(0.6)
    return completion(prompt)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (slow, "did not answer within 0.3 s, 1 times"),
        (lambda p: (500, {"error": {"message": "broken"}}), "error (500)"),
        (lambda p: (401, {"error": {"message": "no"}}), "does not accept the key"),
        (lambda p: (404, {"error": {"message": "no"}}), "has no model m"),
        (lambda p: (200, "<html>Welcome!</html>"), "does not answer with chat completions"),
        (lambda p: (200, {"hello": "world"}), "does not answer with chat completions"),
        (lambda p: (200, {"choices": []}), "does not answer with chat completions"),
        (
            lambda p: (200, {"choices": [{"message": {"content": 3}}]}),
            "does not answer with chat completions",
        ),
        (lambda p: (200, [1, 2]), "does not answer with chat completions"),
        (lambda p: (200, None), "does not answer with chat completions"),
    ],
)
def test_what_ends_with_one_clear_line(
    stub: Stub, make: Callable[..., EndpointEngine], answer: Callable[[str], Answer], message: str
) -> None:
    """Time-outs, refusals and nonsense are ModelErrors with a next step."""
    stub.answer = answer
    with pytest.raises(ModelError) as caught:
        make(timeout=0.3).reword(PROMPTS[:1], 1, 0)
    assert message in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_answers_before_a_failure_are_kept(stub: Stub, make: Callable[..., EndpointEngine]) -> None:
    """After a failure the same call asks only for what is missing."""
    good = stub.answer
    stub.answer = lambda prompt: (500, {}) if "3 birds" in prompt else good(prompt)
    with pytest.raises(ModelError):
        make(concurrency=1).reword(PROMPTS, 1, 0)
    asked = len(stub.asked)
    stub.answer = good
    assert all(make(concurrency=1).reword(PROMPTS, 1, 0))
    assert len(stub.asked) == asked + 1


def test_nobody_listens(tmp_path: Path) -> None:
    """A closed port is one clear line."""
    settings = Endpoint(concurrency=1, retries=0)
    engine = EndpointEngine("http://127.0.0.1:9/v1", "m", settings, tmp_path)
    with pytest.raises(ModelError, match="cannot be reached"):
        engine.reword(PROMPTS, 1, 0)


def test_the_cap_is_never_exceeded(stub: Stub, make: Callable[..., EndpointEngine]) -> None:
    """Prompts after the cap get a rewording by rule with that reason; a repeat from the cache stops
    at the same row.
    """
    stub.answer = lambda prompt: completion(
        prompt.replace("Write a poem", "Compose verses"), tokens=300
    )
    engine = make(cap=1500, concurrency=1)
    found = paraphrase(PROMPTS * 3, engine)
    assert 0 < engine.spent <= 1500
    assert len(stub.asked) < 12
    assert found[-1].reason == "spending_cap"
    assert found[-1].engine == "rules"
    assert paraphrase(PROMPTS * 3, make(cap=1500, concurrency=1)) == found
    assert make(cap=10).reword(PROMPTS, 1, 0) == [[]] * 4


def test_unknown_spending_is_estimated_from_above(
    stub: Stub, make: Callable[..., EndpointEngine]
) -> None:
    """A server that reports no usage still counts against the cap."""
    stub.answer = lambda prompt: completion(prompt, tokens=None)
    engine = make()
    engine.reword(PROMPTS[:1], 1, 0)
    assert engine.spent > len(PROMPTS[0])


@pytest.mark.parametrize("text", [None, "", "  "])
def test_an_empty_reply_falls_back(
    stub: Stub, make: Callable[..., EndpointEngine], text: str | None
) -> None:
    """No text is no error: the rules take over."""
    stub.answer = lambda prompt: completion(text)
    (found,) = paraphrase(PROMPTS[:1], make())
    assert (found.engine, found.reason) == ("rules", "empty_reply")


def test_the_key(
    stub: Stub, make: Callable[..., EndpointEngine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It comes from the variable named, goes into the request only, and its absence is one clear
    line.
    """
    monkeypatch.setenv("A_KEY", "s3cret")
    make(api_key_env="A_KEY").reword(PROMPTS[:1], 1, 0)
    assert stub.keys == ["Bearer s3cret"]
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()
    ]
    monkeypatch.delenv("A_KEY")
    with pytest.raises(ModelError, match="A_KEY holds no key"):
        make(api_key_env="A_KEY")


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A file in the way of the folder, and a file that is no table."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="cache of replies"):
        ReplyCache(tmp_path / "file")
    (tmp_path / "replies.sqlite").write_text("x" * 5000)
    with pytest.raises(ModelError, match="cache of replies"):
        ReplyCache(tmp_path)
