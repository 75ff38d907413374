"""What was done to a data set: manifest.json, and the rows that were changed or dropped."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from auditor.data.files import digest_of
from auditor.data.text_row import Field, Span
from auditor.errors import InputError
from mitigations.interface import Changed, Dropped, Kept

NAME = "manifest.json"
SET_ASIDE = "set_aside.parquet"

_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        ("before", pa.string()),
        ("after", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("mitigation", pa.string(), nullable=False),
    ]
)
_BATCH = 4096


class SetAside:
    """Writes set_aside.parquet: one line a change, with what differs as JSON {field: text}.

    row: number in the input. before, after: only the fields that differ, and "masked" spans; a
    changed row that became several has a list as `after`; a dropped row has all its texts in
    `before` and null in `after`.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = pq.ParquetWriter(folder / SET_ASIDE, _SCHEMA, compression="zstd")
        self._lines: list[dict[str, object]] = []

    def add(self, mitigation: str, outcome: Changed | Dropped) -> None:
        """Note one outcome."""
        if isinstance(outcome, Dropped):
            before, after, row = (
                json.dumps(_texts(outcome.row.fields), ensure_ascii=False),
                None,
                outcome.row,
            )
        else:
            before, after, row = *_difference(outcome), outcome.before
        line = {
            "row": row.index,
            "before": before,
            "after": after,
            "reason": outcome.reason,
            "mitigation": mitigation,
        }
        self._lines.append(line)
        if len(self._lines) == _BATCH:
            self._flush()

    def close(self) -> None:
        """Finish the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._lines:
            self._writer.write_table(pa.Table.from_pylist(self._lines, schema=_SCHEMA))
            self._lines.clear()


def _texts(fields: Sequence[Field]) -> dict[str, str]:
    return {".".join(map(str, field.path)): field.text for field in fields}


def _difference(outcome: Changed) -> tuple[str, str]:
    old = _texts(outcome.before.fields) | (
        {"masked": outcome.before.masked} if outcome.before.masked else {}
    )
    new = [
        _texts(row.fields) | ({"masked": row.masked} if row.masked else {}) for row in outcome.after
    ]
    names = [
        name for name in {**old, **new[0]} if any(each.get(name) != old.get(name) for each in new)
    ]
    shown = [{name: each[name] for name in names if name in each} for each in new]
    before = {name: old[name] for name in names if name in old}
    after = shown[0] if len(shown) == 1 else shown
    return json.dumps(before, ensure_ascii=False), json.dumps(after, ensure_ascii=False)


class Record:
    """Gathers, row by row, what the manifest says.

    Memory grows by 8 bytes a row; masked spans go to a scratch file.
    """

    def __init__(self, mitigations: Sequence[str]) -> None:
        self._counts = [
            {"mitigation": n, "rows": 0, "kept": 0, "changed": 0, "dropped": 0} for n in mitigations
        ]
        self._reasons: list[dict[str, int]] = [{} for _ in mitigations]
        self._source = array("q")
        self._masked = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self.masked_rows = 0

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._masked.close()

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return len(self._source)

    def note(self, step: int, outcome: Kept | Changed | Dropped) -> None:
        """Count what mitigation number `step` did with a row."""
        counts, reasons = self._counts[step], self._reasons[step]
        verb = type(outcome).__name__.lower()
        counts["rows"] += 1  # type: ignore[operator]
        counts[verb] += 1  # type: ignore[operator]
        if outcome.reason:
            key = f"{verb}: {outcome.reason}"
            reasons[key] = reasons.get(key, 0) + 1

    def wrote(self, index: int, masked: Sequence[Span] = ()) -> int:
        """Note that the next row of the output comes from row `index` of the input; return its
        number.
        """
        number = len(self._source)
        self._source.append(index)
        if masked:
            self._masked.write("," * bool(self.masked_rows) + f'\n"{number}": {json.dumps(masked)}')
            self.masked_rows += 1
        return number

    def counts(self) -> list[dict[str, Any]]:
        """Counts of each mitigation in order: rows = kept + changed + dropped, and the reasons
        given.
        """
        return [
            c | {"reasons": dict(sorted(r.items()))}
            for c, r in zip(self._counts, self._reasons, strict=True)
        ]

    def write(self, folder: Path, head: Mapping[str, Any], rows: int) -> None:
        """Write manifest.json: `head`, then source_rows (unless row i came from row i) and masked.

        rows: how many the input has.
        """
        body = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False)
        with (folder / NAME).open("w", encoding="utf-8", newline="\n") as out:
            out.write(body.removesuffix("\n}"))
            if self.rows != rows or any(i != source for i, source in enumerate(self._source)):
                out.write(',\n  "source_rows": [')
                for start in range(0, self.rows, _BATCH):
                    out.write(
                        "," * bool(start) + ",".join(map(str, self._source[start : start + _BATCH]))
                    )
                out.write("]")
            out.write(',\n  "masked": {')
            self._masked.seek(0)
            for line in self._masked:
                out.write(line)
            out.write("}\n}\n")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in `folder`, or None when there is none that can be read."""
    try:
        value = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return (
            value
            if {"settings", "reference", "key", "masked"} <= set(value) and value["output"]["name"]
            else None
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def manifest_of(data: Path, digest: str) -> dict[str, Any] | None:
    """The manifest beside a data set if it is about this one, by its digest."""
    found = read_manifest(data.parent)
    return found if found is not None and found["output"]["sha256"] == digest else None


def already_done(
    manifest: Mapping[str, Any],
    asked: Mapping[str, Any],
    traits: Sequence[str],
    reference: str | None,
) -> bool:
    """Whether just this was done already; traits and reference only count when they are named."""
    settings = manifest["settings"]
    if any(settings.get(key) != value for key, value in asked.items()):
        return False
    same_traits = not traits or list(traits) == ["all"] or list(traits) == settings["traits"]
    return same_traits and (
        reference is None or reference == (manifest["reference"] or {}).get("name", reference)
    )


def masked_rows(manifest: Mapping[str, Any] | None) -> dict[int, tuple[Span, ...]]:
    """The masked spans by row of the data set beside the manifest; none without one."""
    found = manifest["masked"] if manifest else {}
    return {
        int(row): tuple((int(t), int(a), int(b)) for t, a, b in spans)
        for row, spans in found.items()
    }


def finished(folder: Path, key: str) -> dict[str, Any] | None:
    """The manifest of the finished output of the same command; None when there is nothing yet.

    Raises InputError when something else stands in its place, or when it was changed since.
    """
    if not folder.exists():
        return None
    found = read_manifest(folder)
    if found is not None and found["key"] == key:
        data = folder / str(found["output"]["name"])
        if data.exists() and digest_of(str(data)) == found["output"]["sha256"]:
            return found
    raise InputError(
        f"{folder} exists already and holds something else.",
        "Name another folder, or remove it first.",
    )
