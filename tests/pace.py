"""How fast this machine is now, so that a bound on seconds means the same work on every machine."""

from __future__ import annotations

import json
import time

USUAL = 0.016
"""Seconds that `_work` takes at the usual pace. A guess and no measurement: two cores with AMX,
which took 0.025 s for it and 0.64 s for `audit --help`, were taken to be 1.6 times as slow as that.
"""


def _work() -> None:
    text = json.dumps(
        [{"prompt": f"{number}", "completion": [number] * 8} for number in range(3000)]
    )
    for row in json.loads(text):
        row["completion"] = " ".join(str(number) for number in row["completion"])


def pace() -> float:
    """How many times as long as usual a fixed piece of work takes now, in processor time: the
    median of three tries, and 1 at least. Machines differ by a factor of two, and so does one
    machine from minute to minute, with what its other tenants do.
    """
    seconds = []
    for _ in range(3):
        began = time.process_time()
        _work()
        seconds.append(time.process_time() - began)
    return max(1.0, sorted(seconds)[1] / USUAL)
