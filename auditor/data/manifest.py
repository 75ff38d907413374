"""The manifest of a mitigated data set: what was done to it, where each of its rows comes from, and
which characters are not to be trained on.

It lies beside the data file as manifest.json and is about that very file: it counts by the digest,
never by the name alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from auditor.data.coverage import Unread
from auditor.data.text_row import Span
from auditor.errors import InputError

NAME = "manifest.json"
_AGAIN = "Write the mitigated set again with `audit mitigate`."


@dataclass(frozen=True, slots=True)
class FileOf:
    """A data set that a manifest names, by the SHA-256 of its bytes and the number of its rows."""

    name: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What one mitigation did with the rows: rows = kept + changed + dropped.

    reasons: how often it gave which, as in {"changed: reworded": 12}.
    """

    mitigation: str
    rows: int
    kept: int
    changed: int
    dropped: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a manifest.json; `docs/mitigations.md` describes the file."""

    output: FileOf
    input: FileOf

    tool: str = ""
    key: str = ""
    """The run that wrote it: the same command finds its own output by it."""

    skipped: Mapping[str, int] = field(default_factory=dict)
    """How many rows of the input cannot be scored, by reason; they stay as they are."""

    broken_shards: tuple[Unread, ...] = ()
    """Files of the input that cannot be read, and of which nothing is in the output."""

    shards: tuple[FileOf, ...] = ()
    """The files of an output that is a folder."""

    format: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    settings: Mapping[str, object] = field(default_factory=dict)
    """The mitigations in their order, and what they share."""

    reference: Mapping[str, str] | None = None

    writers: Sequence[Mapping[str, str]] = ()
    """Name and digests of each paraphraser, clean teacher and embedding model, and of clean
    data.
    """

    tokenizer_sha256: str | None = None
    """Of the tokenizer for which the masks hold, as `template_sha256` of the chat template; None
    where there is no mask."""

    template_sha256: str | None = None
    mitigations: tuple[Counts, ...] = ()
    masked_rows: int = 0
    emitted: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)
    """By trainer: the file, and what became of the rows."""

    recipes: tuple[str, ...] = ()

    chain: tuple[str, ...] = ()
    """SHA-256 of every data set from the first original to the input; the input's alone unless that
    was itself the output of mitigations."""

    source_rows: Sequence[int | None] | None = None
    """The row of the input that each row comes from; None where row i comes from row i."""

    original_rows: Sequence[int | None] | None = None
    """The same for the first original, where that is not the input."""

    masked: Mapping[int, tuple[Span, ...]] = field(default_factory=dict)
    """Row -> spans that are not to be trained on."""

    def head(self) -> dict[str, Any]:
        """All but the lists by row, as JSON has it."""
        origin = asdict(self.input) | {"skipped": self.skipped}
        if self.broken_shards:
            origin["broken_shards"] = [asdict(shard) for shard in self.broken_shards]
        output = asdict(self.output)
        if self.shards:
            output["shards"] = [asdict(shard) for shard in self.shards]
        return {
            "tool": self.tool,
            "key": self.key,
            "input": origin,
            "output": output,
            "format": self.format,
            "columns": self.columns,
            "settings": self.settings,
            "reference": self.reference,
            "writers": list(self.writers),
            "tokenizer_sha256": self.tokenizer_sha256,
            "template_sha256": self.template_sha256,
            "mitigations": [asdict(counts) for counts in self.mitigations],
            "masked_rows": self.masked_rows,
            "emitted": self.emitted,
            "recipes": list(self.recipes),
            "chain": list(self.chain),
        }

    def rows_in(self, original: str | None, name: str) -> Sequence[int | None]:
        """The number that each row has in the data set whose SHA-256 is `original`; None in the
        list is a row that was added.

        original: None is the first of the chain. name: of the data set in an error.
        Raises InputError when the data set was not made from that one.
        """
        if original in (None, self.chain[0]):
            rows = self.original_rows if len(self.chain) > 1 else self.source_rows
        elif original == self.chain[-1]:
            rows = self.source_rows
        else:
            raise InputError(
                f"{name} was made from another data set than the one that comes first.",
                "Give the one that it was made from, unchanged, or mitigate again.",
            )
        return range(self.output.rows) if rows is None else rows


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in `folder`; None where there is none, or a manifest.json of some other program.

    Raises InputError when it is damaged.
    """
    path = folder / NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and not value.keys() & {"output", "masked", "source_rows"}:
            return None
        return _parsed(value)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not the manifest of a mitigated set.", _AGAIN) from error


def manifest_of(data: Path, sha256: str) -> Manifest | None:
    """The manifest of the data set `data` with this digest; None where it has none.

    Raises InputError when the manifest beside it is damaged, or is about the file of this name as
    it was before it was changed: its masks and row numbers would then be those of other rows.
    """
    manifest = read_manifest(data.parent)
    if manifest is None or manifest.output.sha256 == sha256:
        return manifest
    if manifest.output.name != data.name:
        return None
    raise InputError(
        f"{data} was changed after {NAME} beside it was written.",
        f"Restore it, or remove {NAME} to take it for a data set of its own. {_AGAIN}",
    )


def _parsed(value: Any) -> Manifest:
    """Raises ValueError, LookupError, TypeError or AttributeError for what is no manifest."""
    origin, output = value["input"], value["output"]
    chain = tuple(map(str, value.get("chain") or [origin["sha256"]]))
    masked = {
        int(row): tuple((int(turn), int(start), int(end)) for turn, start, end in spans)
        for row, spans in value["masked"].items()
    }
    rows = int(output["rows"])
    source_rows, original_rows = (
        None if value.get(key) is None else [None if n is None else int(n) for n in value[key]]
        for key in ("source_rows", "original_rows")
    )
    for numbers in (source_rows, original_rows):
        if numbers is not None and len(numbers) != rows:
            raise ValueError("as many numbers as rows are needed")
    if not all(0 <= row < rows for row in masked):
        raise ValueError("a row that is not there is masked")
    return Manifest(
        output=FileOf(str(output["name"]), str(output["sha256"]), rows),
        input=FileOf(str(origin["name"]), str(origin["sha256"]), int(origin["rows"])),
        tool=str(value.get("tool", "")),
        key=str(value.get("key", "")),
        skipped=dict(origin.get("skipped", {})),
        broken_shards=tuple(Unread(**shard) for shard in origin.get("broken_shards", [])),
        shards=tuple(FileOf(**shard) for shard in output.get("shards", [])),
        format=str(value.get("format", "")),
        columns=dict(value.get("columns", {})),
        settings=dict(value.get("settings", {})),
        reference=value.get("reference"),
        writers=list(value.get("writers", [])),
        tokenizer_sha256=value.get("tokenizer_sha256"),
        template_sha256=value.get("template_sha256"),
        mitigations=tuple(Counts(**counts) for counts in value.get("mitigations", [])),
        masked_rows=int(value.get("masked_rows", len(masked))),
        emitted=dict(value.get("emitted", {})),
        recipes=tuple(value.get("recipes", [])),
        chain=chain,
        source_rows=source_rows,
        original_rows=original_rows,
        masked=masked,
    )
