"""Other limits of what is read, for a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from auditor.data.limits import IN_FORCE, Limits


@contextmanager
def limited(**values: int) -> Iterator[None]:
    """Put limits in force, the others at their defaults."""
    token = IN_FORCE.set(Limits(**values))
    try:
        yield
    finally:
        IN_FORCE.reset(token)
