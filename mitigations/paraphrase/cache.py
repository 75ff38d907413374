"""Replies of an endpoint, kept on disk: nothing is paid for twice, and a run that was cut short
goes on.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import ModelError


@dataclass(frozen=True, slots=True)
class Reply:
    """text: of the reply, "" for none.

    tokens: prompt and reply together, as billed or as estimated from above.
    """

    text: str
    tokens: int


def key_of(*parts: object) -> str:
    """The name under which a reply is kept: a digest of all that it depends on."""
    # A lone surrogate, which JSON can bring along, has no UTF-8.
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()


class ReplyCache:
    """A table of replies in `folder`/replies.sqlite, which several processes may share.

    Raises: ModelError when the folder cannot be written, or the file is not such a table.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "replies.sqlite"
        with self._open() as db:
            db.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text, tokens)")

    def get(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The replies that are kept, by key."""
        query = "SELECT text, tokens FROM replies WHERE key = ?"
        with self._open() as db:
            rows = {key: db.execute(query, (key,)).fetchone() for key in keys}
        return {key: Reply(*row) for key, row in rows.items() if row is not None}

    def put(self, replies: Iterable[tuple[str, Reply]]) -> None:
        """Keep replies, all of them or none."""
        rows = [(key, reply.text, reply.tokens) for key, reply in replies]
        with self._open() as db:
            db.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # `closing` ends the connection and `db` the transaction: `with` a connection alone
            # leaves it open. Its own connection for each call lets threads share the cache.
            with closing(sqlite3.connect(self._path, timeout=60)) as db, db:
                yield db
        except (OSError, sqlite3.Error) as error:
            raise ModelError(
                f"The cache of replies {self._path} cannot be used: {error}.",
                "Free some space there, or give another folder for the cache.",
            ) from error
