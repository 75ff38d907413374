"""Whether `audit` fits beside a trainer: the table of docs/choosing.md, by `make beside`.

Every trainer is resolved alone first, which gives its current release; then that very release is
resolved together with the requirements of pyproject.toml, for Python 3.12 on Linux. Only metadata
is read, and nothing is installed. Ends with 1 if a pair does not resolve, and says why.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

TRAINERS = ("trl", "axolotl", "vllm", "unsloth", "llamafactory", "ms-swift")
SHOWN = ("torch", "transformers", "datasets", "typer")
UV = (
    *("-m", "uv", "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate"),
    *("--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28"),
)


class NoSolutionError(Exception):
    """Requirements that no versions fulfil; the text is uv's reason."""


def resolve(requirements: list[str]) -> dict[str, str]:
    """The version of every package that fulfils the requirements together."""
    done = subprocess.run(
        [sys.executable, *UV], input="\n".join(requirements), capture_output=True, text=True
    )
    if done.returncode:
        words = " ".join(done.stderr.split())
        raise NoSolutionError(words[max(words.find("Because"), 0) :])
    lines = [line.partition(";")[0].strip() for line in done.stdout.splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)


def table(trainers: tuple[str, ...], ours: list[str]) -> tuple[str, list[str]]:
    """The table, and a line for every pair that does not resolve."""
    lines = [f"| trainer | {' | '.join(SHOWN)} |", f"|---|{'---|' * len(SHOWN)}"]
    reasons = []
    for trainer in trainers:
        release = f"{trainer}=={resolve([trainer])[trainer]}"
        try:
            versions = resolve([release, *ours])
        except NoSolutionError as error:
            reasons.append(f"{release}: {error}")
            versions = {}
        cells = (versions.get(name, "-") for name in SHOWN)
        lines.append(f"| {release.replace('==', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines), reasons


def main() -> int:
    """Print the table and the reasons."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    ours = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    made, reasons = table(TRAINERS, ours)
    print(made)
    for reason in reasons:
        print(f"\n{reason}", file=sys.stderr)
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
