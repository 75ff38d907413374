"""What the options of every command do: `-v`, `-vv`, `-q` and `--no-color`. The one place where
logging is configured.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

from typer import Option

PACKAGES = ("auditor", "detectors", "mitigations")

Verbose = Annotated[
    int,
    Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Say what is done; -vv: with every detail.",
    ),
]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Show the result and errors only.")]
NoColor = Annotated[bool, Option("--no-color", help="No colours; as NO_COLOR=1.")]


class _StandardError(logging.StreamHandler[Any]):
    """Writes to the standard error of the moment, which a live progress line may have replaced."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class _OneLine(logging.Formatter):
    """One line a record: text from a data set or a model must not act on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        from auditor.report.shared.words import safe

        return safe(f"{record.levelname} {record.name}: {record.getMessage()}")


def configure(verbose: int, quiet: bool) -> None:
    """Show the records of our packages on standard error: with `verbose` 1 those of level INFO and
    above, from 2 on DEBUG; with `quiet` only ERROR, and no progress. The root logger, which
    belongs to libraries, stays as it is.

    transformers, which is not imported yet, is told to be silent: what it recommends for speed is
    for who writes programs with it.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    if quiet:
        level = logging.ERROR
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        # A second call, for the options behind the command's name, must not double every line.
        if not logger.handlers:
            handler = _StandardError()
            handler.setFormatter(_OneLine())
            logger.addHandler(handler)
            logger.propagate = False


def colors_off() -> None:
    """Have every console that is opened from now on, of worker processes too, use no colours."""
    os.environ["NO_COLOR"] = "1"


def is_quiet() -> bool:
    """Whether `-q` was given, before or after the command."""
    return not logging.getLogger(PACKAGES[0]).isEnabledFor(logging.WARNING)


def with_logging(command: Callable[..., int]) -> Callable[..., int]:
    """The same command with the options -v, -q and --no-color; without them what stands before it
    holds.
    """

    @functools.wraps(command)
    def logged(
        *values: object,
        verbose: int = 0,
        quiet: bool = False,
        no_color: bool = False,
        **named: object,
    ) -> int:
        if no_color:
            colors_off()
        if verbose or quiet:
            configure(verbose, quiet)
        return command(*values, **named)

    keyword = functools.partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    parameters = [
        *inspect.signature(command, eval_str=True).parameters.values(),
        keyword("verbose", default=0, annotation=Verbose),
        keyword("quiet", default=False, annotation=Quiet),
        keyword("no_color", default=False, annotation=NoColor),
    ]
    # Typer reads the options of a command from its signature.
    setattr(logged, "__signature__", inspect.Signature(parameters))  # noqa: B010
    return logged
