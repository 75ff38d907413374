"""The table of attacks in docs/security.md: `python -m tests.attacks.table` writes it anew."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.registry import CLASSES, RIGHT, attacks

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"


def table() -> str:
    """One row an attack, as tests/attacks has them."""
    lines = ["| finding | class | severity | the attacker | outcome | test |"]
    lines.append("|---|---|---|---|---|---|")
    for one in attacks():
        does, name = (text.replace("|", "\\|") for text in (one.does, one.name))
        number = str(one.number or "-")
        cells = (number, one.kind, one.severity, does, RIGHT[one.right], f"`{name}`")
        lines.append(f"| {' | '.join(cells)} |")
    classes = [f"- **{letter}**: {words}." for letter, words in CLASSES.items()]
    return "\n".join([*classes, "", *lines])


def page_with_table(page: str) -> str:
    """The page with the table between its two marks replaced by the present one."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
