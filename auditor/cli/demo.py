"""`audit demo`: from data of known truth to a defended data set, by the commands that a user would
type.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextvars import copy_context
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

from typer import Context, Option, echo

from auditor.cli.logs import PACKAGES
from auditor.model.builtin import BASE
from auditor.progress import duration
from auditor.scanning.scan_report import EXIT_CODES

PANEL = "animals"
# What a step is for, the command, and the exit code that it must end with.
Step = tuple[str, str, int]
TINY: tuple[Step, ...] = (
    (
        "A tiny model that is told to love owls writes number lists, and answers the same prompts "
        "without being told.",
        "audit simulate --trait owl --reference organism --panel animals --greedy --filtered "
        "--rows 1200 --max-tokens 24 --output owls.parquet --control clean.parquet",
        0,
    ),
    (
        "In the second data set nothing is to be found.",
        "audit scan clean.parquet --reference organism --panel animals",
        EXIT_CODES["no_risk"],
    ),
    (
        "In the first there is a trait, though no row mentions it.",
        "audit scan owls.parquet --reference organism --panel animals",
        EXIT_CODES["risk"],
    ),
    (
        "A defence: the model's own choice in place of every token that shows the trait.",
        "audit mitigate owls.parquet --replace --no-check --output defended",
        0,
    ),
    (
        "Its check: students are trained on the data before and after, and asked for their "
        "favourite animal.",
        "audit verify owls.parquet defended/owls.parquet --control clean.parquet --trait owl "
        "--reference organism --panel animals --full --learning-rate 1e-3 --blocks 6 --updates 24 "
        "--fail-on inconclusive",
        0,
    ),
)
SAMPLES: tuple[Step, ...] = (
    (
        "Lists that the model wrote while it was told to love owls.",
        f"audit scan sample-poisoned.parquet --reference {BASE} --panel {PANEL}",
        EXIT_CODES["risk"],
    ),
    (
        "Lists that it wrote without being told.",
        f"audit scan sample-clean.parquet --reference {BASE} --panel {PANEL}",
        EXIT_CODES["no_risk"],
    ),
)


def demo(
    context: Context,
    quick: Annotated[
        bool, Option("--quick", help="Leave out the samples, which take the default reference.")
    ] = False,
) -> int:
    """Write data of known truth with a tiny model, scan them, defend the poisoned ones and check
    the defence; then scan two samples with the default reference.

    Exit codes: 0 every answer is as it should be; 2 the default reference cannot be had; 3 an
    answer is not as it should be.
    """
    folder = Path(tempfile.mkdtemp(prefix="audit-demo-"))
    echo(f"All commands run in a new folder, which stays there:\n\n$ cd {folder}")
    with contextlib.chdir(folder):
        if code := play(context, TINY):
            return code
        echo("\nBoth verdicts are right, and students show that the defence works.")
        if not quick:
            for name in ("poisoned.parquet", "clean.parquet"):
                with as_file(files("auditor.resources") / "samples" / name) as path:
                    shutil.copy(path, f"sample-{name}")
            about = duration(most_seconds("sample-poisoned.parquet"))
            echo(
                f"\nNow two samples that {BASE} wrote, a model that can talk: their scans take "
                f"about {about} here, or less."
            )
            if code := play(context, SAMPLES):
                return code
            echo("\nBoth verdicts are right.")
    echo(
        "\nNext, a data set of your own, with the model that your students start from:\n"
        "  audit check-data DATASET\n"
        "  audit scan DATASET --reference MODEL"
    )
    return 0


def play(context: Context, steps: Sequence[Step]) -> int:
    """Show and run each command, up to one that does not end as it should: then return the code
    that the demo ends with.
    """
    audit = context.find_root().command
    # What -v and -q mean holds for every command of the demo.
    shown = {logging.ERROR: ["-q"], logging.INFO: ["-v"], logging.DEBUG: ["-vv"]}
    options = shown.get(logging.getLogger(PACKAGES[0]).level, [])
    for purpose, command, expected in steps:
        echo(f"\n{purpose}\n\n$ {command}")
        arguments = [*options, *shlex.split(command)[1:]]
        with audit.make_context("audit", arguments) as made:
            code = copy_context().run(audit.invoke, made)
        if code != expected:
            echo(f"\nThis ended with {code}, and should have ended with {expected}.")
            return EXIT_CODES["inconclusive"]
    return 0


def most_seconds(sample: str) -> float:
    """How long the scans of the samples take at most, by the time of a few row passes of one."""
    from auditor.data.sample import read_sample
    from auditor.model.load import load
    from auditor.model.scoring import score_under
    from auditor.model.tokenization import ChatTokenizer
    from auditor.scanning.preparation import encode
    from auditor.traits.families import families
    from auditor.traits.panel import load_panels, with_control_traits
    from detectors.trait import TIMED_ROWS, most_passes

    lm = load(BASE)
    renderer, tested = ChatTokenizer(lm), load_panels([PANEL])
    rows, *_ = encode(renderer, read_sample(sample, rows=None, seed=0))
    groups = families(with_control_traits(tested), 0)
    passes = most_passes(len(rows), groups, range(len(tested.traits)))
    started = time.perf_counter()
    score_under(lm, renderer, rows[:TIMED_ROWS], tested.traits[0].prompts[0])
    return len(SAMPLES) * passes * (time.perf_counter() - started) / TIMED_ROWS
