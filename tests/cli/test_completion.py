"""Shell completion: what a shell is told, that the script for it is valid, and that nothing heavy
is loaded for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

CODE = "from auditor.cli.main import main; main()"


def audit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process with some environment variables set."""
    set_too: Mapping[str, str] = os.environ | environment
    command = [sys.executable, "-X", "importtime", "-c", CODE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=set_too)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("audit sc", "scan"),
        ("audit scan --ref", "--reference"),
        ("audit simulate --carrier co", "code"),
    ],
)
def test_a_shell_is_told_what_may_come_next(typed: str, offered: str) -> None:
    """Commands, options and choices are completed, as bash asks for them, without torch or
    transformers.
    """
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = audit(_AUDIT_COMPLETE="complete_bash", **words)
    assert (done.returncode, done.stdout.split()) == (0, [offered])
    assert "auditor.cli.main" in done.stderr
    assert "torch" not in done.stderr and "transformers" not in done.stderr


def test_the_script_for_bash_is_bash() -> None:
    """`--show-completion bash` prints a script that bash can read and that names our command."""
    shown = audit("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert shown.returncode == 0
    assert "_AUDIT_COMPLETE=complete_bash" in shown.stdout
    assert shown.stdout.rstrip().endswith("audit")
    subprocess.run(["bash", "-n"], input=shown.stdout, text=True, check=True)


def test_an_unknown_shell_is_a_usage_error() -> None:
    """And not the exit code that means "risk found"."""
    code = f"import shellingham; shellingham.detect_shell = lambda: ('tcsh', 'tcsh'); {CODE}"
    done = subprocess.run(
        [sys.executable, "-c", code, "--show-completion"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "tcsh" in done.stderr
