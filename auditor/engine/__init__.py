"""Where work on many items is done: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

from auditor.engine.interface import Engine, EngineName
from auditor.engine.local import LocalEngine
from auditor.progress import Show


def engine_named(name: EngineName, ray_address: str, show: Show) -> Engine:
    """The engine of this name. ray_address, show: see `RayEngine`."""
    if name == "local":
        return LocalEngine()
    from auditor.engine.cluster import RayEngine

    return RayEngine(ray_address, show)
