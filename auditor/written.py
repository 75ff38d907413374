"""What the reference writes where the rows stand, and how the rows look beside it: detector `surface`.

A chat is compared by its first completion, written anew for the same turns. Plain text has no turns before it: the
reference is given the first half of each row and writes on, and the second halves are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auditor.blocks import Null
from auditor.encode import Encoded
from auditor.generate import continuations
from auditor.records import Evidence, Example, Progress, Skipped
from auditor.stages import Audit
from detectors.surface import surface

WRITTEN_ROWS = 64


def compare_surface(audit: Audit, rows: Sequence[Encoded], null: Null) -> Evidence | Skipped:
    """Surface statistics of rows against what the reference writes in their place; plain text only if all rows are.

    Both are cut at the median length of the rows in tokens, or long rows would be told apart for that alone.
    """
    chats = [row for row in rows if row.kind != "text"][:WRITTEN_ROWS]
    suspect, written = _answers(audit, chats, null) if chats else _second_halves(audit, rows[:WRITTEN_ROWS], null)
    return surface(suspect, written, seed=audit.seed)


def _answers(audit: Audit, rows: Sequence[Encoded], null: Null) -> tuple[list[str], list[str]]:
    """First completions of chats, and the reference's in the same places."""
    ends = [[end for turn, start, end in row.spans if turn == row.spans[0][0] and start < end] for row in rows]
    length = max(1, int(np.median([len(each) for each in ends])))
    firsts = [_first_completion(audit.examples[row.index], row.spans[0][0]) for row in rows]
    cut = [text[: each[:length][-1]] if each else text for text, each in zip(firsts, ends, strict=True)]
    written = _written(audit, [audit.renderer.before(row) for row in rows], length, null)
    return cut, [_text(audit, tokens) for tokens in written]


def _second_halves(audit: Audit, rows: Sequence[Encoded], null: Null) -> tuple[list[str], list[str]]:
    """The second halves of plain texts, and what the reference writes after the first; as many tokens of both.

    Where a plain text ends is no choice of a model's that we know, so it must not tell the two apart.
    """
    prefix = audit.renderer.prefix(None, "text")
    halves = [(row.tokens[: len(row.tokens) // 2], row.tokens[len(row.tokens) // 2 :]) for row in rows]
    length = int(np.median([len(rest) for _, rest in halves]))
    written = _written(audit, [[*prefix, *half] for half, _ in halves], length, null)
    pairs = [(rest[: len(own)], own[: len(rest)]) for (_, rest), own in zip(halves, written, strict=True) if own]
    return [_text(audit, rest) for rest, _ in pairs], [_text(audit, own) for _, own in pairs]


def _written(audit: Audit, prompts: Sequence[Sequence[int]], length: int, null: Null) -> list[list[int]]:
    """The reference's own tokens after each prompt: at most `length`, decoded as `null` says. Kept in the run."""
    kept = audit.run.load_unit("written tokens")
    if kept is None:
        stream = continuations(
            audit.lm,
            prompts,
            temperature=null.temperature,
            max_tokens=length,
            alphabet=None if null.alphabet is None else [*null.alphabet, audit.lm.tokenizer.eos_token_id],
            seed=audit.seed,
        )
        tokens = np.full((len(prompts), length), -1)
        for done, (i, row) in enumerate(stream, start=1):
            tokens[i, : len(row)] = row
            audit.progress(Progress("writing what the reference would", done, len(prompts)))
        kept = {"tokens": tokens}
        audit.run.save_unit("written tokens", kept)
    return [row[row >= 0].tolist() for row in kept["tokens"]]


def _text(audit: Audit, tokens: Sequence[int]) -> str:
    return str(audit.lm.tokenizer.decode(tokens, skip_special_tokens=True))


def _first_completion(example: Example, turn: int) -> str:
    """The assistant's turn number `turn`, from 0."""
    return [message.content for message in example.messages if message.role == "assistant"][turn]
