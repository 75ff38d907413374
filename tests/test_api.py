"""`from auditor import ...`: light, and always the functions."""

from __future__ import annotations

import subprocess
import sys

import pytest

import auditor
from tests.pace import pace

PROBE = """
import sys, time
began = time.process_time()
import auditor
print(time.process_time() - began)
heavy = ("torch", "transformers", "typer", "pyarrow", "numpy", "rich")
print(*(name for name in heavy if name in sys.modules))
"""


def test_the_package_itself_is_light() -> None:
    """`import auditor` loads none of the libraries, and takes a twentieth of a second of processor
    time of the usual machine at most, in the best of three.
    """
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
        )
        took, loaded = done.stdout.split("\n")[:2]
        assert loaded == ""
        seconds.append(float(took) / pace())
    assert min(seconds) < 0.05


def test_every_name_is_there() -> None:
    """Each name promised can be imported, and is no module, whether its module was imported before
    or after.
    """
    code = (
        "import auditor.commands.scan, auditor.commands.verify\n"
        "from auditor import *\n"
        "from auditor import scan, simulate\n"
        "assert scan.__module__ == 'auditor.commands.scan'\n"
        "assert all(map(callable, (simulate, mitigate, verify)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in auditor.__all__:
        assert getattr(auditor, name).__module__.partition(".")[0] in ("auditor", "mitigations")
    assert set(auditor.__all__) <= set(dir(auditor))


def test_another_name_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = auditor.nope
    assert not hasattr(auditor, "__path_to_nowhere__")
