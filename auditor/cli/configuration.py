"""Settings that a team fixes for a repository, and its policy for releases: where they come from
and what they may be.

They are read from `audit.yaml`, or from `[tool.audit]` of `pyproject.toml`, in the working
directory. The environment (`AUDIT_ROWS`, `AUDIT_POLICY_MAX_SKIPPED`, ...) goes before the file and
the command line before both.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from auditor.errors import AuditError
from auditor.model.builtin import BASE
from auditor.release.policy import Policy, Text, Texts, _Keys

FILE = "audit.yaml"
PROJECT = "pyproject.toml"
DEFAULT = "default"
GIVEN = "command line"
PREFIX = "AUDIT_"
NOT_SETTINGS = {"AUDIT_DEBUG"}


class Config(_Keys):
    """Settings of a scan, and the policy."""

    reference: Text = BASE
    """Base model of the students: built-in, hub name or folder."""

    panels: Texts = ["default"]
    """Trait panels: built-in names or YAML files."""

    rows: Annotated[int, Field(gt=0)] | Literal["all", "auto"] = "auto"
    """Rows to score at most, `all`, or `auto`: what ten minutes allow."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every random choice."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Highest rate of false alarms."""

    dtype: Literal["float32", "bfloat16"] | None = None
    """Number type of the reference; by device, when it is not set."""

    policy: Policy = Policy()


@dataclass(frozen=True, slots=True)
class Resolved:
    """The configuration, and where each key that is not at its default comes from (a file, a
    variable, the command).
    """

    config: Config
    origins: dict[str, str]


def keys() -> dict[str, str]:
    """Every key, as `policy.max_risk`, with its meaning."""
    own = {
        name: field.description or ""
        for name, field in Config.model_fields.items()
        if name != "policy"
    }
    return own | {
        f"policy.{name}": field.description or "" for name, field in Policy.model_fields.items()
    }


def variable(key: str) -> str:
    """The environment variable of a key."""
    return PREFIX + key.upper().replace(".", "_")


def resolve(
    root: Path, environ: Mapping[str, str], given: Mapping[str, Any] | None = None
) -> Resolved:
    """The configuration in `root`: `given` (by key; None is not given), then `environ`, then the
    file, then defaults.

    An empty variable counts as not set. Raises AuditError, naming the key and where it stands, for
    a key that does not exist (with the nearest one that does), a value that is not allowed, a file
    that cannot be read, and two files.
    """
    name, content = _file(root)
    layers = [(name, _checked(content, name, strict=True))]
    layers += [
        _from_variable(key, value) for key, value in environ.items() if _is_setting(key) and value
    ]
    chosen = {key: value for key, value in (given or {}).items() if value is not None}
    layers.append((GIVEN, _checked(_nested(chosen), GIVEN)))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in layers:
        for key, value in _flat(values):
            merged[key], origins[key] = value, origin
    return Resolved(Config(**_nested(merged)), origins)


def _is_setting(variable_name: str) -> bool:
    return variable_name.startswith(PREFIX) and variable_name not in NOT_SETTINGS


def _from_variable(name: str, value: str) -> tuple[str, dict[str, Any]]:
    known = {variable(key): key for key in keys()}
    if name not in known:
        raise AuditError(
            f"There is no setting for the variable {name}.",
            f"{_nearest(name, list(known))} Or unset it.",
        )
    return name, _checked(_nested({known[name]: value}), name)


def _file(root: Path) -> tuple[str, Mapping[str, Any]]:
    """Name and content of the file with settings; without one, the name of the first and nothing."""
    own, project = root / FILE, root / PROJECT
    try:
        in_project = _section(project) if project.exists() else None
        if not own.exists():
            return (f"{PROJECT} [tool.audit]", in_project) if in_project is not None else (FILE, {})
        content = yaml.safe_load(own.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError, tomllib.TOMLDecodeError) as error:
        reason = " ".join(str(error).split())
        raise AuditError(
            f"The settings cannot be read: {reason}.", f"Mend {FILE} or {PROJECT}."
        ) from error
    if in_project is not None:
        raise AuditError(
            f"There are settings in both {FILE} and {PROJECT} [tool.audit].", "Keep one of them."
        )
    if content is not None and not isinstance(content, dict):
        raise AuditError(
            f"{FILE} holds no keys.", "Write lines such as `rows: 400`; see docs/gate.md."
        )
    return FILE, content or {}


def _section(project: Path) -> Mapping[str, Any] | None:
    found = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {}).get("audit")
    if found is not None and not isinstance(found, dict):
        raise AuditError(f"tool.audit in {PROJECT} is not a table.", "Write it as [tool.audit].")
    return found


def _checked(values: Mapping[str, Any], origin: str, *, strict: bool = False) -> dict[str, Any]:
    """What of `values` was set, as the types of Config. strict: numbers must not be texts."""
    try:
        return Config.model_validate(values, strict=strict).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise _complaint(error, origin) from error


def _complaint(error: ValidationError, origin: str) -> AuditError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = list((Policy if place[0] == "policy" else Config).model_fields)
        return AuditError(
            f"{origin}: there is no setting {'.'.join(place)!r}.", _nearest(place[-1], known)
        )
    key = ".".join(place[: 2 if place[0] == "policy" else 1])
    message = "; ".join(
        dict.fromkeys(each["msg"][:1].lower() + each["msg"][1:] for each in error.errors())
    )
    return AuditError(
        f"{origin}: {key}: {message}.",
        keys().get(key, "The policy is a group of keys; see docs/gate.md."),
    )


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    policy = {
        key.removeprefix("policy."): value
        for key, value in values.items()
        if key.startswith("policy.")
    }
    own = {key: value for key, value in values.items() if not key.startswith("policy.")}
    return own | ({"policy": policy} if policy else {})


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if key == "policy":
            yield from ((f"policy.{name}", each) for name, each in value.items())
        else:
            yield key, value
