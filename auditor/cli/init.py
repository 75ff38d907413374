"""`audit init`: a file of settings to begin with."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from typer import echo

from auditor.errors import AuditError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

HEAD = """\
Settings of audit in this directory, and its policy for releases; docs/gate.md has their meaning in
full. A line after "#" shows a default: take the "#" away to change it. The environment and options
go before this file. `audit config show` prints what is in force.
"""


def init() -> int:
    """Write audit.yaml, with every setting at its default and what it means.

    A file that is there is never written over.

    Exit codes: 0 written; 2 there are settings already, here or in pyproject.toml.
    """
    from auditor.cli.configuration import FILE, settings_file

    path = Path.cwd() / FILE
    name, content = settings_file(Path.cwd())
    if content is not None:
        raise AuditError(
            f"{name} holds settings already.", "Change it, or see them with: audit config show"
        )
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(template())
    except OSError as error:
        raise AuditError(
            f"{FILE} cannot be written: {error.strerror or error}.", "Run in another directory."
        ) from error
    echo(f"{FILE} written. Nothing is changed by it as it is; see docs/gate.md.")
    return 0


def template() -> str:
    """The text of a new audit.yaml: YAML with and without the marks before its settings."""
    from auditor.cli.configuration import GROUPS, Config

    settings = {key: field for key, field in Config.model_fields.items() if key not in GROUPS}
    lines = [*_comment(HEAD), "", *_setting_lines(settings)]
    for group, model in GROUPS.items():
        lines += [f"{group}:", *_setting_lines(model.model_fields, "  ", first="  ")]
    return "\n".join(lines).rstrip() + "\n"


def _setting_lines(
    fields: Mapping[str, FieldInfo], indent: str = "", *, first: str | None = None
) -> Iterator[str]:
    """Lines of settings at their defaults, each with its meaning and a mark before it.

    first: what stands before the first key in place of the mark. Of a group one key is set, so that
    the others need no more than their own mark removed.
    """
    for number, (key, field) in enumerate(fields.items()):
        yield from _comment(field.description or "", indent)
        mark = f"{indent}# " if number or first is None else first
        # JSON is YAML, and has one line for every value.
        yield f"{mark}{key}: {json.dumps(field.get_default(call_default_factory=True))}"
        yield ""


def _comment(text: str, indent: str = "") -> list[str]:
    start = f"{indent}## "
    return textwrap.wrap(" ".join(text.split()), 98, initial_indent=start, subsequent_indent=start)
