"""All rows of a data set on this machine, in order: what a mitigation reads and writes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from auditor.data.batches import Row
from auditor.data.example import SkippedRow
from auditor.data.fields import to_example
from auditor.data.files import Source, open_source
from auditor.data.formats import Layout, Side
from auditor.data.layout import layout_of
from auditor.data.parquet import ArrowBatch
from auditor.data.sides import whole_rows, with_both_sides


@dataclass(frozen=True)
class Rows:
    """An opened data set with its layout."""

    source: Source
    layout: Layout

    def batches(self, *, whole: bool = False) -> Iterator[list[Row]]:
        """Every row, in the batches in which `rewrite.rewrite` meets them, with the columns of the
        layout. whole: the other columns are read too, so that damage in them is met.
        """
        for block in self.source.blocks:
            for batch in block.batches(None if whole else self.layout.places):
                if isinstance(batch, ArrowBatch):
                    batch = batch.select(self.layout.places)
                yield batch.take(range(len(batch)))

    def scorable(self) -> Iterator[tuple[int, Mapping[str, object]]]:
        """(number, row) of those that `fields.to_example` accepts."""
        for index, row in enumerate(row for batch in self.batches() for row in batch):
            if not isinstance(row, str) and why_not(row, self.layout) is None:
                yield index, row


@contextmanager
def read_rows(
    source: str,
    *,
    format_of: str | None,
    columns: Mapping[str, str] | None,
    side: Side | None = None,
    to_write: bool = False,
    skips_broken: bool = False,
) -> Iterator[Rows]:
    """Open the data set `source`. side: see `find_layout`. to_write: rows are those of the files
    (`sides.whole_rows`), as `rewrite.rewrite` meets them. skips_broken: see `open_source`.

    Raises InputError as `sample.read_sample` does.
    """
    with open_source(source, rows=None, skips_broken=skips_broken) as data:
        layout = layout_of(data, format_of, columns, side)
        if to_write:
            yield Rows(data, whole_rows(layout))
        else:
            yield Rows(with_both_sides(data, layout), layout)


def why_not(row: Row, layout: Layout) -> str | None:
    """The reason why a row cannot be scored, or None."""
    outcome = to_example(0, row, layout)
    return outcome.reason if isinstance(outcome, SkippedRow) else None
