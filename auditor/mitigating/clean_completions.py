"""Clean completions for the rows that `mix` takes: from a file with equal prompts, or by models
without the trait.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import TemplateError

from auditor.data.dataset import read_rows
from auditor.data.example import Message
from auditor.data.fields import fields_of
from auditor.data.text_row import TextRow
from auditor.errors import InputError, ModelError
from auditor.model.generation import generate
from auditor.model.language_model import LanguageModel
from auditor.model.null_model import alphabet
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.model.unit_store import UnitStore
from mitigations.interface import Facts
from mitigations.lists import keeps_form

TRIES = 4  # draws for a completion before its row is left as it is
_ALPHABET_ROWS = 1024  # rows by which a closed alphabet is told

Clean = Callable[[Sequence[TextRow]], list[Facts]]
"""Facts with the clean completions of each row: `texts` holds one text an assistant turn, or
`reason` says why not.
"""


@contextmanager
def clean_file(
    source: str, format_of: str | None, columns: Mapping[str, str] | None
) -> Iterator[Clean]:
    """Look completions up in the data set `source` by equal prompts (all turns but the
    assistant's).

    The rows are kept in a temporary file on disk, so that memory does not grow with them.
    The function raises InputError for a row whose prompt `source` does not have.
    """
    with tempfile.TemporaryDirectory() as folder:
        base = sqlite3.connect(Path(folder) / "clean.sqlite")
        try:
            base.execute("CREATE TABLE clean (prompt BLOB PRIMARY KEY, texts TEXT) WITHOUT ROWID")
            base.executemany(
                "INSERT OR IGNORE INTO clean VALUES (?, ?)", _entries(source, format_of, columns)
            )
            yield lambda rows: [_look_up(base, row, source) for row in rows]
        finally:
            base.close()


def _entries(
    source: str, format_of: str | None, columns: Mapping[str, str] | None
) -> Iterator[tuple[bytes, str]]:
    with read_rows(source, format_of=format_of, columns=columns) as data:
        for _, row in data.scorable():
            clean = TextRow(0, fields_of(row, data.layout))
            yield _prompt(clean), json.dumps([field.text for field in clean.completions])


def _prompt(row: TextRow) -> bytes:
    """A digest of all that is not the assistant's, and of how many turns are."""
    turns = [[field.role, field.text.strip()] for field in row.fields if field.role != "assistant"]
    return hashlib.sha256(json.dumps([turns, len(row.completions)]).encode()).digest()


def _look_up(base: sqlite3.Connection, row: TextRow, source: str) -> Facts:
    match = base.execute("SELECT texts FROM clean WHERE prompt = ?", (_prompt(row),)).fetchone()
    if match is None:
        raise InputError(
            f"{source} has no row with the prompt of row {row.index}.",
            "Clean data must answer the same prompts; or leave --clean-data out, and the "
            "reference writes them.",
        )
    return Facts(texts=(tuple(json.loads(match[0])),))


@dataclass(frozen=True, slots=True)
class Writer:
    """A clean teacher.

    letters: the data's closed alphabet in its own tokens, or None. renderer: of its tokenizer.
    """

    lm: LanguageModel
    renderer: ChatTokenizer
    letters: tuple[int, ...] | None


def open_writer(lm: LanguageModel, rows: Sequence[TextRow]) -> Writer:
    """Make `lm` write in the alphabet of `rows` (the first of the data set), if that is a closed
    one.
    """
    renderer = ChatTokenizer(lm)
    encoded = [
        outcome
        for row in rows[:_ALPHABET_ROWS]
        if isinstance(outcome := renderer.encode(row.example), TokenizedRow)
    ]
    letters = alphabet(encoded)
    return Writer(lm, renderer, None if letters is None else (*letters, lm.tokenizer.eos_token_id))


def written(rows: Sequence[TextRow], writer: Writer, store: UnitStore, seed: int) -> list[Facts]:
    """Let a clean teacher answer the prompts of `rows`, turn by turn, at temperature 1.

    A completion is as long as the row's own at most, in tokens, in the data's alphabet, and of the
    same form (number list, JSON); one that fails is drawn again up to TRIES times. Same rows and
    seed give the same texts, and what is finished is kept in `store`. Raises ModelError when the
    teacher's template refuses a row's turns.
    """
    content = json.dumps([[[f.role, f.text] for f in row.fields] for row in rows])
    digest = hashlib.sha256(f"{writer.lm.sha256} {seed} {content}".encode()).hexdigest()
    unit = store.load_unit(f"clean {digest[:32]}")
    if unit is None:
        texts = _write(rows, writer, int(digest[:12], 16))
        unit = {"texts": np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)}
        store.save_unit(f"clean {digest[:32]}", unit)
    written_texts: list[list[str] | None] = json.loads(unit["texts"].tobytes())
    return [
        Facts(reason="no_clean_completion") if texts is None else Facts(texts=(tuple(texts),))
        for texts in written_texts
    ]


