"""Find out, from the first rows, which format a data set has and which column is what; or check
what the user says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from auditor.data.batches import Row
from auditor.data.example import SkippedRow
from auditor.data.formats import FORMATS, Layout, is_turns, parsed_turns, to_example
from auditor.errors import InputError

_REQUIRED = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}
_OPTIONAL: dict[str, dict[str, tuple[str, ...]]] = {
    "sharegpt": {"system": ("system",)},
    "alpaca": {"input": ("input", "context"), "system": ("system",), "history": ("history",)},
    "prompt_completion": {"system": ("system", "system_prompt")},
}
_NAMES, _NAME_CHARS = 30, 60  # of columns, in an error
_TURNS = ("messages", "conversations", "conversation")
_PROMPTS = ("prompt", "question", "instruction", "input", "query")
# The chosen answer of a preference pair is what a student would be trained on.
_COMPLETIONS = ("completion", "response", "answer", "output", "chosen")
_OPTION = (
    "Name them with --columns prompt=NAME,completion=NAME, or name the format with --format-of NAME"
)


def find_layout(
    heads: Mapping[str, Sequence[Row]], format_of: str | None, columns: Mapping[str, str] | None
) -> Layout:
    """Return the one layout of all files. heads: file name -> its first rows; files without a
    readable row are passed.

    Raises InputError, with the columns that exist, if no format fits, several do, a named column is
    missing, the format or a role is unknown, the values do not fit the format, or the files differ.
    """
    _check_names(format_of, columns or {})
    layouts = {
        name: _file_layout(name, rows, format_of, columns or {})
        for name, head in heads.items()
        if (rows := [row for row in head if not isinstance(row, str)])
    }
    if not layouts:
        found = ", ".join(
            sorted({row for head in heads.values() for row in head if isinstance(row, str)})
        )
        name = next(iter(heads))
        raise InputError(
            f"None of the first rows of {name} can be read ({found}).",
            "Is it the type its name says?",
        )
    merged = _merged(layouts)
    for name in layouts:
        _check_values(name, heads[name], merged)
    return merged


def _check_names(format_of: str | None, columns: Mapping[str, str]) -> None:
    if format_of is not None and format_of not in FORMATS:
        raise InputError(
            f"Unknown format {format_of!r}.", f"--format-of takes one of: {', '.join(FORMATS)}."
        )
    if columns and not _formats_for(format_of, columns):
        known = "; ".join(f"{name}: {', '.join(_roles(name))}" for name in FORMATS)
        where = f"the format {format_of}" if format_of else "any one format"
        raise InputError(
            f"The columns {', '.join(columns)} are not roles of {where}.", f"Roles: {known}."
        )


def _roles(name: str) -> tuple[str, ...]:
    return (*_REQUIRED[name], *_OPTIONAL.get(name, {}))


def _formats_for(format_of: str | None, columns: Mapping[str, str]) -> list[str]:
    """Return the formats to try: those that know every role the user named."""
    return [
        name
        for name in ([format_of] if format_of else FORMATS)
        if set(columns) <= set(_roles(name))
    ]


def _file_layout(
    name: str, rows: Sequence[Mapping[str, Any]], format_of: str | None, columns: Mapping[str, str]
) -> Layout:
    names = list(dict.fromkeys(key for row in rows for key in row))
    unknown = [column for column in columns.values() if column not in names]
    if unknown:
        raise InputError(
            f"{name} has no column {unknown[0]!r}.", f"It has: {_listed(names)}. {_OPTION}."
        )
    formats = _formats_for(format_of, columns)
    for format_name in sorted(formats, key=_precedence):
        required = _required(format_name, rows, names, columns, forced=format_of is not None)
        if required is not None:
            return Layout(format_name, required | _optional(format_name, names, required, columns))
    asked = f"the format {format_of}" if format_of else "a known format"
    raise InputError(
        f"The columns of {name} do not fit {asked}: {_listed(names)}.",
        f"{_OPTION} ({', '.join(FORMATS)}).",
    )


def _precedence(format_name: str) -> int:
    # The most specific first: a data set that also spells its conversation out as a prompt is still
    # a conversation.
    return ("messages", "sharegpt", "alpaca", "prompt_completion", "text").index(format_name)


def _required(
    format_name: str,
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    columns: Mapping[str, str],
    *,
    forced: bool,
) -> dict[str, str] | None:
    """Return role -> column for the roles the format cannot do without, or None if it does not fit."""
    exact = {role: columns.get(role, role) for role in _REQUIRED[format_name]}
    if format_name in ("messages", "sharegpt"):
        role = _REQUIRED[format_name][0]
        candidates = [columns[role]] if role in columns else _turn_columns(names)
        return next(
            ({role: name} for name in candidates if forced or _style(rows, name) == format_name),
            None,
        )
    if all(column in names for column in exact.values()):
        return exact
    if (
        format_name == "alpaca"
        and exact["instruction"] in names
        and {"input", "context"} & set(names)
    ):
        return (
            exact | {"output": "response"}
            if "response" in names and "output" not in columns
            else None
        )
    if format_name == "prompt_completion":
        return _prompt_completion(names, columns)
    # A preference pair of plain texts without a prompt.
    return (
        {"text": "chosen"} if format_name == "text" and "chosen" in names and not columns else None
    )


def _prompt_completion(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str] | None:
    taken = set(columns.values())
    prompts = (
        [columns["prompt"]]
        if "prompt" in columns
        else [n for n in _PROMPTS if n in names and n not in taken]
    )
    completions = (
        [columns["completion"]]
        if "completion" in columns
        else [n for n in _COMPLETIONS if n in names and n not in taken]
    )
    if len(prompts) == len(completions) == 1:
        return {"prompt": prompts[0], "completion": completions[0]}
    if prompts and completions:
        raise InputError(
            f"Several columns could be the prompt ({_listed(prompts)}) or the completion ({_listed(completions)}).",
            f"{_OPTION}.",
        )
    return None


def _turn_columns(names: Sequence[str]) -> list[str]:
    # "chosen" is a whole conversation only where no prompt stands beside it.
    chosen = ["chosen"] if not any(name in names for name in _PROMPTS) else []
    return [name for name in (*_TURNS, *chosen) if name in names]


def _style(rows: Iterable[Mapping[str, Any]], column: str) -> str | None:
    """Return "messages" or "sharegpt" by the keys of the first turn found in `column`, None if it
    holds no turns.
    """
    for row in rows:
        turns = parsed_turns(row.get(column))
        if is_turns(turns) and turns and isinstance(turns[0], Mapping):
            return "sharegpt" if "from" in turns[0] else "messages"
    return None


def _optional(
    format_name: str, names: Sequence[str], required: Mapping[str, str], columns: Mapping[str, str]
) -> dict[str, str]:
    found = {}
    for role, aliases in _OPTIONAL.get(format_name, {}).items():
        candidates = (
            [columns[role]] if role in columns else [name for name in aliases if name in names]
        )
        free = [name for name in candidates if name not in required.values()]
        if free:
            found[role] = free[0]
    return found


def _merged(layouts: Mapping[str, Layout]) -> Layout:
    """Return the layout that all files share; some may lack optional columns.

    Raises InputError if they differ.
    """
    first_name, first = next(iter(layouts.items()))
    columns = dict(first.columns)
    for name, layout in layouts.items():
        same = all(
            columns.setdefault(role, column) == column for role, column in layout.columns.items()
        )
        if layout.format != first.format or not same:
            raise InputError(
                f"The files differ in format: {first_name} is {_told(first)}, {name} is {_told(layout)}.",
                "Audit them one by one, or name the columns they share with --columns.",
            )
    return Layout(first.format, columns)


def _check_values(name: str, head: Sequence[Row], layout: Layout) -> None:
    outcomes = [to_example(i, row, layout) for i, row in enumerate(head)]
    if all(
        isinstance(outcome, SkippedRow) and outcome.reason == "wrong_type" for outcome in outcomes
    ):
        names = list(dict.fromkeys(key for row in head if not isinstance(row, str) for key in row))
        raise InputError(
            f"{name} does not fit the format {_told(layout)}: the values are not text or messages of that kind.",
            f"It has the columns: {_listed(names)}. {_OPTION} ({', '.join(FORMATS)}).",
        )


def _told(layout: Layout) -> str:
    return f"{layout.format} ({', '.join(layout.columns.values())})"


def _listed(names: Sequence[str]) -> str:
    shown = [
        name if len(name) <= _NAME_CHARS else f"{name[:_NAME_CHARS]}…" for name in names[:_NAMES]
    ]
    return ", ".join(shown) + (f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else "")
