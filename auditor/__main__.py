"""The process `audit`, also as `python -m auditor`."""

from __future__ import annotations

import sys

from auditor.isolation import leave_working_directory


def main() -> None:
    """Entry point of the console script.

    A package that is missing or broken ends with 3: Python's own 1 means risk.
    """
    leave_working_directory()
    try:
        from auditor.cli.main import main as run
    except Exception as error:
        print(f"Error: audit cannot start: {type(error).__name__}: {error}", file=sys.stderr)
        print("Next: Install it again: pip install subliminal-audit", file=sys.stderr)
        sys.exit(3)
    run()


if __name__ == "__main__":
    main()
