"""What the values of options mean: every text of the command line that is more than a name is read
here, before anything slow begins.

Each function raises AuditError, with the way to write it, for a text that means nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from typer import BadParameter

from auditor.errors import AuditError
from auditor.report.scan import FORMATS, load
from auditor.scanning.settings import Rows

STDOUT = "-"
# The format that the suffix of a path stands for, where no format is named.
SUFFIXES = {
    ".csv": "csv",
    ".html": "html",
    ".json": "json",
    ".md": "markdown",
    ".sarif": "sarif",
    ".svg": "svg",
    ".xml": "junit",
}

T = TypeVar("T", bound=str)


def parse_rows(value: str | None) -> Rows | None:
    """`--rows`: a number of rows, "all" or "auto"; None is not given."""
    match value:
        case None:
            return None
        case "all":
            return "all"
        case "auto":
            return "auto"
    # isdigit alone also takes "²", which int does not.
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise AuditError(
            f"--rows {value!r} is neither a positive number nor all.",
            "Write --rows 400 or --rows all.",
        )
    return int(value)


def parse_columns(value: str) -> dict[str, str]:
    """`prompt=question,completion=answer` as {role: column}."""
    columns: dict[str, str] = {}
    for item in _items([value]):
        role, _, column = item.partition("=")
        if not role or not column or role in columns:
            raise AuditError(
                f"--columns {value!r} is not ROLE=COLUMN,...",
                "Write --columns prompt=A,completion=B.",
            )
        columns[role] = column
    return columns


def parse_share(value: str | float) -> float:
    """A share as `0.5` or `50%`; its range is checked where it is used."""
    text = str(value).strip()
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise BadParameter(f"{text!r} is not a share: write 0.5 or 50%.") from error


def check_device(value: str | None) -> str | None:
    """`--device`: whether it is here is known to torch, but a wrong name needs no import."""
    if value is not None and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", value):
        raise AuditError(
            f"There is no device {value!r}.", "Give --device cpu, cuda or mps, or leave it out."
        )
    return value


BUDGET = r"(\d+(?:\.\d+)?)([smh])"


def parse_budget(value: str | None) -> float | None:
    """`90s`, `15m` or `2h` in seconds; None stays None."""
    if value is None:
        return None
    match = re.fullmatch(BUDGET, value)
    if match is None or float(match[1]) == 0:
        raise AuditError(f"--budget {value!r} is not a time.", "Write --budget 90s, 15m or 2h.")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def parse_layers(value: str | None) -> tuple[int, ...] | None:
    """`0,7` as numbers, ascending and without repeats; None stays None."""
    if value is None:
        return None
    if not re.fullmatch(r"\d+(,\d+)*", value):
        raise AuditError(
            f"--layers {value!r} are not numbers.", "Write --layers 0 or --layers 0,7."
        )
    return tuple(sorted({int(number) for number in value.split(",")}))


def choose(option: str, values: Sequence[str], allowed: Sequence[T]) -> list[T]:
    """The values of a repeatable option, without repeats, in the order of those that are
    allowed.
    """
    if unknown := [value for value in values if value not in allowed]:
        raise AuditError(f"{option} {unknown[0]!r} is not known.", f"Known: {', '.join(allowed)}.")
    return [name for name in allowed if name in values]


def choose_detectors(
    only: Sequence[str] = (), without: Sequence[str] = (), *, tuned: bool
) -> tuple[str, ...]:
    """Names of the detectors to run: ours in the order of the registry, then those of other
    packages, if asked for.

    only, without: names, or several with commas between. tuned: also the one of that name.
    """
    from auditor.plugins import names
    from detectors import DEFAULT, DETECTORS

    only, without = _items(only), _items(without)
    for name in (*only, *without):
        if name not in DETECTORS and name not in names("detector"):
            available = ", ".join([*DETECTORS, *names("detector")])
            raise AuditError(f"There is no detector {name!r}.", f"Known: {available}.")
    requested = {*(only or DEFAULT), *(["tuned"] if tuned else [])} - {*without}
    selected = tuple(name for name in dict.fromkeys([*DETECTORS, *only]) if name in requested)
    if not selected:
        raise AuditError(
            "No detector is left to run.", "Name one in --detectors, or fewer in --without."
        )
    return selected


def _items(values: Sequence[str]) -> list[str]:
    parts = (part.strip() for value in values for part in value.split(","))
    return [part for part in parts if part]


@dataclass(frozen=True, slots=True)
class Target:
    """One report of a scan to write. `path` "-" is standard output."""

    format: str
    path: str

    def existing_text(self) -> str | None:
        """What a file holds that the report is to go into, line ends as they are; None where it is
        written anew.
        """
        path = Path(self.path)
        if self.path == STDOUT or load(self.format).update is None or not path.exists():
            return None
        try:
            # Not read_text: it would turn \r\n into \n, and every line of the file would change.
            return path.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise AuditError(
                f"{path} cannot be read as text.", "Mend it, or name a new file."
            ) from error


def _format_and_path(value: str, formats: Sequence[str]) -> tuple[str, str]:
    """The two parts of `FORMAT=PATH`; of a path alone, the format of `formats` by its suffix. An
    empty path stands for neither.
    """
    name, _, path = value.partition("=")
    if "=" not in value and SUFFIXES.get(Path(value).suffix.lower()) in formats:
        return SUFFIXES[Path(value).suffix.lower()], value
    return name, path


def parse_targets(values: Sequence[str]) -> tuple[Target, ...]:
    """`FORMAT=PATH` values of a scan. It takes minutes, so whatever can be wrong with them is found
    before it: the format, the path, and two reports for standard output.
    """
    targets = []
    for value in values:
        name, path = _format_and_path(value, FORMATS)
        if not path:
            raise AuditError(
                f"--output {value!r} is not FORMAT=PATH.",
                "Write for example --output html=report.html or --output report.html; formats: "
                f"{', '.join(FORMATS)}.",
            )
        if name not in FORMATS:
            raise AuditError(f"Unknown report format {name!r}.", f"Known: {', '.join(FORMATS)}.")
        if path != STDOUT and not Path(path).parent.is_dir():
            raise AuditError(
                f"There is no directory {Path(path).parent} for the report.",
                "Create it, or choose another.",
            )
        if Path(path).is_dir() or (path != STDOUT and not os.access(Path(path).parent, os.W_OK)):
            raise AuditError(
                f"{path} cannot be written.", "Name a file in a directory that you may write to."
            )
        target = Target(name, path)
        check = load(name).check
        if check is not None:
            check(target.existing_text())
        targets.append(target)
    if sum(target.path == STDOUT for target in targets) > 1:
        raise AuditError(
            "Two reports cannot both go to standard output.", "Give all but one of them a path."
        )
    return tuple(targets)


def parse_file(
    value: str, formats: Sequence[str], example: str = "report.json"
) -> tuple[str, Path]:
    """`FORMAT=PATH` of a command whose reports are files, and only in `formats`: the format and the
    path, in a directory that exists.
    """
    name, path = _format_and_path(value, formats)
    if name not in formats or not path:
        relation = "none of" if len(formats) > 1 else "not"
        allowed = ", ".join(f"{name}=PATH" for name in formats)
        raise AuditError(
            f"--output {value!r} is {relation} {allowed}.", f"Write --output json={example}."
        )
    if not Path(path).parent.is_dir() or Path(path).is_dir():
        raise AuditError(f"{path} cannot be written.", "Name a file in a directory that exists.")
    return name, Path(path)
