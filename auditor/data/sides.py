"""Preference sets: which of two answers is read, or both as rows of their own.

The columns of a layout say which: the role "rejected" stands for both answers of a pair. Where a
row has one answer and a label, the roles "desirable" and "undesirable" stand for the rows with a
true and with a false one, and "label" for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from auditor.data.batches import BATCH_ROWS, Batch, Block, Row
from auditor.data.files import Source
from auditor.data.formats import PAIR, Layout, Side
from auditor.errors import InputError

_LABEL = "label"
_LABELS = {"chosen": "desirable", "rejected": "undesirable", "both": "label"}
# The role of the column that the answer of a pair may stand in.
_ANSWERS = {"prompt_completion": "completion", "messages": "messages", "text": "text"}
LABEL_ROLES = tuple(_LABELS.values())


def with_side(layout: Layout, heads: Mapping[str, Sequence[Row]], side: Side | None) -> Layout:
    """The layout for one side of a preference set: that of the chosen answers unless `side` says
    otherwise. Roles that the user named stay.

    Raises InputError where a side is asked for and there are none.
    """
    columns = dict(layout.columns)
    rows = [row for head in heads.values() for row in head if not isinstance(row, str)]
    if columns.keys() & {"rejected", *LABEL_ROLES}:
        return layout
    role = _ANSWERS.get(layout.format, "")
    if columns.get(role) in PAIR and all(any(name in row for row in rows) for name in PAIR):
        if side is not None:
            columns[role] = PAIR[side == "rejected"]
        if side == "both":
            columns["rejected"] = PAIR[1]
    elif layout.format == "prompt_completion" and _has_labels(rows):
        columns[_LABELS[side or "chosen"]] = _LABEL
    elif side is not None:
        raise InputError(
            f"--side {side}, but there are no two sides: a preference set has the columns chosen "
            "and rejected, or a completion with a label that is true or false.",
            "Leave --side out, or name the columns: --columns completion=NAME,rejected=NAME or "
            "desirable=NAME.",
        )
    return Layout(layout.format, columns)


def whole_rows(layout: Layout) -> Layout:
    """The layout in which every row of the files is one row again, and those of either label
    count: for what writes a data set.
    """
    roles = {role: "label" if role in LABEL_ROLES else role for role in layout.columns}
    kept = {roles[role]: name for role, name in layout.columns.items() if role != "rejected"}
    return Layout(layout.format, kept)


def with_both_sides(source: Source, layout: Layout) -> Source:
    """The data set with two rows for each pair, where the layout asks for both: row 2 i is the
    chosen answer of pair i, and row 2 i + 1 the rejected one.
    """
    if "rejected" not in layout.columns:
        return source
    chosen, rejected = layout.columns[_ANSWERS[layout.format]], layout.columns["rejected"]
    files = tuple(
        replace(file, blocks=tuple(_BothSides(block, chosen, rejected) for block in file.blocks))
        for file in source.files
    )
    total = None if source.total is None else 2 * source.total
    note = "; row 2 i is the chosen answer of pair i, row 2 i + 1 the rejected one"
    return replace(source, files=files, total=total, note=note + source.note)


def is_other_side(row: Mapping[str, object], layout: Layout) -> bool | None:
    """Whether its label puts a row on the side that is not read; None where it is no label."""
    for role, read in (("desirable", True), ("undesirable", False)):
        if role in layout.columns:
            label = _truth(row.get(layout.columns[role]))
            return None if label is None else label != read
    return False


def _truth(value: object) -> bool | None:
    """A label; CSV has it as text."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _has_labels(rows: Iterable[Mapping[str, object]]) -> bool:
    # A missing label is an empty cell in CSV.
    labels = [row[_LABEL] for row in rows if row.get(_LABEL) not in (None, "")]
    return bool(labels) and all(_truth(label) is not None for label in labels)


@dataclass(frozen=True)
class _BothSides:
    """A block of pairs as one of twice as many rows."""

    block: Block
    chosen: str
    rejected: str

    @property
    def rows(self) -> int | None:
        return None if self.block.rows is None else 2 * self.block.rows

    def batches(self, columns: Sequence[str] | None, size: int = BATCH_ROWS) -> Iterator[Batch]:
        for batch in self.block.batches(columns, size):
            yield _Pairs(batch, self.chosen, self.rejected)


@dataclass(frozen=True)
class _Pairs:
    batch: Batch
    chosen: str
    rejected: str

    def __len__(self) -> int:
        return 2 * len(self.batch)

    def take(self, positions: Sequence[int]) -> list[Row]:
        numbers = sorted({position // 2 for position in positions})
        pairs = dict(zip(numbers, self.batch.take(numbers), strict=True))
        return [self._side(pairs[position // 2], position % 2) for position in positions]

    def _side(self, pair: Row, rejected: int) -> Row:
        if isinstance(pair, str) or not rejected:
            return pair
        return {**pair, self.chosen: pair.get(self.rejected)}
