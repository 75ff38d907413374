"""Detectors and mitigations of other packages, found by their entry points. Nothing is imported
before it is asked for.

A package offers them in its pyproject.toml, under the names that users give on the command line:

    [project.entry-points."subliminal_audit.detectors"]
    repeats = "my_package:repeats"

What such a function takes and gives is in docs/plugins.md, and `auditor.testing` checks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoints, entry_points
from typing import Any, Literal

from auditor.errors import PluginError

Kind = Literal["detector", "mitigation"]


@dataclass(frozen=True, slots=True)
class Plugin:
    """A function of another package. package, version: the distribution it comes with."""

    kind: Kind
    name: str
    package: str
    version: str
    function: Callable[..., Any]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function. Raises PluginError, exit code 3, in place of whatever it raises."""
        try:
            return self.function(*arguments, **named)
        except Exception as error:
            raise self.failed(f"{type(error).__name__}: {error}") from error

    def failed(self, why: str) -> PluginError:
        """The error that says that the function did not do its work."""
        message = f"The {self.kind} {self.name!r} of {self.package} {self.version} failed: {why}"
        return PluginError(
            message, f"Leave it out, or tell the authors of {self.package}.", exit_code=3
        )


def names(kind: Kind) -> list[str]:
    """What the installed packages offer, in alphabetical order."""
    return sorted(_entry_points(kind).names)


def load(kind: Kind, name: str) -> Plugin:
    """Import one.

    Raises PluginError, exit code 2, when there is none, more than one, or it cannot be imported.
    """
    points = list(_entry_points(kind).select(name=name))
    if not points:
        raise PluginError(
            f"There is no {kind} {name!r}.",
            "Install the package that offers it, or correct the name.",
        )
    owners = [
        (point.dist.name, point.dist.version) if point.dist else ("an unnamed package", "?")
        for point in points
    ]
    if len(points) > 1:
        listed = " and ".join(package for package, _ in owners)
        raise PluginError(f"{listed} both offer a {kind} {name!r}.", "Uninstall one of them.")
    package, version = owners[0]
    try:
        function = points[0].load()
    except (Exception, SystemExit) as error:
        message = (
            f"The {kind} {name!r} of {package} {version} cannot be imported: "
            f"{type(error).__name__}: {error}"
        )
        raise PluginError(message, f"Mend or uninstall {package}, or leave {name} out.") from error
    if not callable(function):
        raise PluginError(
            f"The {kind} {name!r} of {package} {version} is no function.", "See docs/plugins.md."
        )
    return Plugin(kind, name, package, version, function)


def _entry_points(kind: Kind) -> EntryPoints:
    return entry_points(group=f"subliminal_audit.{kind}s")
