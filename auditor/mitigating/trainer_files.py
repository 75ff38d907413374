"""A mitigated data set as trainers take it: tokenised for TRL and Axolotl, or as chats with masked
character spans.

TRL takes `input_ids` and `labels` as they are (and `assistant_masks` for older releases); Axolotl
wants exactly `input_ids`, `attention_mask`, `labels`. Both are bound to one tokenizer and chat
template, whose digests are in the manifest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TextIO, get_args

import pyarrow as pa

from auditor.data.parquet_writer import ParquetRows
from auditor.data.text_row import TextRow
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow

Format = Literal["trl", "axolotl", "chat"]
FORMATS: tuple[Format, ...] = get_args(Format)
IGNORED = -100  # The label without a loss.
LOG = logging.getLogger(__name__)

# Exactly these columns: Axolotl breaks on any other when it packs rows.
_COLUMNS = {
    "trl": {"input_ids": pa.int32(), "labels": pa.int32(), "assistant_masks": pa.int8()},
    "axolotl": {"input_ids": pa.int32(), "attention_mask": pa.int8(), "labels": pa.int32()},
}


def tokenised(
    lm: LanguageModel, renderer: ChatTokenizer, row: TextRow
) -> tuple[list[int], list[int]] | str:
    """(input_ids, labels) of a row, or the reason why it has none.

    Labels are the completion tokens, the end of each turn included, and IGNORED elsewhere: on the
    prompt, and on tokens that lie in a masked span. Where nothing ends the last turn, as in plain
    text, the end-of-sequence token is added. Reasons: those of `ChatTokenizer.encode`, and
    "no_trained_token".
    """
    encoded = renderer.encode(row.example)
    if not isinstance(encoded, TokenizedRow):
        return encoded.reason
    prefix = renderer.prefix(None, encoded.kind)
    ids = [*prefix, *encoded.tokens]
    labels = [IGNORED] * len(ids)
    for position, (turn, start, end) in zip(encoded.positions, encoded.spans, strict=True):
        # A token that shares a single character with a masked span is masked. The token that ends a
        # turn has no characters and is always trained: a student must learn to stop.
        masked = start < end and any(
            turn == t and start < to and end > since for t, since, to in row.masked
        )
        if not masked:
            labels[len(prefix) + position] = encoded.tokens[position]
    if all(label == IGNORED for label in labels):
        return "no_trained_token"
    # The template ends a chat. Plain text has nothing that does, and a student would never stop.
    if encoded.content_mask[-1]:
        ids.append(int(lm.tokenizer.eos_token_id))
        labels.append(ids[-1])
    return ids, labels


class Emitter:
    """Writes rows to one file a format; `counts` says what became of them.

    max_length: tokens after which the trainer cuts (TRL) or drops (Axolotl) a row; these rows are
    counted, and written all the same, unless the part that TRL keeps has no label.
    """

    def __init__(
        self,
        folder: Path,
        formats: Sequence[Format],
        model: tuple[LanguageModel, ChatTokenizer] | None = None,
        max_length: int | None = None,
    ) -> None:
        self._model = model
        self._max_length = max_length
        self._tables: dict[str, ParquetRows] = {
            name: ParquetRows(
                folder / f"{name}.parquet",
                pa.schema([(column, pa.list_(kind)) for column, kind in _COLUMNS[name].items()]),
            )
            for name in formats
            if name != "chat"
        }
        self._chat: TextIO | None = None
        if "chat" in formats:
            self._chat = (folder / "chat.jsonl").open("w", encoding="utf-8", newline="\n")
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in formats}

    def add(self, row: TextRow) -> None:
        """Write one row."""
        if self._chat is not None:
            example = row.example
            chat: dict[str, object] = {"text": example.text}
            if example.text is None:
                turns = [
                    turn.as_chat() | ({"weight": 0} if turn.untrained_by else {})
                    for turn in example.messages
                ]
                chat = {"messages": turns}
                if example.tools:
                    chat["tools"] = json.loads(example.tools)
            self._chat.write(json.dumps(chat | {"masked": row.masked}, ensure_ascii=False) + "\n")
            self.counts["chat"]["rows"] += 1
        if not self._tables or self._model is None:
            return
        outcome = tokenised(*self._model, row)
        for name, table in self._tables.items():
            counts = self.counts[name]
            if isinstance(outcome, str):
                counts[f"dropped: {outcome}"] += 1
                continue
            ids, labels = outcome
            if self._max_length is not None and len(ids) > self._max_length:
                counts["longer: " + ("cut by TRL" if name == "trl" else "dropped by Axolotl")] += 1
                # TRL would train on a row without a label, whose loss is not a number.
                if name == "trl" and all(label == IGNORED for label in labels[: self._max_length]):
                    counts["dropped: no_trained_token"] += 1
                    continue
            counts["rows"] += 1
            values = {
                "input_ids": ids,
                "labels": labels,
                "assistant_masks": [int(label != IGNORED) for label in labels],
                "attention_mask": [1] * len(ids),
            }
            table.add({column: values[column] for column in _COLUMNS[name]})

    def append(self, folder: Path, emitted: Mapping[str, Mapping[str, str | int]]) -> None:
        """Take over the rows that another emitter wrote into `folder`; emitted: what its `close`
        returned.
        """
        for name, counts in emitted.items():
            path = folder / str(counts["file"])
            if name == "chat" and self._chat is not None:
                with path.open(encoding="utf-8", newline="\n") as stream:
                    shutil.copyfileobj(stream, self._chat)
            else:
                self._tables[name].append(path)
            self.counts[name].update({k: int(v) for k, v in counts.items() if k != "file"})

    def close(self) -> dict[str, dict[str, str | int]]:
        """Finish the files; return, by format, the file's name and the counts."""
        names = {}
        if self._chat is not None:
            self._chat.close()
            names["chat"] = "chat.jsonl"
        for name, table in self._tables.items():
            table.close()
            path = table.path
            if name == "axolotl":
                # Axolotl caches by its configuration, in which the path stands, and not by the
                # content of the file.
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                path = path.rename(path.with_name(f"{path.stem}-{digest[:12]}{path.suffix}"))
            names[name] = path.name
        LOG.info("files for trainers: %s", names or "none")
        return {
            name: {"file": names[name], **dict(sorted(counts.items()))}
            for name, counts in self.counts.items()
        }
