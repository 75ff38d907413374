"""The version, and the verbs of the command line as functions: `from auditor import scan, gate,
mitigate, verify`.

Each name is imported when it is first asked for (PEP 562), so that `import auditor` costs next to
nothing.
"""

from __future__ import annotations

from auditor.isolation import is_command, leave_working_directory

# Before anything else is imported, since the standard library would come from there as well. A
# program that uses this package keeps its path as it is.
if is_command():
    leave_working_directory()

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditor.cli.progress import progress_bar
    from auditor.commands.diff import diff
    from auditor.commands.gate import gate
    from auditor.commands.locate import locate
    from auditor.commands.mitigate import mitigate
    from auditor.commands.scan import scan
    from auditor.commands.simulate import simulate, write_rows
    from auditor.commands.verify import verify
    from auditor.errors import AuditError
    from auditor.model.load import load
    from auditor.release.policy import Policy
    from auditor.traits.panel import load_panels
    from mitigations import step


__version__ = "0.1.0"

__all__ = [
    "AuditError",
    "Policy",
    "diff",
    "gate",
    "load",
    "load_panels",
    "locate",
    "mitigate",
    "progress_bar",
    "scan",
    "simulate",
    "step",
    "verify",
    "write_rows",
]

_HOMES = {
    "AuditError": "auditor.errors",
    "Policy": "auditor.release.policy",
    "diff": "auditor.commands.diff",
    "gate": "auditor.commands.gate",
    "load": "auditor.model.load",
    "load_panels": "auditor.traits.panel",
    "locate": "auditor.commands.locate",
    "mitigate": "auditor.commands.mitigate",
    "progress_bar": "auditor.cli.progress",
    "scan": "auditor.commands.scan",
    "simulate": "auditor.commands.simulate",
    "step": "mitigations",
    "verify": "auditor.commands.verify",
    "write_rows": "auditor.commands.simulate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
