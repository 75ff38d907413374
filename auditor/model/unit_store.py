"""Where finished units of work are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Unit = dict[str, npt.NDArray[Any]]


class UnitStore(Protocol):
    """Where finished blocks are kept (`auditor.runs.run_directory.RunDir`)."""

    def save_unit(self, name: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None: ...
    def load_unit(self, name: str) -> Unit | None: ...
