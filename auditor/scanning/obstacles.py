"""What forbids a pass whatever the traits are: no entry of a policy excuses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from auditor.data.coverage import RENDERED_KEYS, Unread
from auditor.data.formats import LOSS_KEYS
from auditor.inference.thresholds import MAX_UNREAD

ObstacleKind = Literal[
    "unread rows",
    "unread file",
    "second layout",
    "unread turn key",
    "no test",
    "test not made",
    "too few rows",
    "misfit",
    "another writer",
]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason against a pass that is no trait's.

    kind: for programs. reason: for people; may hold names from outside. share: of the rows (of the
    bytes for a file) that it is about, in [0, 1]; None where it has none.
    """

    kind: ObstacleKind
    reason: str
    share: float | None = None


def coverage_obstacles(
    unread: Sequence[Unread], lost: float, limit: float = MAX_UNREAD
) -> Iterator[Obstacle]:
    """The obstacles in what was not read of a data set.

    lost: the share of the rows that could not be used (`auditor.scanning.verdict.lost_share`).
    limit: the share of the rows that may be unread.

    Rows that were lost and rows and bytes of `unread` count together, so that a little of each kind
    is not let through; a share that cannot be said counts as above the limit. A data file and a
    second layout are obstacles of any size, since a trainer may read just these. A key of a turn is
    one if chat templates write it, or if it takes turns out of training. Other columns and keys are
    told to the reader, and are none.
    """
    rows = [item for item in unread if item.kind in ("rows", "bytes")]
    total = min(1.0, lost + sum(item.share or 0.0 for item in rows))
    unknown = any(item.share is None for item in rows)
    if total > limit or unknown:
        shares = [f"{100 * lost:.1f} % had to be skipped"] if lost else []
        shares += [item.text for item in rows]
        size = f"{'at least ' if unknown else ''}{100 * total:.1f} %"
        reason = f"{size} of the rows were not read ({'; '.join(shares)})"
        yield Obstacle("unread rows", reason, None if unknown else total)
    for item in unread:
        if item.kind == "file":
            yield Obstacle("unread file", f"a data file was not read: {item.text}", item.share)
        elif item.kind == "layout":
            reason = f"there is a second complete layout, {item.text}; name one with --columns"
            yield Obstacle("second layout", reason, item.share)
        elif (
            item.kind == "turn key"
            and item.name in RENDERED_KEYS | {*LOSS_KEYS}
            and (item.share is None or item.share > limit)
        ):
            reason = f"students may be trained on what was not read: {item.text}"
            yield Obstacle("unread turn key", reason, item.share)
