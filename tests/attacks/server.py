"""Run command lines of `audit` in forks of a process that has torch loaded.

Starting Python with torch takes seconds, and a fork none. The server only imports modules: nothing
of ours runs in it, so every fork is as a new process.

It reads requests from standard input, a JSON object a line, and answers each with one:
arguments, folder, environment, wall and cpu (seconds), memory (bytes more than the server has);
code (None: out of time), seconds of processor time, bytes of memory at most.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import auditor
import detectors
import mitigations

ROOT = Path(__file__).parents[2]


def child(request: dict[str, Any]) -> None:
    """Become the command; never returns."""
    os.setsid()
    folder = Path(request["folder"])
    os.chdir(folder)
    for number, name in ((1, request["stdout"]), (2, request["stderr"])):
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["cpu"]:
        resource.setrlimit(resource.RLIMIT_CPU, (request["cpu"], request["cpu"] + 1))
    if request["memory"]:
        most = size() + request["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    code: object = 3
    try:
        from auditor.__main__ import main

        sys.argv = ["audit", *request["arguments"]]
        main()
        code = 0
    except SystemExit as done:
        code = done.code
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code if isinstance(code, int) else 1 if code else 0)


def size() -> int:
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def run(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        child(request)
    code, used = None, None
    while used is None and time.monotonic() - started < request["wall"]:
        done, status, usage = os.wait4(process, os.WNOHANG)
        if done:
            code, used = os.waitstatus_to_exitcode(status), usage
        else:
            time.sleep(0.01)
    if used is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        used = os.wait4(process, 0)[2]
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        code = None
    return {
        "code": code,
        "seconds": used.ru_utime + used.ru_stime,
        "memory": used.ru_maxrss * 1024,
    }


def import_all() -> None:
    """Import all of our modules, and what is imported only when the reference is loaded."""
    for package in (auditor, detectors, mitigations):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    importlib.import_module("transformers.models.llama.modeling_llama")


def serve() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints gets among the answers
    import_all()
    import torch

    torch.set_num_threads(1)
    for line in iter(sys.stdin.readline, ""):
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    serve()
