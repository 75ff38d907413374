"""The one exception tree. Every error says what is wrong and carries the next step to take."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class AuditError(Exception):
    """What the user can mend: `message` says what is wrong, `hint` what to do next. Exit code 2."""

    exit_code = 2

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with one argument where another process sends the error.
        return _restored, (type(self), self.args, dict(self.__dict__))


def _restored(
    kind: type[AuditError], arguments: tuple[Any, ...], fields: dict[str, Any]
) -> AuditError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


class InputError(AuditError):
    """A data set that cannot be read as rows of training text."""


class ModelError(AuditError):
    """A reference model or tokenizer that cannot be had or cannot be used."""


class TraitError(AuditError):
    """A trait panel that cannot be read, or a trait that no panel lists."""


class RunError(AuditError):
    """A run directory that cannot be written, resumed or replayed.

    Exit code 3: the audit was not completed.
    """

    exit_code = 3


class PluginError(AuditError):
    """A detector or mitigation of another package that cannot be imported (exit code 2) or fails
    (3).
    """

    def __init__(self, message: str, hint: str, *, exit_code: int = 2) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


def first_line(error: Exception) -> str:
    """What a library's error says in its first line; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def missing_package(package: str, *, extra: str, purpose: str) -> AuditError:
    """The error for `purpose`, a noun phrase such as "A JUnit report", that needs the Python
    package `package`, which only `extra` installs.
    """
    message = f"{purpose} needs the Python package {package}, which is not installed."
    return AuditError(message, f"Install it: pip install 'subliminal-audit[{extra}]'")


def import_optional(package: str, *, extra: str, purpose: str) -> ModuleType:
    """The module of a package that only an extra installs.

    Raises: the AuditError of `missing_package` where it is not installed. The error of a package
    that is installed and cannot be imported stays as it is, since installing would not mend it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise missing_package(package, extra=extra, purpose=purpose) from error
