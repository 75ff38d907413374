"""The version, and the verbs of the command line as functions: `from auditor import scan, gate, mitigate, verify`.

Each name is imported when it is first asked for (PEP 562), so that `import auditor` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditor.config import Policy
    from auditor.defend.steps import step
    from auditor.diff import diff
    from auditor.errors import AuditError
    from auditor.gate import gate
    from auditor.lm import load
    from auditor.locate import locate
    from auditor.mitigate import mitigate
    from auditor.scan import scan
    from auditor.simulate import simulate, write_rows
    from auditor.traits import load_panels
    from auditor.verify import verify

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
    "scan",
    "simulate",
    "step",
    "verify",
    "write_rows",
]

_HOMES = {
    "AuditError": "auditor.errors",
    "Policy": "auditor.config",
    "diff": "auditor.diff",
    "gate": "auditor.gate",
    "load": "auditor.lm",
    "load_panels": "auditor.traits",
    "locate": "auditor.locate",
    "mitigate": "auditor.mitigate",
    "scan": "auditor.scan",
    "simulate": "auditor.simulate",
    "step": "auditor.defend.steps",
    "verify": "auditor.verify",
    "write_rows": "auditor.simulate",
}


class _Package(ModuleType):
    """`auditor.scan` is always the function; its module, which Python would bind to that name, stays importable."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
