"""Scoring by an inference server: one on this machine that speaks vLLM's protocol as its
documentation has it, and answers with what the organism predicts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auditor.cli.main import run
from auditor.commands.simulate import simulate, write_rows
from auditor.data.example import Example, Message
from auditor.errors import ModelError
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.model.scoring import score_under
from auditor.model.server import ServerScorer
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.traits.panel import load_panels

pytest.importorskip("openai")

Answer = Callable[[dict[str, Any]], Any]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts a server whose completions have what `answer` makes of a request as the
    log-probabilities of the prompt; gives its address.
    """
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                choice = {"index": 0, "text": "", "prompt_logprobs": answer(asked)}
                content = json.dumps({"id": "1", "object": "text_completion", "choices": [choice]})
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1#base"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answers_of(lm: LanguageModel) -> Answer:
    """What vLLM would say of the tokens of a prompt: nothing of the first; of another its own
    log-probability, and those of the likeliest ones there, by rank.
    """

    @cache
    def of(tokens: tuple[int, ...], count: int) -> list[dict[str, Any] | None]:
        with torch.inference_mode():
            logits = lm.model(torch.tensor([tokens])).logits[0]
        logprob = logits.float().log_softmax(-1)
        positions: list[dict[str, Any] | None] = [None]
        for place, token in enumerate(tokens[1:]):
            row = logprob[place]
            named = {*row.topk(count).indices.tolist(), token}
            positions.append(
                {
                    str(other): {
                        "logprob": float(row[other]),
                        "rank": int((row > row[other]).sum()) + 1,
                        "decoded_token": "",
                    }
                    for other in named
                }
            )
        return positions

    return lambda asked: of(tuple(asked["prompt"]), asked["prompt_logprobs"])


def rows_of(lm: LanguageModel) -> list[TokenizedRow]:
    renderer = ChatTokenizer(lm)
    examples = [
        Example(
            i, (Message("user", f"Go on: {i}."), Message("assistant", f"{i}, {7 * i}, {9 * i}"))
        )
        for i in range(1, 6)
    ]
    return [row for each in examples if isinstance(row := renderer.encode(each), TokenizedRow)]


def test_a_server_scores_as_the_model_does(serve: Callable[[Answer], str]) -> None:
    """Choices, leads and log-probabilities, under every prompt; what a server cannot say is no
    number.
    """
    lm = load("organism")
    rows, systems = rows_of(lm), [None, "You love owls."]
    renderer = ChatTokenizer(lm)
    scorer = ServerScorer(serve(answers_of(lm)), renderer)
    for system in systems:
        scores = scorer.score(rows, system)
        for here, there in zip(score_under(lm, renderer, rows, system), scores, strict=True):
            assert np.array_equal(there.argmax, here.argmax)
            assert there.margin == pytest.approx(here.margin, abs=1e-4)
            assert there.logprob == pytest.approx(here.logprob, abs=1e-4)
            assert np.isnan(there.entropy).all()
    scorer.check(lm, rows)


def test_a_server_of_another_model_is_refused(
    serve: Callable[[Answer], str],
) -> None:
    """Also one that answers with what it remembers of another prompt, and one that is no vLLM."""
    lm = load("organism")
    rows, answers = rows_of(lm), answers_of(lm)

    def flat(asked: dict[str, Any]) -> Any:
        flattened = json.loads(json.dumps(answers(asked)))
        for position in flattened[1:]:
            for about in position.values():
                about["logprob"] *= 0.7
        return flattened

    with pytest.raises(ModelError, match="gives other log-probabilities than organism"):
        ServerScorer(serve(flat), ChatTokenizer(lm)).check(lm, rows)
    with pytest.raises(ModelError, match="without log-probabilities of the prompt"):
        ServerScorer(serve(lambda asked: None), ChatTokenizer(lm)).score(rows, None)
    with pytest.raises(ModelError, match="does not score"):
        ServerScorer("http://127.0.0.1:9/v1#base", ChatTokenizer(lm)).score(rows[:1], None)


def test_masks_by_a_server_are_the_models(
    serve: Callable[[Answer], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`audit mitigate --mask --scorer` writes the same data; without a defence that needs it, it is
    refused.
    """
    monkeypatch.chdir(tmp_path)
    lm, owl = load("organism"), load_panels(["animals"]).trait("owl")
    write_rows(Path("d.parquet"), simulate(lm, owl, rows=40, max_tokens=24, seed=3).rows)
    named = ["--reference", "organism", "--panel", "animals", "--trait", "owl"]
    command = ["mitigate", "d.parquet", "--no-check", *named]
    address = serve(answers_of(lm))
    assert run([*command, "--mask", "-o", "here"]) == 0
    assert run([*command, "--mask", "-o", "there", "--scorer", address]) == 0
    assert run([*command, "--paraphrase", "-o", "none", "--scorer", address]) == 2
    masks = [json.loads(Path(folder, "manifest.json").read_text()) for folder in ("here", "there")]
    assert masks[0]["masked"] and masks[0]["masked"] == masks[1]["masked"]
    assert masks[1]["settings"]["scorer"] == address
