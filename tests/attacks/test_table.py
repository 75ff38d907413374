"""The page of the threat model names every attack and what becomes of it."""

from __future__ import annotations

from tests.attacks.table import PAGE, page_with_table


def test_the_table_is_current() -> None:
    """When this fails, run `python -m tests.attacks.table`."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_table(page)
