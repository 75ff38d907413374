"""Find out, from the first rows, which format a data set has and which column is what; or check
what the user says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from auditor.data.batches import Row
from auditor.data.example import SkippedRow
from auditor.data.fields import to_example
from auditor.data.files import Source
from auditor.data.formats import (
    COMPLETIONS,
    FORMATS,
    PROMPTS,
    REASONING,
    Layout,
    Side,
    is_turns,
    parsed_turns,
)
from auditor.data.sides import LABEL_ROLES, with_side
from auditor.errors import InputError

# The roles that a format cannot do without; the most specific format comes first.
_REQUIRED = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}
# "weight" is a key of a turn and not a column; only the user can say that the trainer heeds it.
_OPTIONAL: dict[str, dict[str, tuple[str, ...]]] = {
    "messages": {"tools": ("tools",), "weight": (), "rejected": ()},
    "sharegpt": {"system": ("system",), "tools": ("tools",), "weight": ()},
    "alpaca": {
        "input": ("input", "context"),
        "system": ("system",),
        "history": ("history",),
        "reasoning": REASONING,
    },
    "prompt_completion": {
        "system": ("system", "system_prompt"),
        "reasoning": REASONING,
        "tools": ("tools",),
        "weight": (),
        "rejected": (),
        **dict.fromkeys(LABEL_ROLES, ()),
    },
    "text": {"rejected": ()},
}
# The most columns, and characters of each, that an error lists.
_NAMES, _NAME_CHARS = 30, 60
_TURNS = ("messages", "conversations", "conversation")
_MIXED = (
    "Put the files of each format into a folder of their own and audit each folder, or write all "
    "rows as messages (a list of role and content), as trainers want them."
)
_OPTION = (
    "Name them with --columns prompt=NAME,completion=NAME, or name the format with --format-of NAME"
)


def layout_of(
    source: Source,
    format_of: str | None,
    columns: Mapping[str, str] | None,
    side: Side | None = None,
) -> Layout:
    """The layout of an opened data set. Raises InputError as `find_layout`, and for no rows."""
    return find_layout(heads_of(source), format_of, columns, side)


def heads_of(source: Source) -> dict[str, list[Row]]:
    """The first rows of every file that has any. Raises InputError for no rows."""
    heads = {file.name: head for file in source.files if (head := file.head())}
    if not heads:
        raise InputError(f"{source.name} has no rows.", "Give a data set with at least one row.")
    return heads


def find_layout(
    heads: Mapping[str, Sequence[Row]],
    format_of: str | None,
    columns: Mapping[str, str] | None,
    side: Side | None = None,
) -> Layout:
    """Return the one layout of all files. heads: file name -> its first rows; files without a
    readable row are passed. side: of a preference set; None is the chosen one.

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
        reasons = sorted({row for head in heads.values() for row in head if isinstance(row, str)})
        name = next(iter(heads))
        raise InputError(
            f"None of the first rows of {name} can be read ({', '.join(reasons)}).",
            "Is it the type its name says?",
        )
    merged = with_side(_merged(layouts), heads, side)
    for name in layouts:
        _check_values(name, heads[name], merged)
    return merged


def _check_names(format_of: str | None, columns: Mapping[str, str]) -> None:
    if format_of is not None and format_of not in FORMATS:
        raise InputError(
            f"Unknown format {format_of!r}.", f"--format-of takes one of: {', '.join(FORMATS)}."
        )
    if columns and not _formats_for(format_of, columns):
        roles = "; ".join(f"{name}: {', '.join(_roles(name))}" for name in FORMATS)
        where = f"the format {format_of}" if format_of else "any one format"
        raise InputError(
            f"The columns {', '.join(columns)} are not roles of {where}.", f"Roles: {roles}."
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
    name: str,
    rows: Sequence[Mapping[str, object]],
    format_of: str | None,
    columns: Mapping[str, str],
) -> Layout:
    names = list(dict.fromkeys(key for row in rows for key in row))
    named = [column for role, column in columns.items() if role != "weight"]
    unknown = [column for column in named if column not in names]
    if unknown:
        raise InputError(
            f"{name} has no column {unknown[0]!r}.", f"It has: {_listed(names)}. {_OPTION}."
        )
    formats = _formats_for(format_of, columns)
    # The most specific first: a data set that also spells its conversation out as a prompt is still
    # a conversation.
    for format_name in (name for name in _REQUIRED if name in formats):
        required = _required(format_name, rows, names, columns, forced=format_of is not None)
        if required is not None:
            return Layout(format_name, required | _optional(format_name, names, required, columns))
    target = f"the format {format_of}" if format_of else "a known format"
    hint = f"{_OPTION} ({', '.join(FORMATS)})."
    if name.lower().endswith((".txt", ".md")):
        # What is not JSON is read as a table, and its first line as the names of the columns.
        hint = f'Of plain text, write a JSON object a line: {{"text": "..."}}. {hint}'
    raise InputError(f"The columns of {name} do not fit {target}: {_listed(names)}.", hint)


