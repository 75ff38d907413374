"""The list has every attack and what becomes of it, and the threat model their number."""

from __future__ import annotations

from tests.attacks.table import LIST, PAGE, page_of_attacks, page_with_table


def test_list_and_table_are_current() -> None:
    """When this fails, run `python -m tests.attacks.table`."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_table(page)
    assert LIST.read_text(encoding="utf-8") == page_of_attacks()
