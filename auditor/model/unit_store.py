"""Where finished units of work are kept, so that a killed run goes on from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Unit = dict[str, npt.NDArray[Any]]


class UnitStore(Protocol):
    """Where units are kept: a run (`auditor.runs.run_directory.RunDir`), or a section of it."""

    def save_unit(self, name: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None: ...
    def load_unit(self, name: str) -> Unit | None: ...


def load_or_compute(store: UnitStore | None, name: str, compute: Callable[[], Unit]) -> Unit:
    """The unit that `store` keeps under `name`; else that of `compute`, which is kept from then on.

    Without a store nothing is kept.
    """
    unit = store.load_unit(name) if store else None
    if unit is None:
        unit = compute()
        if store:
            store.save_unit(name, unit)
    return unit
