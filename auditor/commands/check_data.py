"""The verb `check-data`: what a scan would read of a data set, without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from auditor.data.batches import Row
from auditor.data.beside import unread_of
from auditor.data.coverage import Unread
from auditor.data.dataset import Rows
from auditor.data.distinct import digest_of_example
from auditor.data.example import Example, SkippedRow
from auditor.data.fields import to_example
from auditor.data.files import open_source
from auditor.data.formats import Side
from auditor.data.layout import find_layout, heads_of
from auditor.data.sides import with_both_sides
from auditor.scanning.obstacles import Obstacle, coverage_obstacles
from auditor.scanning.settings import AUTO_ROWS
from auditor.scanning.verdict import lost_share


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What can be scored of a data set, as far as that can be said without a reference.

    name, format, columns, sha256: as in `auditor.data.example.DatasetInfo`; sha256 is "" for a hub
    data set. note: what else is to be said of how it was read, or "". files: how many hold the
    rows. rows: how many were read. skipped: rows that cannot be scored by reason, "duplicate" among
    them. by_template: the keys and columns with reasoning and tool calls, with the share of the
    rows that have them: they are scored where the reference's chat template writes them. unread:
    what a trainer may read and a scan does not. obstacles: what of all this makes every scan
    inconclusive.
    """

    name: str
    format: str
    columns: dict[str, str]
    sha256: str
    note: str
    files: int
    rows: int
    skipped: dict[str, int]
    by_template: dict[str, float]
    unread: tuple[Unread, ...]
    obstacles: tuple[Obstacle, ...]

    @property
    def scorable(self) -> int:
        """How many rows can be scored."""
        return self.rows - sum(self.skipped.values())


def check_data(
    source: str,
    *,
    format_of: str | None = None,
    columns: Mapping[str, str] | None = None,
    side: Side | None = None,
) -> DataCheck:
    """Read the whole data set `source` once (of a hub data set its beginning) and say what a scan
    would score of it. Rows are not kept: 16 bytes a row tell copies.

    Raises InputError as `auditor.data.sample.read_sample` does.
    """
    skipped, by_template, seen, count = Counter[str](), Counter[str](), set[bytes](), 0
    # How many rows are wanted matters for a hub data set only: it is cut there.
    with open_source(source, rows=AUTO_ROWS) as data:
        heads = heads_of(data)
        layout = find_layout(heads, format_of, columns, side)
        data = with_both_sides(data, layout)

        def counted() -> Iterator[Row]:
            nonlocal count
            for row in chain.from_iterable(Rows(data, layout).batches()):
                outcome = to_example(count, row, layout)
                count += 1
                if isinstance(outcome, Example):
                    by_template.update({key for m in outcome.messages for key in m.more_keys})
                if isinstance(outcome, SkippedRow):
                    skipped[outcome.reason] += 1
                elif (digest := digest_of_example(outcome)) in seen:
                    skipped["duplicate"] += 1
                else:
                    seen.add(digest)
                yield row

        unread = (
            *data.unread,
            *unread_of(
                [chain.from_iterable(heads.values()), counted()],
                layout,
                settled=format_of is not None or bool(columns),
                side=side,
            ),
        )
        name, sha256, note = data.name, data.sha256 or "", data.note
        files = len(data.files)
    reasons = dict(skipped.most_common())
    obstacles = coverage_obstacles(unread, lost_share(reasons, count))
    return DataCheck(
        name,
        layout.format,
        layout.columns,
        sha256,
        note.lstrip("; "),
        files,
        count,
        reasons,
        {key: rows / count for key, rows in sorted(by_template.items())},
        unread,
        tuple(obstacles),
    )
