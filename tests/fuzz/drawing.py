"""Cases that hypothesis draws: how many, and from which seed.

`FUZZ_CASES` is about how many cases the suite is to run, 1,100 unless it is set; `FUZZ_SEED` begins
another series.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from zlib import crc32

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

_DEFAULT = 1100
CASES = int(os.environ.get("FUZZ_CASES") or _DEFAULT)
SEED = int(os.environ.get("FUZZ_SEED") or 0)


def drawn(examples: int, **strategies: SearchStrategy[Any]) -> Callable[..., Any]:
    """Run a test with so many draws of `strategies`, more or fewer as `FUZZ_CASES` says."""

    def decorate(function: Callable[..., None]) -> Any:
        count = max(1, round(0.7 * examples * CASES / _DEFAULT))
        # Nothing is shrunk: a case takes a tenth of a second, and the draws are small.
        once = settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        first = crc32(f"{SEED} {function.__name__}".encode())
        return seed(first)(once(given(**strategies)(function)))

    return decorate