def _required(
    format_name: str,
    rows: Sequence[Mapping[str, object]],
    names: Sequence[str],
    columns: Mapping[str, str],
    *,
    forced: bool,
) -> dict[str, str] | None:
    """The column of each role that the format cannot do without, or None if it does not fit."""
    exact = {role: columns.get(role, role) for role in _REQUIRED[format_name]}
    if format_name in ("messages", "sharegpt"):
        role = _REQUIRED[format_name][0]
        # "chosen" holds all turns of a conversation only where no prompt stands beside it.
        preference = ["chosen"] if not any(name in names for name in PROMPTS) else []
        candidates = [name for name in (*_TURNS, *preference) if name in names]
        for name in [columns[role]] if role in columns else candidates:
            if forced or _style(rows, name) == format_name:
                return {role: name}
        return None
    if all(column in names for column in exact.values()):
        return exact
    if (
        format_name == "alpaca"
        and exact["instruction"] in names
        and {"input", "context"} & set(names)
    ):
        fits = "response" in names and "output" not in columns
        return exact | {"output": "response"} if fits else None
    if format_name == "prompt_completion":
        return _prompt_completion(names, columns)
    # A preference pair of plain texts without a prompt.
    fits = format_name == "text" and "chosen" in names and not columns
    return {"text": "chosen"} if fits else None


def _prompt_completion(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str] | None:
    free = [name for name in names if name not in columns.values()]
    prompts = [name for name in PROMPTS if name in free]
    completions = [name for name in COMPLETIONS if name in free]
    if "prompt" in columns:
        prompts = [columns["prompt"]]
    if "completion" in columns:
        completions = [columns["completion"]]
    if len(prompts) == len(completions) == 1:
        return {"prompt": prompts[0], "completion": completions[0]}
    if prompts and completions:
        raise InputError(
            f"Several columns could be the prompt ({_listed(prompts)}) or the completion "
            f"({_listed(completions)}).",
            f"{_OPTION}.",
        )
    return None


def _style(rows: Iterable[Mapping[str, object]], column: str) -> str | None:
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
    optional = {}
    for role, aliases in _OPTIONAL.get(format_name, {}).items():
        candidates = (
            [columns[role]] if role in columns else [name for name in aliases if name in names]
        )
        free = [name for name in candidates if name not in required.values()]
        if free:
            optional[role] = free[0]
    return optional


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
                f"The files differ in format: {first_name} is {_described(first)}, "
                f"{name} is {_described(layout)}.",
                _MIXED
                if layout.format != first.format
                else "Audit them one by one, or name the columns they share with --columns.",
            )
    return Layout(first.format, columns)


def _check_values(name: str, head: Sequence[Row], layout: Layout) -> None:
    outcomes = [to_example(i, row, layout) for i, row in enumerate(head)]
    if all(
        isinstance(outcome, SkippedRow) and outcome.reason == "wrong_type" for outcome in outcomes
    ):
        names = list(dict.fromkeys(key for row in head if not isinstance(row, str) for key in row))
        raise InputError(
            f"{name} does not fit the format {_described(layout)}: the values are not text or "
            "messages of that kind.",
            f"It has the columns: {_listed(names)}. {_OPTION} ({', '.join(FORMATS)}).",
        )


def _described(layout: Layout) -> str:
    return f"{layout.format} ({', '.join(layout.columns.values())})"


def _listed(names: Sequence[str]) -> str:
    shown = [
        name if len(name) <= _NAME_CHARS else f"{name[:_NAME_CHARS]}…" for name in names[:_NAMES]
    ]
    return ", ".join(shown) + (f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else "")
