"""No module comes from the working directory, where data that somebody else wrote may lie.

Only what is loaded before any code of ours runs is imported here: every other import could be of
a file beside the data.
"""

from __future__ import annotations

import os
import sys


def is_command() -> bool:
    """Whether this process is `audit` or `python -m auditor`, and no program that imports us."""
    first = sys.argv[0] if sys.argv else ""
    name = os.path.splitext(os.path.basename(first))[0]  # noqa: PTH119, PTH122 (as below)
    # While Python looks for the module of `-m`, that stands in place of the program's name.
    return name == "audit" or (first == "-m" and "auditor" in sys.orig_argv)


def leave_working_directory() -> None:
    """Take the working directory off the paths that this process, and those that it starts, import
    from.

    Python puts it there for `python -m`, `python -c` and an empty entry of PYTHONPATH. A `json.py`
    in it would be run as the standard library's, and a folder `x.dist-info` would offer plug-ins.
    It stays where it is the folder that this package was loaded from, as in a checkout of it: its
    code runs already.
    """
    try:
        working = os.path.realpath(os.getcwd())  # noqa: PTH109 (pathlib may be a file beside the data)
    except OSError:
        return  # it was removed, so nothing can be imported from it
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 (as above)
    if working != home:
        sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != working]
        if variable := os.environ.get("PYTHONPATH"):
            entries = variable.split(os.pathsep)
            entries = [entry for entry in entries if os.path.realpath(entry) != working]
            os.environ["PYTHONPATH"] = os.pathsep.join(entries)
    # Python adds the working directory to the path of a child that runs `-c` or `-m`, as the
    # worker processes of multiprocessing do, unless this variable is set.
    os.environ["PYTHONSAFEPATH"] = "1"