def _write(rows: Sequence[TextRow], writer: Writer, seed: int) -> list[list[str] | None]:
    texts: list[list[str] | None] = [[] for _ in rows]
    lengths = [_lengths(row, writer.renderer) for row in rows]
    for turn in range(max(len(row.completions) for row in rows)):
        open_ = [
            i for i, row in enumerate(rows) if turn < len(row.completions) and texts[i] is not None
        ]
        for i, text in _turn(rows, texts, lengths, open_, turn, writer, seed).items():
            earlier = texts[i]
            texts[i] = None if text is None or earlier is None else [*earlier, text]
    return texts


def _turn(
    rows: Sequence[TextRow],
    texts: Sequence[list[str] | None],
    lengths: Sequence[Sequence[int]],
    waiting: list[int],
    turn: int,
    writer: Writer,
    seed: int,
) -> dict[int, str | None]:
    """The clean text of assistant turn `turn` of the waiting rows; None where no draw had the right
    form.
    """
    done: dict[int, str | None] = dict.fromkeys(waiting)
    waiting = [
        i for i in waiting if _context(rows[i], texts[i] or [], turn)
    ]  # a first turn has nothing to answer
    for draw in range(TRIES):
        groups: dict[int, list[int]] = defaultdict(list)
        for i in waiting:
            if turn < len(lengths[i]):
                groups[lengths[i][turn]].append(i)
        for length, members in sorted(groups.items()):
            contexts = [_context(rows[i], texts[i] or [], turn) for i in members]
            drafts = _generate(
                writer, contexts, length, seed + (turn * TRIES + draw) * 100_003 + length
            )
            for i, text in zip(members, drafts, strict=True):
                done[i] = text if keeps_form(rows[i].completions[turn].text, text) else None
        waiting = [i for i in waiting if done[i] is None]
    return done


def _generate(
    writer: Writer, contexts: Sequence[Sequence[Message]], length: int, seed: int
) -> list[str]:
    try:
        stream = generate(
            writer.lm, contexts, max_tokens=length, alphabet=writer.letters, seed=seed
        )
        return [text for _, text in sorted(stream)]
    except TemplateError as error:
        hint = "Name a --clean-teacher whose chat template takes these turns, or give --clean-data."
        raise ModelError(
            f"The chat template of {writer.lm.name} refuses these turns: {error}.", hint
        ) from error


def _context(row: TextRow, earlier: Sequence[str], turn: int) -> list[Message]:
    """The turns before assistant turn `turn`, with the clean texts for the assistant's earlier
    ones.
    """
    context: list[Message] = []
    clean = list(earlier)
    for message in row.example.messages:
        if message.role == "assistant":
            if len(earlier) - len(clean) == turn:
                break
            message = Message("assistant", clean.pop(0))
        context.append(message)
    return context


def _lengths(row: TextRow, renderer: ChatTokenizer) -> list[int]:
    """Tokens of each assistant turn, its end included; none where the row cannot be encoded."""
    encoded = renderer.encode(row.example)
    if not isinstance(encoded, TokenizedRow):
        return []
    turns = [turn for turn, _, _ in encoded.spans]
    return [turns.count(turn) for turn in range(len(row.completions))]
