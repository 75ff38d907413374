"""Rows that a program has at hand, and not in a file: what they are as one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from auditor.errors import InputError

_TAKEN = (
    "Give a path, a hub name, a list of dicts, a pandas DataFrame, an Arrow table or one split of "
    "a datasets.Dataset."
)


def as_jsonl(rows: object) -> bytes:
    """The rows as JSONL: the same rows give the same bytes.

    rows: an iterable of dicts, as a list or a `datasets.Dataset`, or a table that Arrow can read,
    as a pandas DataFrame, whose missing values become null. Raises InputError for anything else,
    for no rows, and for values that JSON cannot hold.
    """
    records: Any = rows
    if hasattr(rows, "__arrow_c_stream__"):
        records = pa.table(rows).to_pylist()
    # A mapping of splits is iterable too, but its names are no rows.
    if isinstance(records, Mapping | str | bytes) or not isinstance(records, Iterable):
        raise InputError(f"A value of type {type(rows).__name__} is no data set.", _TAKEN)
    lines = []
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise InputError(
                f"Row {number} is of type {type(record).__name__}, and no dict.", _TAKEN
            )
        try:
            lines.append(json.dumps(dict(record), allow_nan=False) + "\n")
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"Row {number} holds what JSON cannot: {error}.",
                "Keep text, numbers, lists and dicts, and leave other columns out.",
            ) from error
    if not lines:
        raise InputError("There are no rows.", "Give a data set with at least one row.")
    return "".join(lines).encode()
