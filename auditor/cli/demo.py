"""`audit demo`: scan the two samples that come with the package."""

from __future__ import annotations

from importlib.resources import as_file, files

import typer

from auditor.cli.scan import scan
from auditor.model.builtin import BASE
from auditor.scanning.scan_report import EXIT_CODES

# The verdict that each sample must get.
SAMPLES = {"poisoned.parquet": EXIT_CODES["risk"], "clean.parquet": EXIT_CODES["no_risk"]}


def demo() -> int:
    """Scan a poisoned and a clean sample with the animal panel and print both verdicts.

    Exit codes: 0 the poisoned one is found and the clean one is not; 3 otherwise.
    """
    right = True
    for name, expected in SAMPLES.items():
        typer.echo(f"\n$ audit scan {name} --panel animals")
        with as_file(files("auditor.resources") / "samples" / name) as path:
            # Every setting is named: those of the directory are for its own data.
            done = scan(str(path), BASE, "own", ["animals"], rows="auto", seed=0, alpha=0.01)
            right &= done == expected
    typer.echo(
        "\nBoth verdicts are as they should be."
        if right
        else "\nA verdict is not what it should be."
    )
    return 0 if right else EXIT_CODES["inconclusive"]
