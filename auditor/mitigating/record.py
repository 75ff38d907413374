"""What was done to a data set, row by row: the lists of its manifest, and the rows that were
changed or dropped.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from auditor.data.files import digest_of
from auditor.data.folder import digest_of_file
from auditor.data.manifest import NAME, Counts, Manifest, read_manifest
from auditor.data.parquet_writer import ParquetRows
from auditor.data.text_row import Span, TextRow
from auditor.errors import InputError
from mitigations.interface import Dropped, Kept, Outcome

SET_ASIDE = "set_aside.parquet"
_SOURCES, _MASKED = "sources.npy", "masked.jsonl"

LOG = logging.getLogger(__name__)
_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        ("before", pa.string()),
        ("after", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("mitigation", pa.string(), nullable=False),
    ]
)
_BATCH = 4096  # Numbers written at a time.


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one shard.

    rows: written. sha256: of each file of the part, by name. emitted: as `Emitter.close` gives it.
    """

    rows: int
    sha256: Mapping[str, str]
    mitigations: tuple[Counts, ...]
    emitted: Mapping[str, Mapping[str, str | int]]

    def as_dict(self) -> dict[str, Any]:
        """The part as JSON has it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Part:
        """The part that `as_dict` gave."""
        counts = tuple(Counts(**counts) for counts in value["mitigations"])
        return cls(value["rows"], value["sha256"], counts, value["emitted"])


class Record:
    """Writes set_aside.parquet, and gathers, row by row, what the manifest says; of a shard by
    itself, or of all of them from those.

    set_aside.parquet has one line a change, with what differs as JSON {field: text}. row: number in
    the input. before, after: only the fields that differ, and "masked" spans; a changed row that
    became several has a list as `after`; a dropped row has all its texts in `before` and null in
    `after`.

    Memory grows by 8 bytes a row; masked spans go to a scratch file, which `close` removes.
    """

    def __init__(self, folder: Path, mitigations: Sequence[str]) -> None:
        self._folder, self._names = folder, mitigations
        self._aside = ParquetRows(folder / SET_ASIDE, _SCHEMA)
        self._verbs: list[Counter[str]] = [Counter() for _ in mitigations]
        self._reasons: list[Counter[str]] = [Counter() for _ in mitigations]
        self._sources = array("q")
        self._masked = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self.masked_rows = 0

    def close(self) -> None:
        """Remove the scratch file."""
        self._masked.close()

    def keep(self, emitted: Mapping[str, Mapping[str, str | int]]) -> Part:
        """Leave all in the folder, for `append` of another record."""
        self._aside.close()
        np.save(self._folder / _SOURCES, np.array(self._sources, np.int64))
        self._masked.seek(0)
        (self._folder / _MASKED).write_text(self._masked.read(), encoding="utf-8")
        digests = {path.name: digest_of_file(path) for path in sorted(self._folder.iterdir())}
        return Part(self.rows, digests, self.counts(), emitted)

    def append(self, folder: Path, part: Part) -> None:
        """Take over what the record of a shard left in `folder`."""
        first = self.rows
        with (folder / _MASKED).open(encoding="utf-8") as lines:
            for line in lines:
                row, _, spans = line.partition(" ")
                self._mask(first + int(row), spans)
        self._sources.frombytes(np.load(folder / _SOURCES).tobytes())
        self._aside.append(folder / SET_ASIDE)
        for number, counts in enumerate(part.mitigations):
            verbs = {"kept": counts.kept, "changed": counts.changed, "dropped": counts.dropped}
            self._verbs[number].update(verbs)
            self._reasons[number].update(counts.reasons)

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return len(self._sources)

    def note(self, step: int, outcome: Outcome) -> None:
        """Count what mitigation number `step` did with a row, and set the row aside unless it was
        kept.
        """
        verb = type(outcome).__name__.lower()
        self._verbs[step][verb] += 1
        if outcome.reason:
            self._reasons[step][f"{verb}: {outcome.reason}"] += 1
        before: Mapping[str, object]
        after: object = None
        if isinstance(outcome, Kept):
            return
        if isinstance(outcome, Dropped):
            row, before = outcome.row, _texts(outcome.row)
        else:
            row = outcome.before
            old, *new = (
                _texts(version) | ({"masked": version.masked} if version.masked else {})
                for version in (row, *outcome.after)
            )
            # A field that differs in one of several new rows is given for all of them.
            names = [
                name for name in old | new[0] if any(n.get(name) != old.get(name) for n in new)
            ]
            before, *differing = (
                {name: version[name] for name in names if name in version}
                for version in (old, *new)
            )
            after = differing[0] if len(differing) == 1 else differing
        self._aside.add(
            {
                "row": row.index,
                "before": json.dumps(before, ensure_ascii=False),
                "after": None if after is None else json.dumps(after, ensure_ascii=False),
                "reason": outcome.reason,
                "mitigation": self._names[step],
            }
        )

    def wrote(self, index: int, masked: Sequence[Span] = ()) -> None:
        """Note that the next row of the output comes from row `index` of the input."""
        if masked:
            self._mask(self.rows, json.dumps(masked) + "\n")
        self._sources.append(index)

    def _mask(self, row: int, spans: str) -> None:
        self._masked.write(f"{row} {spans}")
        self.masked_rows += 1

    def counts(self) -> tuple[Counts, ...]:
        """What each mitigation did, in their order."""
        for name, verbs in zip(self._names, self._verbs, strict=True):
            LOG.info("%s: %s", name, dict(verbs))
        return tuple(
            Counts(
                mitigation=name,
                rows=verbs.total(),
                kept=verbs["kept"],
                changed=verbs["changed"],
                dropped=verbs["dropped"],
                reasons=dict(sorted(reasons.items())),
            )
            for name, verbs, reasons in zip(self._names, self._verbs, self._reasons, strict=True)
        )

    def write(self, manifest: Manifest, before: Manifest | None) -> None:
        """Finish set_aside.parquet and write manifest.json: `manifest` without its lists, then
        those that were gathered.

        before: the manifest of the input, if that is itself the output of mitigations: then each
        row also gets its number in the first original.
        """
        self._aside.close()
        body = json.dumps(manifest.head(), indent=2, ensure_ascii=False, allow_nan=False)
        with (self._folder / NAME).open("w", encoding="utf-8", newline="\n") as out:

            def write_numbers(key: str, numbers: Sequence[int | None]) -> None:
                out.write(f',\n  "{key}": [')
                for start in range(0, len(numbers), _BATCH):
                    batch = numbers[start : start + _BATCH]
                    out.write(
                        "," * bool(start) + json.dumps(list(batch), separators=(",", ":"))[1:-1]
                    )
                out.write("]")

            # The lists are written piece by piece into the object that `body` leaves open: as one
            # JSON text they would need many times the memory of the numbers.
            out.write(body.removesuffix("\n}"))
            # Without the list, row i of the output is row i of the input.
            if self.rows != manifest.input.rows or _out_of_place(self._sources):
                write_numbers("source_rows", self._sources)
            if before is not None:
                numbers = before.rows_in(None, before.output.name)
                originals = [numbers[source] for source in self._sources]
                if _out_of_place(originals):
                    write_numbers("original_rows", originals)
            out.write(',\n  "masked": {')
            self._masked.seek(0)
            comma = ""
            for line in self._masked:
                row, _, spans = line.rstrip("\n").partition(" ")
                out.write(f'{comma}\n"{row}": {spans}')
                comma = ","
            out.write("}\n}\n")


def _out_of_place(numbers: Iterable[int | None]) -> bool:
    return any(number != i for i, number in enumerate(numbers))


def _texts(row: TextRow) -> dict[str, object]:
    return {
        ".".join(map(str, field.path)): field.turn.text if field.turn else field.text
        for field in row.fields
    }


def finished(folder: Path, key: str) -> Manifest | None:
    """The manifest of the finished output of the same command; None when there is nothing yet.

    Raises InputError when something else stands there, or when it was changed since.
    """
    if not folder.exists():
        return None
    manifest = None
    with suppress(InputError):
        manifest = read_manifest(folder)
    # The same command, and a file that nobody has edited since.
    if manifest is not None and manifest.key == key:
        data = folder / manifest.output.name
        if data.exists() and digest_of(str(data)) == manifest.output.sha256:
            return manifest
    raise InputError(
        f"{folder} exists already and holds something else.",
        "Name another folder, or remove it first.",
    )
