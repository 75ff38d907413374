"""The command `audit`: its sub-commands, and the one place where an error becomes a line and an
exit code.

What is slow to import (torch, transformers, rich) is imported inside the functions that need it:
`audit --help` has to answer at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from types import FrameType
from typing import Annotated, Any

import typer

from auditor import __version__
from auditor.cli import (
    bench,
    calibrate,
    check_data,
    clean,
    config,
    demo,
    diff,
    gate,
    init,
    locate,
    mitigate,
    models,
    report,
    runs,
    scan,
    simulate,
    study,
    traits,
    verify,
)
from auditor.cli.help import Grouped
from auditor.cli.logs import NoColor, Quiet, Verbose, colors_off, configure, with_logging
from auditor.errors import AuditError

INCOMPLETE = 3
INTERRUPTED = 130
INTERRUPT = threading.Event()
# typer ends the process itself after these.
COMPLETION = {"--show-completion", "--install-completion"}
# What typer raises for a wrong command line, which has no name of its own before typer 0.28.
USAGE_ERROR: Any = typer.BadParameter.__base__

app = typer.Typer(
    cls=Grouped, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)
GROUPS: dict[str, list[Callable[..., int]]] = {
    "Audit and defend": [
        scan.scan,
        check_data.check_data,
        gate.gate,
        mitigate.mitigate,
        verify.verify,
    ],
    "What is kept here": [runs.runs, report.report, diff.diff, clean.clean, init.init],
    "Try it": [demo.demo, simulate.simulate, traits.traits, bench.bench],
    "Research": [calibrate.calibrate, locate.locate, study.study],
}
for group, verbs in GROUPS.items():
    for verb in verbs:
        app.command(rich_help_panel=group)(with_logging(verb))
app.add_typer(config.app, name="config", rich_help_panel="What is kept here")
app.add_typer(models.app, name="models", rich_help_panel="Try it")


def _version(show: bool) -> None:
    if show:
        typer.echo(f"audit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show version."),
    ] = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> None:
    """Score fine-tuning data sets for hidden-trait (subliminal) poisoning.

    Exit codes: 0 passed; 1 risk found, or the gate failed; 2 usage, configuration, input or model
    error; 3 inconclusive or not completed; 130 interrupted.
    """
    configure(verbose, quiet)
    if no_color:
        colors_off()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def run(arguments: Sequence[str]) -> int:
    """Do what the command line `arguments` says and return the exit code; every error ends here, as
    one line.
    """
    command = typer.main.get_command(app)
    try:
        # Not app(): that ends with 1, our "risk found", when it is interrupted or its reader goes
        # away.
        with command.make_context("audit", list(arguments)) as context:
            # What a command puts in force, as the limits of its readers, ends with it.
            return int(copy_context().run(command.invoke, context) or 0)
    except typer.Exit as done:
        # 1 is typer's word on a shell that it cannot complete for; ours is "risk found", and is
        # returned, not raised.
        return AuditError.exit_code if done.exit_code == 1 else done.exit_code
    except USAGE_ERROR as error:
        return _wrong_use(error)
    except AuditError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _bug(error)
        return _fail("The disk is full.", "Free some space, then run the same command.", INCOMPLETE)
    except (Exception, SystemExit) as error:
        # SystemExit: a library that ends the process would choose our exit code.
        if INTERRUPT.is_set():
            return _interrupted(arguments)
        shown = isinstance(error, SystemExit) and not error.code and {*arguments} & COMPLETION
        return 0 if shown else _bug(error)


def main() -> None:
    """Run the command line and end the process.

    What is left to be shown can fail here too, and must not end with 1.
    """
    if os.environ.get("_AUDIT_COMPLETE"):
        app(prog_name="audit")  # a shell asks what may come next; this ends the process
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _interrupt_again
    code = run(sys.argv[1:])
    _ignore_interrupts()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # None: it was closed before the start
                stream.flush()
        except OSError as error:
            # Without this Python would complain at exit and replace the exit code by 120.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            # A reader that goes away has seen enough. A full disk has swallowed what was asked for;
            # of an error the code says enough.
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                code = INCOMPLETE
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """What Python does, and a note of it: a library that is half imported may turn it into some
    other error.
    """
    INTERRUPT.set()
    signal.default_int_handler(number, frame)


def _interrupt_again(unraisable: Any) -> None:
    """An interrupt that comes while Python clears an object away is printed and forgotten; send
    it once more when that is over. As a signal, and not by a flag, since the main thread may wait
    for a file.
    """
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
        return
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    again = threading.Timer(0.1, signal.pthread_kill, (main_thread, signal.SIGINT))
    again.daemon = True
    again.start()


def _ignore_interrupts() -> None:
    """`timeout` and a terminal may send a second interrupt, and Python would print a traceback if
    it came while the process ends.
    """
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupted(arguments: Sequence[str]) -> int:
    _ignore_interrupts()
    same = "The same command without --fresh" if "--fresh" in arguments else "The same command"
    return _fail("Interrupted.", f"{same} goes on from what is finished.", INTERRUPTED)


def _wrong_use(error: Any) -> int:
    """What typer says, on one line and without the words of the library that it asks."""
    message = " ".join(error.format_message().split()).replace("Value error, ", "")
    hint = f"Run `{error.ctx.command_path} --help`." if error.ctx else "Run `audit --help`."
    if "unexpected extra argument" in message:
        hint += " Several files are one data set as a folder."
    return _fail(message, hint, AuditError.exit_code)


def _bug(error: BaseException) -> int:
    if os.environ.get("AUDIT_DEBUG") == "1":
        traceback.print_exception(error)
    hint = (
        "This is a bug in audit: run the command again with AUDIT_DEBUG=1 and report what it "
        "prints."
    )
    return _fail(f"Unexpected {type(error).__name__}: {error}", hint, INCOMPLETE)


def _fail(message: str, hint: str, code: int) -> int:
    from auditor.cli.console import commands_off
    from auditor.report.shared.words import safe

    to_stderr = partial(print, file=sys.stderr)
    # Nobody may read it, or the disk may be full: the code still says what happened.
    with contextlib.suppress(OSError), commands_off(to_stderr):
        to_stderr(f"Error: {safe(message)}\nNext: {safe(hint)}")
    return code
