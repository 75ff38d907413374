"""Settings that a team fixes for a repository, and its policy for releases: where they come from
and what they may be.

They are read from `audit.yaml`, or from `[tool.audit]` of `pyproject.toml`, in the working
directory and in no folder above it: a gate must not be opened by a file that somebody else put into
a shared folder such as /tmp. A file that a person would take for the settings and that is not read
is an error where it lies here, and is told where it lies above. The environment (`AUDIT_ROWS`,
`AUDIT_POLICY_MAX_SKIPPED`, ...) goes before the file and the command line before both.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from auditor.cli.parsing import BUDGET, parse_budget
from auditor.data.formats import Side
from auditor.data.limits import DEFAULTS as LIMITS
from auditor.engine.interface import EngineName
from auditor.errors import AuditError
from auditor.release.policy import Policy, Text, Texts, _Keys
from auditor.scanning.settings import ScanSettings
from auditor.yaml_text import read_yaml
from detectors.interface import Hazard

DEFAULTS = ScanSettings()
FILE = "audit.yaml"
PROJECT = "pyproject.toml"
DEFAULT = "default"
COMMAND_LINE = "command line"
PREFIX = "AUDIT_"
NOT_SETTINGS = {"AUDIT_DEBUG"}
# In place of what pydantic says, by the type of its error.
_REASONS = {
    "dict_type": "should be names with numbers, as {owl: 0.1}",
    "model_type": "should be a group of keys",
}
# Settings of earlier releases, which no other name is near to.
RENAMED = {
    "max_risk": "max_probability",
    "AUDIT_POLICY_MAX_RISK": "AUDIT_POLICY_MAX_PROBABILITY",
}
# What a person would take for the settings; compared without regard to upper and lower case.
LOOKALIKES = {FILE, "audit.yml", "audit.toml", ".audit.yaml", ".audit.yml", ".audit.toml"}
TABLE_LOOKALIKES = {"audit", "subliminal-audit", "subliminal_audit"}


Bytes = Annotated[int, Field(ge=1 << 10, lt=2**63)]


class LimitSettings(_Keys):
    """How large what is read may be."""

    row_bytes: Bytes = LIMITS.row_bytes
    """Bytes of one row, line or value of a data file."""

    expansion: Annotated[int, Field(ge=1, lt=2**31)] = LIMITS.expansion
    """How many bytes a compressed byte may become."""

    expanded_bytes: Bytes = LIMITS.expanded_bytes
    """Bytes up to which `expansion` does not matter."""

    batch_bytes: Bytes = LIMITS.batch_bytes
    """Bytes of memory that rows of a Parquet file may take at a time."""

    nesting: Annotated[int, Field(ge=8, le=64)] = LIMITS.nesting
    """Lists and groups within each other in a Parquet column; a deeper one is not read."""


class Config(_Keys):
    """Settings of a scan, limits of what is read, and the policy."""

    reference: Text = DEFAULTS.reference
    """Base model of the students: built-in, hub name or folder."""

    chat_template: Text | None = None
    """Chat template in place of the reference's own: chatml, llama3, gemma, mistral, alpaca,
    zephyr, a Jinja file, or none for text without one."""

    system: Text | None = None
    """System turn of rows that have none, as in training; `none`: an empty one where the template
    has its own."""

    panels: Texts = Field(default_factory=lambda: list(DEFAULTS.panels))
    """Trait panels: built-in names or YAML files."""

    rows: Annotated[int, Field(gt=0, lt=2**63)] | Literal["all", "auto"] = DEFAULTS.rows
    """Rows to score at most, `all`, or `auto`: what `budget` allows."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = DEFAULTS.seed or 0
    """Seed of every random choice; a gate draws one of its own where none is set."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = DEFAULTS.alpha
    """Highest rate of false alarms."""

    exclude: Annotated[float, Field(gt=0, le=1)] = DEFAULTS.exclude
    """Share of the rows that a pass excludes for every trait."""

    budget: Annotated[str, Field(pattern=BUDGET)] = f"{DEFAULTS.budget / 60:g}m"
    """Time that scoring traits may take, as 90s, 15m or 2h."""

    like: Texts = Field(default_factory=list)
    """Earlier data sets of the same writer that are known to be clean: doses are compared with
    theirs."""

    hazard: Hazard = DEFAULTS.hazard
    """When students are trained on the data: `never`, `when_unresolved` (the other tests leave the
    verdict open) or `required`."""

    dtype: Literal["float32", "bfloat16"] | None = None
    """Number type of the reference; by device, when it is not set."""

    side: Side | None = None
    """Answers of a preference set to read: `chosen`, which is the default, `rejected` or `both`."""

    engine: EngineName = "local"
    """Where `audit mitigate` and `verify` do their work: `local`, this process, or `ray`, a
    cluster."""

    ray_address: Text = "auto"
    """Address of the Ray cluster; `auto` is the one that runs here, else one is started."""

    limits: LimitSettings = LimitSettings()

    policy: Policy = Policy()


GROUPS: dict[str, type[_Keys]] = {"limits": LimitSettings, "policy": Policy}
"""Keys of the configuration that hold keys of their own."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The configuration, and where each key that is not at its default comes from (a file, a
    variable, the command).

    passed_over: the nearest file with settings in a folder above, up to the root of the repository,
    where there are none in the working directory; None if there is none.
    """

    config: Config
    origins: dict[str, str]
    passed_over: Path | None = None

    def scan_settings(self) -> ScanSettings:
        """A scan with these settings, and without those that only an option can give."""
        config = self.config
        return ScanSettings(
            reference=config.reference,
            chat_template=config.chat_template,
            system=config.system,
            panels=config.panels,
            rows=config.rows,
            seed=config.seed,
            alpha=config.alpha,
            exclude=config.exclude,
            budget=parse_budget(config.budget) or DEFAULTS.budget,
            like=config.like,
            hazard=config.hazard,
            dtype=config.dtype,
            side=config.side,
            origins={k: v for k, v in self.origins.items() if not k.startswith("policy.")},
        )


def keys() -> dict[str, str]:
    """Every key, as `policy.max_dose`, with its meaning."""
    fields = {name: field for name, field in Config.model_fields.items() if name not in GROUPS}
    for group, model in GROUPS.items():
        fields |= {f"{group}.{name}": field for name, field in model.model_fields.items()}
    return {key: field.description or "" for key, field in fields.items()}


def variable(key: str) -> str:
    """The environment variable of a key."""
    return PREFIX + key.upper().replace(".", "_")


def resolve(
    root: Path, environ: Mapping[str, str], options: Mapping[str, object] | None = None
) -> Resolved:
    """The configuration in `root`: `options` of the command line (by key; None is not given) go
    before `environ`, that before the file, and that before the defaults.

    An empty variable counts as not set. Raises AuditError, naming the key and where it stands, for
    a key that does not exist (with the nearest one that does), a value that is not allowed, a key
    that stands twice, a file that cannot be read or has another name, and two files.
    """
    name, content = settings_file(root)
    passed_over = None if content is not None else _settings_above(root)
    # Numbers in a file must not be texts; those of variables and options always are.
    layers = [(name, _valid(content or {}, name, strict=True))]
    key_of = {variable(key): key for key in keys()}
    for name, text in environ.items():
        if not text or not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        if name not in key_of:
            message = f"There is no setting for the variable {name}."
            raise AuditError(message, f"{nearest(name, list(key_of))} Or unset it.")
        layers.append((name, _valid(_nested({key_of[name]: text}), name)))
    named = {key: value for key, value in (options or {}).items() if value is not None}
    layers.append((COMMAND_LINE, _valid(_nested(named), COMMAND_LINE)))

    merged: dict[str, object] = {}
    origins: dict[str, str] = {}
    for origin, settings in layers:
        values = settings.model_dump(exclude_unset=True)
        for group in GROUPS:
            members = values.pop(group, {})
            values |= {f"{group}.{name}": value for name, value in members.items()}
        for key, value in values.items():
            merged[key], origins[key] = value, origin
    return Resolved(Config.model_validate(_nested(merged)), origins, passed_over)


def settings_file(root: Path) -> tuple[str, Mapping[str, object] | None]:
    """Name and content of the file with settings; without one, the name of the first and None."""
    settings, project = root / FILE, root / PROJECT
    # Not `exists`, which a link that leads nowhere does not: a policy must not be lost in silence.
    has_settings = os.path.lexists(settings)
    tables: dict[str, object] = {}
    content: object = None
    _refuse_lookalikes(root)
    try:
        if os.path.lexists(project):
            tables = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {})
        if has_settings:
            content = read_yaml(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        deep = isinstance(error, RecursionError)
        reason = "it is nested too deeply" if deep else " ".join(str(error).split())
        message = f"The settings cannot be read: {reason}."
        raise AuditError(message, f"Mend {FILE} or {PROJECT}.") from error
    if not isinstance(tables, dict):
        raise AuditError(f"tool in {PROJECT} is not a table.", "Write tables such as [tool.audit].")
    other = [name for name in tables if name != "audit" and name.lower() in TABLE_LOOKALIKES]
    if other:
        raise AuditError(f"{PROJECT}: [tool.{other[0]}] is not read.", "Write it as [tool.audit].")
    section = tables.get("audit")
    if section is not None and not isinstance(section, dict):
        raise AuditError(f"tool.audit in {PROJECT} is not a table.", "Write it as [tool.audit].")
    if section is not None and has_settings:
        message = f"There are settings in both {FILE} and {PROJECT} [tool.audit]."
        raise AuditError(message, "Keep one of them.")
    if section is not None:
        return f"{PROJECT} [tool.audit]", section
    if content is not None and not isinstance(content, dict):
        hint = "Write lines such as `rows: 400`; see docs/gate.md."
        raise AuditError(f"{FILE} holds no keys.", hint)
    return FILE, content or {} if has_settings else None


def _refuse_lookalikes(root: Path) -> None:
    """Raise AuditError for a file of `root` that a person would take for the settings."""
    names: list[str] = []
    with contextlib.suppress(OSError):  # a folder that may not be listed can be worked in
        names = sorted(path.name for path in root.iterdir())
    for name in names:
        if name != FILE and name.lower() in LOOKALIKES:
            message = f"{name} is not read: settings stand in {FILE} or {PROJECT} [tool.audit]."
            raise AuditError(message, f"Rename it to {FILE}, or move it away.")


def _settings_above(root: Path) -> Path | None:
    """The nearest file with settings in a folder above `root`, up to the root of the repository."""
    folder = root.resolve()
    while not os.path.lexists(folder / ".git") and folder != folder.parent:
        folder = folder.parent
        if os.path.lexists(folder / FILE):
            return folder / FILE
        # A project's file that cannot be read, or is none, has no settings of ours to miss.
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
            project = (folder / PROJECT).read_text(encoding="utf-8")
            if "audit" in tomllib.loads(project).get("tool", {}):
                return folder / PROJECT
    return None


def _valid(values: Mapping[str, object], origin: str, *, strict: bool = False) -> Config:
    """The settings in `values`. strict: numbers must not be texts.

    Raises AuditError, with the key, the first thing that is wrong with it and where it stands.
    """
    try:
        return Config.model_validate(values, strict=strict)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(name) for name in first["loc"]]
        if first["type"] == "extra_forbidden":
            fields = list(GROUPS.get(path[0], Config).model_fields)
            message = f"{origin}: there is no setting {'.'.join(path)!r}."
            raise AuditError(message, nearest(path[-1], fields)) from error
        key = ".".join(path[: 2 if path[0] in GROUPS else 1])
        reasons = [_REASONS.get(detail["type"], detail["msg"]) for detail in error.errors()]
        lowered = [reason[:1].lower() + reason[1:] for reason in dict.fromkeys(reasons)]
        message = f"{origin}: {key}: {'; '.join(lowered)}."
        meaning = " ".join(keys().get(key, "").split())
        hint = f"Change it. {key} is: {meaning}" if meaning else "Its keys stand in docs/gate.md."
        raise AuditError(message, hint) from error


def nearest(name: str, names: Sequence[str]) -> str:
    """What to do about a name that is none of `names`."""
    if name in RENAMED:
        return f"{RENAMED[name]}, a probability, takes its place; see docs/gate.md."
    match = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {match[0]}?" if match else f"Known: {', '.join(names)}."


def _nested(values: Mapping[str, object]) -> dict[str, object]:
    """Values by key, those of a group in a mapping of their own, as the file has them."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        group, _, name = key.rpartition(".")
        if group:
            nested.setdefault(group, {})[name] = value
        else:
            nested[key] = value
    return nested
