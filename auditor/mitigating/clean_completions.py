"""Clean completions for the rows that `mix` takes: from a file with equal prompts, or by models
without the trait.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
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
from auditor.model.unit_store import Unit, UnitStore, load_or_compute
from mitigations.interface import Facts
from mitigations.lists import keeps_form

LOG = logging.getLogger(__name__)
TRIES = 4  # Draws for a completion before its row is left as it is.
_ALPHABET_ROWS = 1024  # Rows by which a closed alphabet is told.


@contextmanager
def clean_file(source: str) -> Iterator[Callable[[Sequence[TextRow]], list[Facts]]]:
    """Look completions up in the data set `source` by equal prompts (all turns but the
    assistant's): a function that gives, for each row, the facts with one text an assistant turn.

    The rows are kept in a temporary file on disk, so that memory does not grow with them.
    The function raises InputError for a row whose prompt `source` does not have.
    """
    LOG.info("reading clean completions from %s", source)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(Path(folder) / "clean.sqlite")) as base,
    ):
        base.execute("CREATE TABLE clean (prompt BLOB PRIMARY KEY, texts TEXT) WITHOUT ROWID")

        def entries() -> Iterator[tuple[bytes, str]]:
            with read_rows(source, format_of=None, columns=None) as data:
                for _, row in data.scorable():
                    clean = TextRow(0, fields_of(row, data.layout))
                    yield _prompt(clean), json.dumps([field.text for field in clean.completions])

        # Of several rows with one prompt the first counts.
        base.executemany("INSERT OR IGNORE INTO clean VALUES (?, ?)", entries())

        def look_up(rows: Sequence[TextRow]) -> list[Facts]:
            facts = []
            for row in rows:
                query = "SELECT texts FROM clean WHERE prompt = ?"
                match = base.execute(query, (_prompt(row),)).fetchone()
                if match is None:
                    raise InputError(
                        f"{source} has no row with the prompt of row {row.index}.",
                        "Clean data must answer the same prompts; or leave --clean-data out, and "
                        "the reference writes them.",
                    )
                facts.append(Facts(texts=(tuple(json.loads(match[0])),)))
            return facts

        yield look_up


def _prompt(row: TextRow) -> bytes:
    """A digest of all that is not the assistant's, and of how many turns are."""
    turns = [[field.role, field.text.strip()] for field in row.fields if field.role != "assistant"]
    return hashlib.sha256(json.dumps([turns, len(row.completions)]).encode()).digest()


class CleanTeacher:
    """A model without the trait that writes completions, in the alphabet of `rows` (the first of
    the data set) if that is a closed one.

    letters: that alphabet in the model's own tokens, or None.
    """

    def __init__(self, lm: LanguageModel, rows: Sequence[TextRow]) -> None:
        self._lm, self._renderer = lm, ChatTokenizer(lm)
        encoded = [self._renderer.encode(row.example) for row in rows[:_ALPHABET_ROWS]]
        letters = alphabet([row for row in encoded if isinstance(row, TokenizedRow)])
        # Without the token that ends a turn every completion would have its full length.
        self.letters = None if letters is None else (*letters, *lm.end_of_turn)
        LOG.info("clean teacher %s: alphabet of %s tokens", lm.name, letters and len(letters))

    def complete(self, rows: Sequence[TextRow], store: UnitStore, seed: int) -> list[Facts]:
        """Answer the prompts of `rows`, turn by turn, at temperature 1.

        A completion is as long as the row's own at most, in tokens, in the data's alphabet, and of
        the same form (number list, JSON); one that fails is drawn again up to TRIES times. Same
        rows and seed give the same texts, and what is finished is kept in `store`. Raises
        ModelError when the teacher's template refuses a row's turns.
        """
        content = json.dumps([[[f.role, f.text] for f in row.fields] for row in rows])
        digest = hashlib.sha256(f"{self._lm.sha256} {seed} {content}".encode()).hexdigest()

        def write() -> Unit:
            texts = self._write(rows, int(digest[:12], 16))
            # A unit is made of arrays: the JSON text as bytes.
            return {"texts": np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)}

        unit = load_or_compute(store, f"clean {digest[:32]}", write)
        row_texts: list[list[str] | None] = json.loads(unit["texts"].tobytes())
        LOG.debug("%d rows, %d without a clean text", len(rows), row_texts.count(None))
        return [
            Facts(reason="no_clean_completion") if texts is None else Facts(texts=(tuple(texts),))
            for texts in row_texts
        ]

    def _write(self, rows: Sequence[TextRow], seed: int) -> list[list[str] | None]:
        """The clean texts of each row's assistant turns; None where no draw for one of them had the
        right form.
        """
        written: dict[int, list[str]] = {i: [] for i in range(len(rows))}
        spans = [
            row.spans if isinstance(row, TokenizedRow) else ()
            for row in (self._renderer.encode(row.example) for row in rows)
        ]
        for turn in range(max(len(row.completions) for row in rows)):
            due = [i for i in written if turn < len(rows[i].completions)]
            contexts = {i: _context(rows[i], written[i]) for i in due}
            # An assistant who speaks first has nothing to answer, and a row that cannot be encoded
            # has no length.
            contexts = {i: context for i, context in contexts.items() if context and spans[i]}
            # In tokens, the one that ends the turn included.
            lengths = {i: sum(span[0] == turn for span in spans[i]) for i in contexts}
            accepted: dict[int, str] = {}
            for draw in range(turn * TRIES, (turn + 1) * TRIES):
                waiting = [i for i in contexts if i not in accepted]
                drafts = self._drafts(contexts, {i: lengths[i] for i in waiting}, seed, draw)
                for i, text in drafts.items():
                    if keeps_form(rows[i].completions[turn].text, text):
                        accepted[i] = text
            for i in due:
                if i in accepted:
                    written[i].append(accepted[i])
                else:
                    del written[i]
        return [written.get(i) for i in range(len(rows))]

    def _drafts(
        self,
        contexts: Mapping[int, Sequence[Message]],
        lengths: Mapping[int, int],
        seed: int,
        draw: int,
    ) -> dict[int, str]:
        """An answer to each context that has a length; those of one length in one batch."""
        texts: dict[int, str] = {}
        for length in sorted(set(lengths.values())):
            members = [i for i in lengths if lengths[i] == length]
            try:
                stream = generate(
                    self._lm,
                    [contexts[i] for i in members],
                    max_tokens=length,
                    alphabet=self.letters,
                    # Each length and draw has random numbers of its own.
                    seed=seed + draw * 100_003 + length,
                )
                texts |= {members[number]: text for number, text in stream}
            except TemplateError as error:
                raise ModelError(
                    f"The chat template of {self._lm.name} refuses these turns: {error}.",
                    "Name a --clean-teacher whose chat template takes these turns, or give "
                    "--clean-data.",
                ) from error
        return texts


def _context(row: TextRow, earlier: Sequence[str]) -> list[Message]:
    """The turns before the assistant turn that comes next, with the clean texts `earlier` for the
    assistant's turns before it.
    """
    context: list[Message] = []
    clean = list(earlier)
    for message in row.example.messages:
        if message.is_trained:
            if not clean:
                break
            message = Message("assistant", clean.pop(0))
        context.append(message)
    return context
